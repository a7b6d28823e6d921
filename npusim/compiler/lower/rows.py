"""Normalization and softmax along the last axis: every token is a row."""

from __future__ import annotations

from typing import Any

import numpy as np

from isa import law
from isa.dtypes import SHORT_TYPES
from isa.instruction import Unit
from isa.instructions import LayerNorm, Parameters, RmsNorm, Softmax
from npusim.graph import Node

from ..context import Context, clamp_of, dtype_of, lowers, scale_of, zero_of
from ..view import View
from .cut import boxes, sub_view
from .matrix import token_rows


@lowers("layer_norm", "rms_norm", "softmax")
def rows(ctx: Context, node: Node) -> None:
    """Tokens are shared among the cores; the result keeps their order."""
    x, y = ctx.tensor(node.inputs[0]), ctx.tensor(node.output)
    src = token_rows(ctx, node.inputs[0])
    plain = src.storage != ctx.view(node.inputs[0]).storage
    dst = ctx.new(node.output, like=None if plain else ctx.view(node.inputs[0]))
    length = src.shape[1]
    result_rows = View(dst.storage, 0, src.axes)
    cls, block = _block(ctx, node)
    for core, box in boxes(ctx, result_rows, x.numpy.itemsize + y.numpy.itemsize, [src], keep=[1]):
        part, result_view = sub_view(src, box), sub_view(result_rows, box)
        a, b = core.fetch(part), core.room(result_view)
        fields: dict[str, Any] = {"src_type": dtype_of(x), "dst_type": dtype_of(y)}
        core.run(
            Unit.TENG,
            cls(
                src=a.address, dst=b.address, params=core.constant(block), rows=box[0][1] - box[0][0], length=length,
                src_row_stride=length * a.item_bytes, dst_row_stride=length * b.item_bytes, **fields,
            ),
        )  # fmt: skip
        core.flush(result_view, b)
        core.release()


def _block(ctx: Context, node: Node) -> tuple[Any, bytes]:
    """The instruction class and its parameter block."""
    x, y = ctx.tensor(node.inputs[0]), ctx.tensor(node.output)
    low, high = clamp_of(node, y)
    head: dict[str, Any] = {"zero_a": zero_of(x), "zero": zero_of(y), "low": low, "high": high,
                            "factor_a": scale_of(x), "factor": scale_of(y)}  # fmt: skip
    if node.op == "softmax":
        tables = [law.exp_table(scale_of(x))]
        if dtype_of(x) in SHORT_TYPES:
            tables.append(law.coarse_exp_table(scale_of(x)))
        return Softmax, Parameters(**head).pack(*tables)
    arrays = [np.asarray(ctx.tensor(name).data, np.float32) for name in node.inputs[1:]]
    cls = LayerNorm if node.op == "layer_norm" else RmsNorm
    return cls, Parameters(**head, factor_b=np.float32(node.attributes["epsilon"])).pack(*arrays)
