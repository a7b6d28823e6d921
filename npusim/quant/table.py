"""The quantization table: how every operation of a quantized model is carried out.

Made by ``quantize``; written to the terminal and to files by the build. Records and text only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .affine import PRODUCTS
from .layers import FLOAT
from .parameters import Range, parameters_of
from .placement import Placement


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One operation: a node of the float model, with the nodes in front of it that it takes in.

    Attributes:
        name: of the node that computes the result.
        ops: ONNX operators, in order.
        output: name of the result.
        data_type: of the result; FP32 where the operation is a real one, whatever its result is rounded to.
        weight_type: of constant weights; "" where it has none.
        scale: of the result; 0 where it is not rounded.
        zero_point: of the result.
        low: smallest real number of the result's range.
        high: largest one.
        observer: the method that chose the range, or why it is fixed.
    """

    name: str
    ops: tuple[str, ...]
    output: str
    data_type: str
    weight_type: str
    scale: float
    zero_point: int
    low: float
    high: float
    observer: str


def rows_of(placement: Placement, ranges: Mapping[str, Range]) -> tuple[Row, ...]:
    """The table of a quantized model, in topological order."""
    rows: list[Row] = []
    ops: dict[str, tuple[str, ...]] = {}  # of the operation that computes an inner value
    weights: dict[str, str] = {}
    for node in placement.graph.nodes:
        inner = [name for name in node.inputs if name in placement.inner]
        chain = (*dict.fromkeys(op for name in inner for op in ops[name]), node.op)
        weight_type = next((weights[name] for name in inner if weights[name]), "")
        if node.op in PRODUCTS and node.input(1) in placement.graph.constants:
            choice = placement.choices[node.name]
            weight_type = FLOAT if choice.data_type == FLOAT else choice.weight_data_type
        if node.output in placement.inner:
            ops[node.output], weights[node.output] = chain, weight_type
            continue
        row = _row(placement, ranges, node.name, node.output, chain, weight_type)
        is_real = placement.choices[node.name].data_type == FLOAT
        rows.append(replace(row, data_type=FLOAT) if is_real else row)
    return tuple(rows)


def _row(
    placement: Placement, ranges: Mapping[str, Range], name: str, output: str, ops: tuple[str, ...], weight_type: str
) -> Row:
    group = placement.groups.get(output)
    if group is None:
        return Row(
            name=name, ops=ops, output=output, data_type=FLOAT, weight_type=weight_type, scale=0.0, zero_point=0,
            low=0.0, high=0.0, observer="",
        )  # fmt: skip
    range_ = ranges[output]
    parameters = parameters_of(range_, group.data_type)
    return Row(
        name=name, ops=ops, output=output, data_type=group.data_type, weight_type=weight_type,
        scale=float(parameters.scale), zero_point=parameters.zero_point, low=range_.low, high=range_.high,
        observer=range_.observer,
    )  # fmt: skip


_TITLES = ("layer", "operators", "type", "weights", "scale", "zero", "low", "high", "observer")


def format_table(rows: Sequence[Row]) -> str:
    """The table as text, one line an operation, columns aligned."""
    lines = [_TITLES, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_TITLES))]
    right = (4, 5, 6, 7)
    text = (
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
    return "\n".join(text) + "\n"


def _cells(row: Row) -> tuple[str, ...]:
    ops = "+".join(op.rpartition(".")[2] for op in row.ops)
    if not row.scale:
        return (row.name, ops, row.data_type, row.weight_type, "", "", "", "", "")
    numbers = (f"{row.scale:.6g}", str(row.zero_point), f"{row.low:.4g}", f"{row.high:.4g}")
    return (row.name, ops, row.data_type, row.weight_type, *numbers, row.observer)
