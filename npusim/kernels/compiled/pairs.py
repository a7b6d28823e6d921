"""The portable matrix micro-kernel: a register tile of up to six rows, by pairs of 16-bit products.

Called by ``matrix_portable``. Rows are i16 already; columns are s8 in blocks, widened on their way into registers, so
that constant weights are multiplied where they lie.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ..tier import compiled_features
from . import emit
from .emit import I8, I16, I32, I64, V16F32, V16I32

COLUMNS = 32
"""Columns of a block: four K of each stand together, as the instruction stores weights."""

MAX_ROWS = 6
"""Rows of the tallest tile: twelve accumulators, two vectors of columns, a row and a product fill 16 registers."""

LANES = 8 if "avx2" in compiled_features() else 4
"""i32 of a vector. An accumulator holds two sums, of even and odd pairs of K, for each of half as many columns."""

UNROLL = 2


def _const(value: int) -> Any:
    return ir.Constant(I64, value)


@intrinsic(prefer_literal=True)
def _tile(typingctx, rows, work):
    """Emit the tile for a literal number of rows; ``work`` is explained at ``multiply``."""
    if not isinstance(rows, types.IntegerLiteral):
        return None
    tall = rows.literal_value

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        a, stride, b, steps, count, starts, sums = cgutils.unpack_tuple(builder, args[1])
        groups = builder.sdiv(builder.add(count, _const(LANES - 1)), _const(LANES))
        accs = [cgutils.alloca_once(builder, emit.vector(I32, LANES)) for _ in range(2 * tall)]
        with cgutils.for_range(builder, groups) as group:
            ahead = builder.mul(group.index, _const(4 * LANES))
            for acc in accs:
                builder.store(ir.Constant(emit.vector(I32, LANES), [0] * LANES), acc)
            _accumulate(builder, accs, tall, a, stride, builder.add(b, ahead), steps)
            start = emit.load(builder, builder.add(starts, ahead), emit.vector(I32, LANES))
            for r in range(tall):
                left, right = builder.load(accs[2 * r]), builder.load(accs[2 * r + 1])
                even, odd = (emit.shuffle(builder, left, right, list(range(i, 2 * LANES, 2))) for i in (0, 1))
                total = builder.add(builder.add(even, odd), start)
                emit.store(builder, total, builder.add(sums, builder.add(ahead, _const(4 * COLUMNS * r))))
        return context.get_dummy_value()

    return types.void(rows, work), codegen


def _accumulate(builder: Any, accs: list[Any], tall: int, a: Any, stride: Any, b: Any, steps: Any) -> None:
    """The K loop, four K a step. Rows are reached from every third one, so that addresses fit the registers."""
    bases = [builder.add(a, builder.mul(stride, _const(3 * j))) for j in range((tall + 2) // 3)]
    octets, shorts = emit.vector(I8, 2 * LANES), emit.vector(I16, 2 * LANES)
    position = cgutils.alloca_once(builder, I64)
    builder.store(_const(0), position)

    def step(first: Any, ahead: int) -> None:
        panel = builder.add(b, builder.mul(first, _const(4 * COLUMNS)))
        columns = [
            builder.sext(emit.load(builder, builder.add(panel, _const(4 * COLUMNS * ahead + 2 * LANES * j)), octets),
                         shorts)
            for j in range(2)
        ]  # fmt: skip
        here = builder.add(builder.mul(first, _const(8)), _const(8 * ahead))
        for r in range(tall):
            address = builder.add(bases[r // 3], builder.add(builder.mul(stride, _const(r % 3)), here))
            row = emit.splat(builder, emit.load(builder, address, I64), LANES // 2)
            for acc, column in zip(accs[2 * r : 2 * r + 2], columns, strict=True):
                builder.store(emit.dot_pairs(builder, builder.load(acc), row, column), acc)

    for unroll in (UNROLL, 1):
        head, body, after = (builder.append_basic_block(name) for name in ("k.head", "k.body", "k.after"))
        builder.branch(head)
        builder.position_at_end(head)
        first = builder.load(position)
        advanced = builder.add(first, _const(unroll))
        builder.cbranch(builder.icmp_signed("<=", advanced, steps), body, after)
        builder.position_at_end(body)
        for ahead in range(unroll):
            step(first, ahead)
        builder.store(advanced, position)
        builder.branch(head)
        builder.position_at_end(after)


@njit
def multiply(rows, work):
    """Multiply 1 to ``MAX_ROWS`` packed rows with a block of columns, by the smallest tile that holds them.

    ``work`` is a tuple of integers, most of them addresses:
      a, stride      packed rows of i16, ``4 * steps`` long: first byte, bytes from row to row
      b, steps       the block, s8 ``[steps][32][4]``
      count          columns that are wanted; those of the last vector are all computed
      starts         int32[32]: what each sum begins with
      sums           where int32[rows of the tile][32] go
    Rows of the tile behind the last one must be readable.
    """
    if rows > 4:
        _tile(6, work)
    elif rows > 2:
        _tile(4, work)
    elif rows > 1:
        _tile(2, work)
    else:
        _tile(1, work)


@intrinsic
def row_total(typingctx, row, steps):
    """The sum of ``4 * steps`` packed i16."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        row, steps = args
        shorts = emit.vector(I16, 4)
        acc = cgutils.alloca_once(builder, emit.vector(I32, 4))
        builder.store(ir.Constant(emit.vector(I32, 4), [0] * 4), acc)
        with cgutils.for_range(builder, steps) as step:
            values = emit.load(builder, builder.add(row, builder.mul(step.index, _const(8))), shorts)
            wide = builder.sext(values, emit.vector(I32, 4))
            builder.store(builder.add(builder.load(acc), wide), acc)
        return emit.call(builder, "llvm.vector.reduce.add.v4i32", I32, [builder.load(acc)])

    return types.int32(types.int64, types.int64), codegen


@intrinsic
def requantize_rows(typingctx, rows, sums, scales, targets, offset, count, low, high, zero):
    """The second copy of ``law.requantize``: int32[rows][32] times float32[32], as ``count`` bytes of each row.

    ``targets`` holds the rows' addresses, int64, to which ``offset`` is added. Limits are less the zero point.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rows, sums, scales, targets, offset, count, low, high, zero = args
        factors = [emit.load(builder, builder.add(scales, _const(64 * j)), V16F32) for j in range(2)]
        rounding = emit.ByteRounding(builder, low, high, zero)
        whole = builder.icmp_signed(">=", count, _const(COLUMNS))
        with cgutils.for_range(builder, rows) as row:
            line = builder.add(sums, builder.mul(row.index, _const(4 * COLUMNS)))
            words = [emit.load(builder, builder.add(line, _const(64 * j)), V16I32) for j in range(2)]
            values = [builder.fmul(builder.sitofp(w, V16F32), f) for w, f in zip(words, factors, strict=True)]
            octets = rounding.apply(values)
            place = emit.load(builder, builder.add(targets, builder.mul(row.index, _const(8))), I64)
            place = builder.add(place, offset)
            with builder.if_else(whole) as (then, otherwise):
                with then:
                    emit.store(builder, octets, place)
                with otherwise:
                    emit.masked_store(builder, octets, place, emit.low_mask(builder, count, COLUMNS))
        return context.get_dummy_value()

    integer, real = types.int64, types.float32
    return types.void(*[integer] * 6, real, real, integer), codegen
