"""The machine under test, twice: what the tests of this folder that count cycles run their assembly on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from isa.assembler import assemble
from npusim.config import load
from tests.sim.engine_times import engine_times
from tests.sim.reference_model import reference_times

Spans = dict[str, list[tuple[int, int]]]
Run = Callable[..., Spans]


@pytest.fixture(params=[engine_times, reference_times], ids=["engine", "reference"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs assembly on a variant of ``small``: (start, retire) of each unit's instructions, the final ``end`` left out.

    Arguments are one text, or several pairs of text and physical cores; keywords change hardware values. Units of
    physical core 0 are named ``sdma``, those of others ``core1.sdma``.
    """

    def run(*sources: Any, changes: dict[str, Any] | None = None) -> Spans:
        hardware = load("small").with_values(changes or {})
        programs = [source if isinstance(source, tuple) else (source, None) for source in sources]
        jobs = []
        for text, cores in programs:
            program = assemble(text)
            jobs.append((program, cores or tuple(range(program.cores))))
        spans: Spans = {}
        for (core, unit, _), span in sorted(request.param(hardware, jobs).items()):
            spans.setdefault(f"core{core}.{unit}" if core else str(unit), []).append(span)
        return {name: rows[:-1] for name, rows in spans.items()}

    return run
