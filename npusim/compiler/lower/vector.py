"""Elementwise work: arithmetic on two tensors, tables, and changes of scale or type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from isa import law
from isa.instruction import Unit
from isa.instructions import Add, Dequantize, Div, Lookup, Max, Min, Mul, Parameters, Quantize, Rescale, Sub
from npusim.graph import Node

from ..context import Context, LoweringError, clamp_of, dtype_of, lowers, scale_of, scaled_block, zero_of
from ..joint import Dim, joint_dims
from ..plan import Core, Operand
from ..view import View
from .movement import relayout

BINARY: dict[str, Any] = {"add": Add, "sub": Sub, "mul": Mul, "div": Div, "min": Min, "max": Max}
BINARY_OUTER = 3
ROW_OUTER = 1


@lowers(*BINARY)
def binary(ctx: Context, node: Node) -> None:
    """The result keeps the order of the operand of its own shape."""
    y = ctx.tensor(node.output)
    operands = [ctx.tensor(name) for name in node.inputs]
    full = [ctx.view(t.name) for t in operands if t.shape == y.shape and t.data is None]
    plain = next((view for view in full if all(len(axis) <= 1 for axis in view.axes)), None)
    dst = ctx.new(node.output, like=plain)
    fields = {
        "a_type": dtype_of(operands[0]), "b_type": dtype_of(operands[1]), "dst_type": dtype_of(y),
    }  # fmt: skip
    block = scaled_block(node, operands, y).pack()
    views = [_aligned(ctx, name, dst) for name in node.inputs]
    for core, parts in _shares(ctx, dst, views):
        a, b = (core.fetch(part) for part in parts[1:])
        result = core.room(parts[0])
        dims = joint_dims([result.axes, a.axes, b.axes])
        assert dims is not None, "aligned operands have common factors"
        _binary(core, BINARY[node.op], result, a, b, dims, fields | {"params": core.constant(block)})
        core.flush(parts[0], result)
        core.release()


def _aligned(ctx: Context, name: str, dst: View) -> View:
    """An operand padded with leading axes, and copied where its fastest axis is not the result's."""
    view = ctx.view(name)
    missing = len(dst.axes) - len(view.axes)
    padded = View(view.storage, view.offset, ((),) * missing + view.axes)
    dims = joint_dims([dst.axes, padded.axes])
    if dims is None or (dims and dims[-1].strides[1] > 1):
        order = tuple(a - missing for a in dst.order if a >= missing)
        view = relayout(ctx, name, order)
        padded = View(view.storage, view.offset, ((),) * missing + view.axes)
    return padded


def _shares(ctx: Context, dst: View, others: list[View]) -> Iterator[tuple[Core, list[View]]]:
    """The result and its operands cut along the result's slowest axis; whole on one core where that cuts a factor."""
    axis = next((a for a in dst.order if dst.shape[a] > 1), 0)
    shares = []
    for core, low, high in ctx.shares(dst.shape[axis]):
        parts = [dst.slice(axis, low, high)]
        parts += [v if v.shape[axis] == 1 else v.slice(axis, low, high) for v in others]
        if any(part is None for part in parts):
            yield ctx.cores[0], [dst, *others]
            return
        shares.append((core, [part for part in parts if part is not None]))
    yield from shares


def _binary(core: Core, cls: Any, y: Operand, a: Operand, b: Operand, dims: list[Dim], fields: dict[str, Any]) -> None:
    """One instruction, or one for every index of the slowest dimension where there are too many."""
    if len(dims) > BINARY_OUTER + 1:
        head, rest = dims[0], dims[1:]
        for index in range(head.size):
            y1, a1, b1 = (o.at(index * stride) for o, stride in zip((y, a, b), head.strides, strict=True))
            _binary(core, cls, y1, a1, b1, rest, fields)
        return
    inner = dims[-1] if dims else Dim(1, (1, 1, 1))
    assert inner.strides[0] == 1, "the fastest dimension of a result is contiguous"
    made: dict[str, Any] = {"count": inner.size, "a_broadcast": int(inner.strides[1] == 0),
                            "b_broadcast": int(inner.strides[2] == 0)}  # fmt: skip
    for level, dim in zip(range(len(dims) - 1, 0, -1), dims[:-1], strict=True):
        made[f"count_{level}"] = dim.size
        for name, operand, stride in zip(("dst", "a", "b"), (y, a, b), dim.strides, strict=True):
            made[f"{name}_stride_{level}"] = stride * operand.item_bytes
    core.run(Unit.TENG, cls(a=a.address, b=b.address, dst=y.address, **made, **fields))


@lowers("table", "rescale", "quantize", "dequantize", "cast")
def unary(ctx: Context, node: Node) -> None:
    """The result keeps the order of the operand."""
    x, y = ctx.tensor(node.inputs[0]), ctx.tensor(node.output)
    src = ctx.view(node.inputs[0])
    dst = ctx.new(node.output, like=src)
    for core, parts in _shares(ctx, dst, [src]):
        a, result = core.fetch(parts[1]), core.room(parts[0])
        dims = joint_dims([result.axes, a.axes])
        assert dims is not None, "a result in its operand's order has its factors"
        fields = _unary_fields(core, node, x, y)
        _unary(core, fields, result, a, dims)
        core.flush(parts[0], result)
        core.release()


def _unary_fields(core: Core, node: Node, x: Any, y: Any) -> tuple[Any, dict[str, Any]]:
    """The instruction class of a function of one variable, and its fields besides the shape."""
    if node.op == "dequantize":
        head = Parameters(zero_a=zero_of(x), factor_a=scale_of(x))
        return Dequantize, {"src_type": dtype_of(x), "params": core.constant(head.pack())}
    low, high = clamp_of(node, y)
    if node.op == "quantize":
        head = Parameters(zero=zero_of(y), low=low, high=high, factor=scale_of(y))
        return Quantize, {"dst_type": dtype_of(y), "params": core.constant(head.pack())}
    types = {"src_type": dtype_of(x), "dst_type": dtype_of(y)}
    if node.op == "rescale":
        return Rescale, types | {"params": core.constant(scaled_block(node, [x], y).pack())}
    if node.op == "cast":
        raise LoweringError(f"{node.name} (cast): from {x.dtype} to {y.dtype} is not lowered yet")
    table = law.lookup_table(
        node.attributes["expression"], x.numpy, scale_of(x), zero_of(x), y.numpy, scale_of(y), zero_of(y)
    ).clip(low, high)
    return Lookup, types | {"table": core.constant(table.astype(y.numpy).tobytes())}


def _unary(core: Core, what: tuple[Any, dict[str, Any]], y: Operand, x: Operand, dims: list[Dim]) -> None:
    """One instruction, or one for every index of the slowest dimension where there are too many."""
    if len(dims) > ROW_OUTER + 1:
        head, rest = dims[0], dims[1:]
        for index in range(head.size):
            _unary(core, what, y.at(index * head.strides[0]), x.at(index * head.strides[1]), rest)
        return
    cls, fields = what
    inner = dims[-1] if dims else Dim(1, (1, 1))
    outer = dims[0] if len(dims) > 1 else Dim(1, (0, 0))
    core.run(
        Unit.TENG,
        cls(
            src=x.address, dst=y.address, count=inner.size, rows=outer.size,
            src_row_stride=outer.strides[1] * x.item_bytes, dst_row_stride=outer.strides[0] * y.item_bytes, **fields,
        ),
    )  # fmt: skip
