"""Elementwise work: arithmetic on two tensors, tables, and changes of scale or type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from isa import law
from isa.dtypes import ACTIVATION_TYPES
from isa.instruction import Unit
from isa.instructions import Add, Dequantize, Div, Lookup, Max, Min, Mul, Parameters, Quantize, Requantize, Rescale, Sub
from npusim.graph import Node, Tensor
from npusim.graph.ir import Quantization

from ..context import Context, LoweringError, clamp_of, dtype_of, lowers, scale_of, scaled_block, zero_of
from ..core import Core
from ..joint import Dim, joint_dims
from ..plan import Operand
from ..view import View
from .cut import boxes, common_axes, single, sub_view
from .move import COUNT_LIMIT, chunks
from .movement import relayout

BINARY: dict[str, Any] = {"add": Add, "sub": Sub, "mul": Mul, "div": Div, "min": Min, "max": Max}
BINARY_OUTER = 3
ROW_OUTER = 1
MOST_SCALES = 4096
"""Scales of one tensor that each take an instruction."""


@lowers(*BINARY)
def binary(ctx: Context, node: Node) -> None:
    """The result keeps the order of the operand of its own shape."""
    y = ctx.tensor(node.output)
    operands = [ctx.tensor(name) for name in node.inputs]
    full = [ctx.view(t.name) for t in operands if t.shape == y.shape and t.data is None]
    plain = next((view for view in full if view.axes and single(view)), None)
    dst = ctx.new(node.output, like=plain)
    fields = {
        "a_type": dtype_of(operands[0]), "b_type": dtype_of(operands[1]), "dst_type": dtype_of(y),
    }  # fmt: skip
    block = scaled_block(node, operands, y).pack()
    views = _walkable(ctx, dst, node.inputs)
    for core, parts in _tiles(ctx, views):
        a, b = (core.fetch(part) for part in parts[1:])
        result = core.room(parts[0])
        dims = joint_dims([result.axes, a.axes, b.axes])
        assert dims is not None, "operands that are walked together have common factors"
        _binary(core, BINARY[node.op], (result, a, b), dims, fields | {"params": core.constant(block)})
        core.flush(parts[0], result)
        core.release()


def _walkable(ctx: Context, dst: View, names: Sequence[str]) -> list[View]:
    """The result and its operands over common axes, contiguous where the result is; others are copied first.

    An operand has leading axes added where it has fewer than the result.
    """
    views = [dst]
    for name in names:
        view = _padded(ctx.view(name), len(dst.axes))
        dims = joint_dims([dst.axes, view.axes])
        if dims is None or (dims and dims[-1].strides[1] > 1):
            missing = len(dst.axes) - len(ctx.tensor(name).shape)
            order = tuple(a - missing for a in dst.order if a >= missing)
            view = _padded(relayout(ctx, name, order), len(dst.axes))
        views.append(view)
    if all(single(view) for view in views):
        return views
    common = common_axes(views)
    if common is None or any(axes and axes[-1] and axes[-1][0][1] > 1 for axes in (v.axes for v in common)):
        plain = [_padded(relayout(ctx, n, range(len(ctx.tensor(n).shape))), len(dst.axes)) for n in names]
        common = common_axes([dst, *plain])
    assert common is not None, "a dense result and dense operands have common factors"
    return common


def _padded(view: View, rank: int) -> View:
    return View(view.storage, view.offset, ((),) * (rank - len(view.axes)) + view.axes)


def _tiles(ctx: Context, views: Sequence[View]) -> Iterator[tuple[Core, list[View]]]:
    """The result and its operands, tile after tile."""
    items = [ctx.plan.storages[view.storage].item_bytes for view in views]
    followed = [view for view in views[1:] if view.shape == views[0].shape]
    for core, box in boxes(ctx, views[0], sum(items), followed):
        yield core, [sub_view(view, box) for view in views]


def _binary(core: Core, cls: Any, operands: Sequence[Operand], dims: list[Dim], fields: dict[str, Any]) -> None:
    """One instruction, or several where there are more or longer loops than one holds."""
    inner = Dim(1, (1, 1, 1))
    if dims and dims[-1].strides[0] == 1 and max(dims[-1].strides) == 1:
        inner = dims.pop()
    fields = fields | {"count": inner.size, "a_broadcast": int(inner.strides[1] == 0),
                       "b_broadcast": int(inner.strides[2] == 0)}  # fmt: skip
    for moved, outer in nests(operands, dims, BINARY_OUTER):
        made: dict[str, Any] = {}
        for level, dim in zip(range(len(outer), 0, -1), outer, strict=True):
            made[f"count_{level}"] = dim.size
            for name, operand, stride in zip(("dst", "a", "b"), moved, dim.strides, strict=True):
                made[f"{name}_stride_{level}"] = stride * operand.item_bytes
        y, a, b = moved
        core.run(Unit.TENG, cls(a=a.address, b=b.address, dst=y.address, **made, **fields))


def nests(
    operands: Sequence[Operand], dims: Sequence[Dim], most_dims: int
) -> Iterator[tuple[list[Operand], list[Dim]]]:
    """The outer loops of one instruction after the other, with the operands where each begins."""
    for offsets, loops in chunks([0] * len(operands), dims, most_dims, COUNT_LIMIT, 1):
        yield [operand.at(offset) for operand, offset in zip(operands, offsets, strict=True)], loops


@lowers("table", "rescale", "quantize", "dequantize", "cast")
def unary(ctx: Context, node: Node) -> None:
    """The result keeps the order of the operand."""
    x, y = ctx.tensor(node.inputs[0]), ctx.tensor(node.output)
    dst = ctx.new(node.output, like=ctx.view(node.inputs[0]) if x.shape else None)
    views = _walkable(ctx, dst, node.inputs[:1])
    varying = next((t for t in (x, y) if t.quantization is not None and not t.quantization.per_tensor), None)
    if varying is None or node.op not in ("quantize", "dequantize"):
        _walk(ctx, node, views, (x, y))
        return
    for box, quantization in scale_boxes(node, varying):
        if len(views[0].axes) != len(varying.shape):
            raise LoweringError(
                f"{node.name} ({node.op}): its scales vary along an axis of an operand that is split into windows; "
                "put a copy of the operand, such as a reshape, in front"
            )
        tensors = (x, replace(y, quantization=quantization)) if varying is y else (
            replace(x, quantization=quantization), y)  # fmt: skip
        _walk(ctx, node, [sub_view(view, box) for view in views], tensors)


def scale_boxes(node: Node, tensor: Tensor) -> Iterator[tuple[list[tuple[int, int]], Quantization]]:
    """The boxes of a tensor that have one scale each.

    Raises:
        LoweringError: there are more of them than is reasonable.
    """
    quantization = tensor.quantization
    assert quantization is not None
    axis, scales = quantization.axis, np.asarray(quantization.scale)
    assert axis is not None, "scales vary along an axis"
    zeros = np.broadcast_to(quantization.zero_point, scales.shape)
    if scales.size > MOST_SCALES:
        raise LoweringError(
            f"{node.name} ({node.op}): {tensor.name} has {scales.size} scales, each an instruction of its own; "
            f"the compiler takes up to {MOST_SCALES}, so use larger blocks or one scale per tensor"
        )
    for index in np.ndindex(scales.shape):
        box = [(0, extent) for extent in tensor.shape]
        if quantization.block:
            box = [(k, k + 1) for k in index]
            low = index[axis] * quantization.block
            box[axis] = (low, min(tensor.shape[axis], low + quantization.block))
        else:
            box[axis] = (index[0], index[0] + 1)
        yield box, Quantization(scale=scales[index], zero_point=int(zeros[index]))


def _walk(ctx: Context, node: Node, views: Sequence[View], tensors: tuple[Tensor, Tensor]) -> None:
    """All tiles of a function of one variable."""
    for core, parts in _tiles(ctx, views):
        a, result = core.fetch(parts[1]), core.room(parts[0])
        dims = joint_dims([result.axes, a.axes])
        assert dims is not None, "a result in its operand's order has its factors"
        _unary(core, _unary_fields(core, node, *tensors), (result, a), dims)
        core.flush(parts[0], result)
        core.release()


def _unary_fields(core: Core, node: Node, x: Tensor, y: Tensor) -> tuple[Any, dict[str, Any]]:
    """The instruction class of a function of one variable, and its fields besides the shape."""
    if node.op == "dequantize":
        head = Parameters(zero_a=zero_of(x), factor_a=scale_of(x))
        return Dequantize, {"src_type": dtype_of(x), "params": core.constant(head.pack())}
    if y.dtype[0] == "f":
        raise LoweringError(f"{node.name} ({node.op}): to {y.dtype}; the machine makes floats only by dequantizing")
    low, high = clamp_of(node, y)
    if node.op == "quantize":
        head = Parameters(zero=zero_of(y), low=low, high=high, factor=scale_of(y))
        return Quantize, {"dst_type": dtype_of(y), "params": core.constant(head.pack())}
    types = {"src_type": dtype_of(x), "dst_type": dtype_of(y)}
    if node.op == "rescale":
        return Rescale, types | {"params": core.constant(scaled_block(node, [x], y).pack())}
    if node.op == "cast":
        narrow = dtype_of(y) in ACTIVATION_TYPES
        head = Parameters(low=low, high=high) if narrow else Parameters()  # a wider type is not clamped
        return Requantize, types | {"params": core.constant(head.pack())}
    table = law.lookup_table(
        node.attributes["expression"], x.numpy, scale_of(x), zero_of(x), y.numpy, scale_of(y), zero_of(y)
    ).clip(low, high)
    return Lookup, types | {"table": core.constant(table.astype(y.numpy).tobytes())}


def _unary(core: Core, what: tuple[Any, dict[str, Any]], operands: Sequence[Operand], dims: list[Dim]) -> None:
    """One instruction, or several where there are more or longer loops than one holds."""
    cls, fields = what
    inner = dims.pop() if dims and dims[-1].strides == (1, 1) else Dim(1, (1, 1))
    for (y, x), loops in nests(operands, dims, ROW_OUTER):
        outer = loops[0] if loops else Dim(1, (0, 0))
        core.run(
            Unit.TENG,
            cls(
                src=x.address, dst=y.address, count=inner.size, rows=outer.size,
                src_row_stride=outer.strides[1] * x.item_bytes, dst_row_stride=outer.strides[0] * y.item_bytes,
                **fields,
            ),
        )  # fmt: skip
