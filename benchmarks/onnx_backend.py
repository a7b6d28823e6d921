"""ONNX's node tests through npusim as a backend: which pass, on the NPU or with help of the CPU, and which are refused.

``python -m benchmarks.onnx_backend > docs/onnx-backend.md`` writes the table; ``--json FILE`` the same as rows.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, numpy_helper
from onnx.backend.test.case import node

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

_CORE_MODULES = ("quantizelinear", "dequantizelinear", "dynamicquantizelinear", "qlinearconv", "qlinearmatmul",
                 "convinteger", "matmulinteger")  # fmt: skip

KINDS = {
    "npu": "passes; all of it is integer operations of the NPU",
    "cpu": "passes; the CPU computes what the reason says, and is priced for it",
    "nothing": "passes; the result is an input or a constant, so that nothing is computed",
    "refused": "is an error that says why",
    "fails": "has another result than ONNX expects",
}
"""What may become of a case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a case.

    Attributes:
        case: its name.
        kind: a key of ``KINDS``.
        reason: why it is refused, runs on the CPU or fails.
    """

    case: str
    kind: str
    reason: str = ""


def core_cases() -> list[Any]:
    """The cases of ``CORE``; loading only their modules takes a second instead of ten."""
    for module in _CORE_MODULES:
        importlib.import_module(f"onnx.backend.test.case.node.{module}")
    return [case for case in node._NodeTestCases if case.name in CORE]


def integer_cases() -> Iterator[Any]:
    """Every case with a quantized tensor among its inputs and outputs, or with integers only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generators of the suite divide by zero on purpose
        cases = node.collect_testcases(None)
    for case in cases:
        assert case.model is not None, "node tests carry their models"
        types = {v.type.tensor_type.elem_type for v in (*case.model.graph.input, *case.model.graph.output)}
        if types & QUANTIZED or types <= INTEGERS:
            yield case


def classify(case: Any) -> Outcome:
    """Run a case as ONNX's runner does, and compare with what it expects."""
    from isa.errors import IsaError
    from npusim import backend
    from npusim.errors import NpusimError, UsageError

    inputs, expected = case.data_sets[0]
    if any(value is None or isinstance(value, list) for value in (*inputs, *expected)):
        return Outcome(case=case.name, kind="refused", reason="its values are sequences or optionals")
    prepared = backend.prepare(case.model, "CPU", hardware="small")
    try:
        found = prepared.run([_array(value) for value in inputs])
    except UsageError as error:
        return Outcome(case=case.name, kind="fails", reason=_reason(error))
    except (NpusimError, IsaError) as error:
        return Outcome(case=case.name, kind="refused", reason=_reason(error))
    for array, wanted in zip(found, map(_array, expected), strict=True):
        if array.dtype != wanted.dtype or array.shape != wanted.shape:
            reason = f"{array.dtype}{array.shape} instead of {wanted.dtype}{wanted.shape}"
            return Outcome(case=case.name, kind="fails", reason=reason)
        exact = np.issubdtype(wanted.dtype, np.integer) or wanted.dtype == bool
        close = np.array_equal(array, wanted) if exact else np.allclose(array, wanted, case.rtol, case.atol, True)
        if not close:
            return Outcome(case=case.name, kind="fails", reason="other values")
    model = prepared.built.axmodel
    if model.cpu_parts:
        first = model.cpu_parts[0].reasons[0]
        return Outcome(case=case.name, kind="cpu", reason=f"{first.op}: {first.constraint}")
    return Outcome(case=case.name, kind="npu" if model.programs else "nothing")


def _array(value: Any) -> np.ndarray[Any, Any]:
    """A value of the suite, which keeps some as TensorProto."""
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


def _reason(error: Exception) -> str:
    """The first line of a message, without the places in memory that some name."""
    return re.sub(r"0x[0-9a-f]+", "0x..", str(error).splitlines()[0])


def table(outcomes: Iterable[Outcome]) -> str:
    """The outcomes as rows of a table in Markdown, sorted by name."""
    ordered = sorted(outcomes, key=lambda outcome: outcome.case)
    rows = [f"| {outcome.case} | {outcome.kind} | {outcome.reason.replace('|', '/')} |" for outcome in ordered]
    return "\n".join(["| case | outcome | reason |", "| --- | --- | --- |", *rows])


def document(outcomes: list[Outcome]) -> str:
    """The page docs/onnx-backend.md."""
    counts = Counter(outcome.kind for outcome in outcomes)
    core = Counter(outcome.kind for outcome in outcomes if outcome.case in CORE)
    kinds = "\n".join(f"| {kind} | {counts[kind]} | {core[kind]} | {meaning} |" for kind, meaning in KINDS.items())
    return f"""# ONNX's node tests

Written by `python -m benchmarks.onnx_backend > docs/onnx-backend.md`; a test holds it against a fresh run.

The node tests that the `onnx` package generates run through `npusim.backend` as ONNX's own runner would run them: each
is built for one core of the machine `small` and simulated. These are the {len(outcomes)} with a quantized tensor among
their inputs and outputs, or with integers only. {len(CORE)} of them have to pass: they are the core of
[the arithmetic law](numerics.md).

| outcome | cases | of the core | meaning |
| --- | --- | --- | --- |
{kinds}

{table(outcomes)}
"""


def main(argv: list[str] | None = None) -> int:
    """Run all cases, and print the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.onnx_backend", description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="write the outcomes as JSON too")
    arguments = parser.parse_args(argv)
    outcomes = []
    for case in integer_cases():
        outcomes.append(classify(case))
        print(f"\r{len(outcomes)} cases", end="", file=sys.stderr)
    print(file=sys.stderr)
    if arguments.json:
        rows = {"rows": [asdict(outcome) for outcome in outcomes]}
        Path(arguments.json).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(document(outcomes), end="")
    return int(any(outcome.kind == "fails" for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
