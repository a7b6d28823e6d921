"""npusim as an ONNX backend: ONNX's own node tests through compiler and machine, and the page that lists them."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from benchmarks.onnx_backend import CORE, KINDS, Outcome, classify, core_cases, document, integer_cases, table
from npusim import backend
from npusim.errors import UsageError
from tests.graph.tiny import Builder, onnxruntime_values, random_feeds

PAGE = Path(__file__).parent.parent.parent / "docs" / "onnx-backend.md"

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
    assert core[name].kind == ("cpu" if name in DYNAMIC else "npu"), core[name].reason


def test_the_page_has_the_core_as_it_is(core):
    page = PAGE.read_text(encoding="utf-8").splitlines()
    rows = table(core.values()).splitlines()[2:]
    assert [row for row in rows if row not in page] == [], "run python -m benchmarks.onnx_backend"
    assert "| fails | 0 | 0 |" in PAGE.read_text(encoding="utf-8")


@pytest.mark.slow
def test_no_case_with_integers_fails_and_the_page_is_current():
    outcomes = [classify(case) for case in integer_cases()]
    assert [outcome for outcome in outcomes if outcome.kind == "fails"] == []
    assert all(outcome.reason for outcome in outcomes if outcome.kind in ("cpu", "refused"))
    assert len(outcomes) > 250
    assert document(outcomes) == PAGE.read_text(encoding="utf-8"), "run python -m benchmarks.onnx_backend"


def test_other_results_are_failures():
    case = next(case for case in core_cases() if case.name == "test_matmulinteger")
    inputs, outputs = case.data_sets[0]
    wrong = replace(case, data_sets=[(inputs, [outputs[0] + 1])])
    assert classify(wrong).kind == "fails"
    shaped = replace(case, data_sets=[(inputs, [outputs[0][None]])])
    assert "instead of" in classify(shaped).reason
    assert set(KINDS) >= {"fails"}


# ----------------------------------------------------------------------------------------------------------- interface


@pytest.fixture(scope="module")
def model():
    b = Builder()
    total = b.op("Add", b.real_input("a", (2, 8), 0.1, 3), b.real_input("b", (2, 8), 0.2, 5))
    b.result(total, 0.3, 7)
    return b.model()


def test_a_model_runs_in_one_call_and_in_two(model):
    feeds = random_feeds(model)
    [expected] = onnxruntime_values(model, feeds).values()
    prepared = backend.prepare(model, hardware="small", npu_mode="NPU2")
    for outputs in (prepared.run(list(feeds.values())), backend.run_model(model, list(feeds.values()))):
        np.testing.assert_array_equal(outputs[0], expected)
        np.testing.assert_array_equal(getattr(outputs, outputs._fields[0]), expected)
    assert prepared.built.axmodel.npu_mode == "NPU2"
    assert prepared.built.hardware.machine.name == "small"


def test_a_node_runs_by_itself():
    node = helper.make_node("MatMulInteger", ["a", "b"], ["y"])
    a, b = np.arange(6, dtype=np.uint8).reshape(2, 3), np.arange(12, dtype=np.int8).reshape(3, 4)
    [found] = backend.run_node(node, [a, b], outputs_info=[(np.dtype(np.int32), (2, 4))], hardware="small")
    np.testing.assert_array_equal(found, a.astype(int) @ b)


def quantizing() -> onnx.ModelProto:
    """QuantizeLinear whose scale is an input."""
    values = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in (("x", ("n",)), ("s", ()))]
    result = helper.make_tensor_value_info("y", onnx.TensorProto.UINT8, ("n",))
    graph = helper.make_graph([helper.make_node("QuantizeLinear", ["x", "s"], ["y"])], "g", values, [result])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def test_parameters_and_shapes_may_change_from_call_to_call():
    prepared = backend.prepare(quantizing(), hardware="small")
    builds = []
    for count, scale in ((4, 1.0), (4, 1.0), (4, 0.5), (6, 0.5)):
        x = np.arange(count, dtype=np.float32)
        [found] = prepared.run([x, np.float32(scale)])
        np.testing.assert_array_equal(found, np.rint(x / scale))
        builds.append(prepared.built)
    assert [one is other for one, other in itertools.pairwise(builds)] == [True, False, False]


def test_a_single_array_stands_for_the_only_input():
    b = Builder()
    b.result(b.op("Tanh", b.real_input("x", (4,), 0.1, 100)), 1 / 128, 128)
    feeds = random_feeds(b.model())
    [found] = backend.run_model(b.model(), feeds["x"], hardware="small")
    np.testing.assert_array_equal(found, *onnxruntime_values(b.model(), feeds, plain=True).values())


def test_only_the_cpu_is_a_device(model):
    assert backend.supports_device("CPU")
    assert not backend.supports_device("CUDA")
    assert backend.is_compatible(model)
    assert not backend.is_compatible(model, "CUDA:1")
    with pytest.raises(UsageError, match="no device 'CUDA'"):
        backend.prepare(model, "CUDA")


def test_mistakes(model):
    prepared = backend.prepare(model)
    with pytest.raises(UsageError, match="built when it first runs"):
        _ = prepared.built
    with pytest.raises(UsageError, match="3 inputs are given; the model has a, b"):
        prepared.run([np.zeros(1)] * 3)
    with pytest.raises(UsageError, match="run takes no option 'cores'"):
        prepared.run([], cores=1)
