"""ONNX's own node tests: the core ones pass, and no other with integers fails."""

from __future__ import annotations

import pytest

from tests.graph.backend import CORE, Outcome, classify, core_cases, integer_cases, table

# What depends on numbers that only a run knows: scales made from the data itself.
DYNAMIC = {name for name in CORE if "dynamic" in name}


@pytest.fixture(scope="module")
def core() -> dict[str, Outcome]:
    return {case.name: classify(case) for case in core_cases()}


def test_the_suite_has_all_core_cases(core):
    assert len(CORE) == 25
    assert core.keys() == CORE


@pytest.mark.parametrize("name", sorted(CORE))
def test_core_case(core, name):
    assert core[name].kind == ("cpu" if name in DYNAMIC else "integer"), core[name].reason


def test_outcomes_are_a_table(core):
    lines = table(list(core.values())).splitlines()
    assert lines[0] == "cpu: 6, integer: 19"
    assert "| test_qlinearconv | integer |  |" in lines
    assert len(lines) == 4 + len(CORE)


@pytest.mark.slow
def test_no_case_with_integers_fails():
    outcomes = [classify(case) for case in integer_cases()]
    assert [outcome for outcome in outcomes if outcome.kind == "fail"] == []
    assert all(outcome.reason for outcome in outcomes if outcome.kind != "integer")
    assert len(outcomes) > 250
    assert sum(outcome.kind == "integer" for outcome in outcomes) >= 23
