"""ONNX's backend node tests through the integer graph: each passes, is refused with a reason, or fails."""

from __future__ import annotations

import importlib
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, numpy_helper
from onnx.backend.test.case import node

from npusim import graph
from npusim.errors import NpusimError, UsageError
from npusim.graph.ir import Array, Graph
from tests.graph.interpret import run

QUANTIZED = frozenset({
    TensorProto.UINT8, TensorProto.INT8, TensorProto.UINT16, TensorProto.INT16, TensorProto.UINT4, TensorProto.INT4,
    TensorProto.UINT2, TensorProto.INT2,
})  # fmt: skip
INTEGERS = QUANTIZED | {TensorProto.INT32, TensorProto.INT64, TensorProto.UINT32, TensorProto.UINT64}

CORE = frozenset({
    "test_quantizelinear", "test_quantizelinear_axis", "test_quantizelinear_uint16", "test_quantizelinear_int16",
    "test_dequantizelinear", "test_dequantizelinear_axis", "test_dequantizelinear_uint16",
    "test_dequantizelinear_int16", "test_dequantizelinear_blocked", "test_quantizelinear_blocked_asymmetric",
    "test_quantizelinear_blocked_symmetric", "test_dynamicquantizelinear", "test_dynamicquantizelinear_expanded",
    "test_dynamicquantizelinear_max_adjusted", "test_dynamicquantizelinear_max_adjusted_expanded",
    "test_dynamicquantizelinear_min_adjusted", "test_dynamicquantizelinear_min_adjusted_expanded",
    "test_qlinearconv", "test_qlinearmatmul_2D_uint8_float32", "test_qlinearmatmul_2D_int8_float32",
    "test_qlinearmatmul_3D_uint8_float32", "test_qlinearmatmul_3D_int8_float32", "test_convinteger_with_padding",
    "test_convinteger_without_padding", "test_matmulinteger",
})  # fmt: skip
"""The cases of docs/numerics.md that have to pass."""

CORE_MODULES = ("quantizelinear", "dequantizelinear", "dynamicquantizelinear", "qlinearconv", "qlinearmatmul",
                "convinteger", "matmulinteger")  # fmt: skip

LIVE = {"QLinearMatMul": (0, 3), "MatMulInteger": (0, 1), "Add": (0, 1), "Sub": (0, 1), "Mul": (0, 1), "Div": (0, 1)}
"""Operands that stay live, by operator; other inputs of a case are parameters that a compiler has to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a case.

    Attributes:
        name: of the case.
        kind: "integer" (passes, integer operations only), "cpu" (passes, some of it on the CPU), "refused" or "fail".
        reason: why it is refused, runs on the CPU or fails.
    """

    name: str
    kind: str
    reason: str = ""


def core_cases() -> list[Any]:
    """The cases of ``CORE``; loading only their modules takes a second instead of ten."""
    for module in CORE_MODULES:
        importlib.import_module(f"onnx.backend.test.case.node.{module}")
    return [case for case in node._NodeTestCases if case.name in CORE]


def integer_cases() -> Iterator[Any]:
    """Every case with a quantized tensor among its inputs and outputs, or with integers only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generators of the suite divide by zero on purpose
        cases = node.collect_testcases(None)
    for case in cases:
        types = {v.type.tensor_type.elem_type for v in (*case.model.graph.input, *case.model.graph.output)}
        if types & QUANTIZED or types <= INTEGERS:
            yield case


def parameters(model: onnx.ModelProto, feeds: dict[str, Array]) -> dict[str, Array]:
    """The inputs of a case that are no data."""
    data: set[str] = set()
    for proto in model.graph.node:
        variadic = proto.op_type in ("Concat", "Sum", "Min", "Max", "Mean")
        data |= {name for at, name in enumerate(proto.input) if variadic or at in LIVE.get(proto.op_type, (0,))}
    return {name: array for name, array in feeds.items() if name not in data}


def classify(case: Any) -> Outcome:
    """Import a case, run it, and compare with what the suite expects."""
    names = [value.name for value in case.model.graph.input]
    results = [value.name for value in case.model.graph.output]
    inputs, expected = case.data_sets[0]
    if any(value is None or isinstance(value, list) for value in (*inputs, *expected)):
        return Outcome(name=case.name, kind="refused", reason="its values are sequences or optionals")
    feeds = {name: array_of(value) for name, value in zip(names, inputs, strict=False)}
    bound = parameters(case.model, feeds)
    shapes = {name: value.shape for name, value in feeds.items() if name not in bound}
    try:
        loaded = graph.load(case.model, constants=bound, input_shapes=shapes)
        values = run(loaded, {name: feeds[name] for name in loaded.inputs})
    except UsageError as error:
        return Outcome(name=case.name, kind="fail", reason=str(error))
    except (NpusimError, *ONNXRUNTIME_ERRORS) as error:
        return Outcome(name=case.name, kind="refused", reason=str(error).splitlines()[0])
    return judge(case, loaded, [values[name] for name in results], expected)


ONNXRUNTIME_ERRORS = (
    onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented,
    onnxruntime.capi.onnxruntime_pybind11_state.InvalidGraph,
    onnxruntime.capi.onnxruntime_pybind11_state.Fail,
)
"""What onnxruntime raises for CPU nodes that it cannot run either."""


def table(outcomes: list[Outcome]) -> str:
    """The outcomes as a table in Markdown, sorted by name, with the counts of each kind in front."""
    kinds = Counter(outcome.kind for outcome in outcomes)
    lines = [", ".join(f"{kind}: {count}" for kind, count in sorted(kinds.items())), ""]
    lines += ["| case | outcome | reason |", "| --- | --- | --- |"]
    for outcome in sorted(outcomes, key=lambda outcome: outcome.name):
        reason = outcome.reason.replace("|", "/")
        lines.append(f"| {outcome.name} | {outcome.kind} | {reason} |")
    return "\n".join(lines)


def array_of(value: Any) -> Array:
    """A value of the suite, which keeps some as TensorProto."""
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


def judge(case: Any, loaded: Graph, found: list[Array], expected: list[Any]) -> Outcome:
    for array, wanted in zip(found, expected, strict=True):
        wanted = array_of(wanted)
        if array.dtype != wanted.dtype or array.shape != wanted.shape:
            reason = f"{array.dtype}{array.shape} instead of {wanted.dtype}{wanted.shape}"
            return Outcome(name=case.name, kind="fail", reason=reason)
        exact = np.issubdtype(wanted.dtype, np.integer) or wanted.dtype == bool
        close = np.array_equal(array, wanted) if exact else np.allclose(array, wanted, case.rtol, case.atol, True)
        if not close:
            return Outcome(name=case.name, kind="fail", reason="other values")
    if loaded.cpu_nodes:
        attributes = loaded.cpu_nodes[0].attributes
        return Outcome(name=case.name, kind="cpu", reason=f"{attributes['blame_op']}: {attributes['reason']}")
    return Outcome(name=case.name, kind="integer")
