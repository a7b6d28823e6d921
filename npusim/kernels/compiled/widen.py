"""Bytes on their way into the portable tile: rows widened to i16, columns interleaved by four.

Called by the portable drivers, which know the bounds. Any target lowers all of it.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from . import emit
from .emit import I8, I16, I64
from .memory import interleave_four

LANES = 16


def _const(value: int) -> Any:
    return ir.Constant(I64, value)


@intrinsic
def widen_run(typingctx, dst, src, count, flip, shift):
    """``count`` (at least 1) bytes as i16, ``(u ^ flip) - shift``. Reads and writes no others.

    A run that fills no whole number of vectors ends in a vector that overlaps the one before.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        dst, src, count, flip, shift = args
        flip, shift = builder.trunc(flip, I8), builder.trunc(shift, I16)

        def piece(at: Any, lanes: int) -> None:
            octets = emit.load(builder, builder.add(src, at), emit.vector(I8, lanes))
            words = builder.zext(builder.xor(octets, emit.splat(builder, flip, lanes)), emit.vector(I16, lanes))
            place = builder.add(dst, builder.shl(at, _const(1)))
            emit.store(builder, builder.sub(words, emit.splat(builder, shift, lanes)), place)

        def at_least(lanes: int) -> None:
            with builder.if_else(builder.icmp_signed(">=", count, _const(lanes))) as (then, otherwise):
                with then:
                    whole = builder.and_(count, _const(-lanes))
                    with cgutils.for_range_slice(builder, _const(0), whole, _const(lanes)) as (here, _):
                        piece(here, lanes)
                    with builder.if_then(builder.icmp_signed("!=", whole, count)):
                        piece(builder.sub(count, _const(lanes)), lanes)
                with otherwise:
                    if lanes > 1:
                        at_least(lanes // 4)

        at_least(LANES)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), codegen


@intrinsic
def interleave_four_rows(typingctx, dst, src, stride, flip):
    """Pack four rows of 32 bytes as ``[32][4]``: byte c of row r, xored with ``flip``, goes to ``dst[4 c + r]``."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        dst, src, stride, flip = args
        kind = emit.vector(I8, 32)
        flips = emit.splat(builder, builder.trunc(flip, I8), 32)
        rows = [emit.load(builder, builder.add(src, builder.mul(stride, _const(r))), kind) for r in range(4)]
        for i, packed in enumerate(interleave_four(builder, rows)):
            emit.store(builder, builder.xor(packed, flips), builder.add(dst, _const(32 * i)))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen
