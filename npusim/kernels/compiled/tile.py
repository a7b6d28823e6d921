"""The VNNI micro-kernel: a register tile of up to fourteen rows by thirty-two columns, requantize included.

Called by the matmul and convolution drivers. Packing and loops over tiles live there.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from . import emit
from .emit import I32, I64, V16F32, V16I32

UNSIGNED_SIGNED, SIGNED_UNSIGNED = 0, 1
"""What a step multiplies: u8 rows by s8 columns, or s8 by u8, four K each."""

COLUMNS = 32
UNROLL = 4

MAX_ROWS = 14
"""Rows of the tallest tile: with two vectors of columns it fills the register file."""


def _const(value: int) -> Any:
    return ir.Constant(I64, value)


@intrinsic(prefer_literal=True)
def _tile(typingctx, rows, form, work):
    """Emit the tile for literal ``rows`` and ``form``; ``work`` is explained further down."""
    if not isinstance(rows, types.IntegerLiteral) or not isinstance(form, types.IntegerLiteral):
        return None
    tall, kind = rows.literal_value, form.literal_value

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        fields = cgutils.unpack_tuple(builder, args[2])
        (a, stride, b, steps, blocks, column, row_sums, zeros, scale, dst, count, low, high, zero, raw) = fields
        accs = [cgutils.alloca_once(builder, V16I32) for _ in range(2 * tall)]
        rounding = emit.ByteRounding(builder, low, high, zero)
        keep_raw = builder.icmp_signed("!=", raw, _const(0))
        panel = builder.mul(steps, _const(128))
        with cgutils.for_range(builder, blocks) as block:
            ahead = builder.mul(block.index, _const(128))
            left = builder.sub(count, builder.mul(block.index, _const(COLUMNS)))
            _start(builder, accs, tall, builder.add(column, ahead), row_sums, builder.add(zeros, ahead))
            copies = _copies(builder, accs, tall)
            _accumulate(builder, copies, tall, kind, a, stride, builder.add(b, builder.mul(block.index, panel)), steps)
            _join(builder, copies)
            with builder.if_else(keep_raw) as (then, otherwise):
                with then:
                    target = builder.add(raw, builder.mul(ahead, _const(tall)))
                    for i, acc in enumerate(accs):
                        emit.store(builder, builder.load(acc), builder.add(target, _const(64 * i)))
                with otherwise:
                    offset = builder.mul(block.index, _const(COLUMNS))
                    _finish(builder, accs, tall, builder.add(scale, ahead), rounding, dst, offset, left)
        return context.get_dummy_value()

    return types.void(rows, form, work), codegen


def _start(builder: Any, accs: list[Any], tall: int, column: Any, row_sums: Any, zeros: Any) -> None:
    """Accumulators begin with the column's term, minus row sum times weight zero point where there is one."""
    terms = [emit.load(builder, builder.add(column, _const(64 * j)), V16I32) for j in range(2)]
    for i, acc in enumerate(accs):
        builder.store(terms[i % 2], acc)
    with builder.if_then(builder.icmp_signed("!=", row_sums, _const(0))):
        weights = [emit.load(builder, builder.add(zeros, _const(64 * j)), V16I32) for j in range(2)]
        for r in range(tall):
            total = emit.splat(builder, emit.load(builder, builder.add(row_sums, _const(4 * r)), I32), 16)
            for j in range(2):
                builder.store(builder.sub(terms[j], builder.mul(total, weights[j])), accs[2 * r + j])


def _copies(builder: Any, accs: list[Any], tall: int) -> list[list[Any]]:
    """Further accumulators for low tiles, whose own are too few to hide the latency of a multiply-add."""
    count = {1: 4, 2: 4, 4: 2}.get(tall, 1)
    copies = [accs]
    for _ in range(count - 1):
        copies.append([cgutils.alloca_once(builder, V16I32) for _ in accs])
        for acc in copies[-1]:
            builder.store(ir.Constant(V16I32, [0] * 16), acc)
    return copies


def _join(builder: Any, copies: list[list[Any]]) -> None:
    for copy in copies[1:]:
        for acc, other in zip(copies[0], copy, strict=True):
            builder.store(builder.add(builder.load(acc), builder.load(other)), acc)


def _accumulate(builder: Any, copies: list[list[Any]], tall: int, kind: int, a: Any, stride: Any, b: Any,
                steps: Any) -> None:  # fmt: skip
    """The K loop. Rows are reached from every third one, so that addresses fit the general registers."""
    bases = [builder.add(a, builder.mul(stride, _const(3 * j))) for j in range((tall + 2) // 3)]
    twice = builder.add(stride, stride)
    position = cgutils.alloca_once(builder, I64)
    builder.store(_const(0), position)
    end = builder.mul(steps, _const(4))

    def step(k: Any, ahead: int) -> None:
        here = builder.add(k, _const(4 * ahead))
        panel = builder.add(b, builder.mul(k, _const(32)))
        columns = [emit.load(builder, builder.add(panel, _const(128 * ahead + 64 * j)), V16I32) for j in range(2)]
        for r in range(tall):
            address = builder.add(bases[r // 3], here)
            if r % 3:
                address = builder.add(address, stride if r % 3 == 1 else twice)
            row = emit.splat(builder, emit.load(builder, address, I32), 16)
            for j in range(2):
                acc = copies[ahead % len(copies)][2 * r + j]
                builder.store(_dot(builder, kind, builder.load(acc), row, columns[j]), acc)

    for unroll in (UNROLL, 1):
        head, body, after = (builder.append_basic_block(name) for name in ("k.head", "k.body", "k.after"))
        builder.branch(head)
        builder.position_at_end(head)
        k = builder.load(position)
        advanced = builder.add(k, _const(4 * unroll))
        builder.cbranch(builder.icmp_signed("<=", advanced, end), body, after)
        builder.position_at_end(body)
        for ahead in range(unroll):
            step(k, ahead)
        builder.store(advanced, position)
        builder.branch(head)
        builder.position_at_end(after)


def _dot(builder: Any, kind: int, acc: Any, row: Any, column: Any) -> Any:
    if kind == UNSIGNED_SIGNED:
        return emit.dot_bytes(builder, acc, row, column)
    return emit.dot_bytes(builder, acc, column, row)


def _finish(builder: Any, accs: list[Any], tall: int, scale: Any, rounding: Any, dst: Any, offset: Any,
            left: Any) -> None:  # fmt: skip
    """The second copy of ``law.requantize``, two rows at a time, and the store of up to ``left`` bytes of a row."""
    scales = [emit.load(builder, builder.add(scale, _const(64 * j)), V16F32) for j in range(2)]
    whole = builder.icmp_signed(">=", left, _const(COLUMNS))
    with builder.if_else(whole) as (then, otherwise):  # around all rows: a branch for each would cost more
        with then:
            _store_rows(builder, accs, tall, scales, rounding, dst, offset, None)
        with otherwise:
            _store_rows(builder, accs, tall, scales, rounding, dst, offset, emit.low_mask(builder, left, COLUMNS))


def _store_rows(builder: Any, accs: list[Any], tall: int, scales: list[Any], rounding: Any, dst: Any, offset: Any,
                mask: Any) -> None:  # fmt: skip
    for first in range(0, tall, 2):
        rows = [first, min(first + 1, tall - 1)]
        values = [
            builder.fmul(builder.sitofp(builder.load(accs[2 * r + j]), V16F32), scales[j])
            for r in rows
            for j in range(2)
        ]
        octets = rounding.apply(values)
        for place, r in enumerate(sorted(set(rows))):
            result = emit.shuffle(builder, octets, octets, list(range(32 * place, 32 * place + 32)))
            address = builder.add(emit.load(builder, builder.add(dst, _const(8 * r)), I64), offset)
            if mask is None:
                emit.store(builder, result, address)
            else:
                emit.masked_store(builder, result, address, mask)


# Numba never finds closures over intrinsics in its cache, hence one written-out function per kind of step. Each runs
# the smallest tile that holds ``rows`` (1 to MAX_ROWS) rows. ``work`` is a tuple of integers, most of them addresses:
#   a, stride           packed rows: first byte, bytes from row to row
#   b, steps, blocks    packed columns: ``blocks`` panels of ``steps`` times 128 bytes
#   column              int32[32 blocks]: start value of each accumulator
#   row_sums, zeros     int32[rows], int32[32 blocks]: their product is subtracted; row_sums = 0 leaves it out
#   scale               float32[32 blocks] multipliers
#   dst, count          int64[rows] addresses of destination rows, and the columns to store in them
#   low, high, zero     clamp limits less the zero point, as float32; zero point
#   raw                 where not 0: store int32[blocks][rows][32] there instead and requantize nothing


@njit
def tile_height(rows):
    """Rows that are computed for ``rows``: those beyond must have addresses that may be read and written."""
    if rows > 4:
        return 7 if rows <= 7 else (10 if rows <= 10 else 14)
    return 4 if rows > 2 else rows


@njit
def multiply_us(rows, work):
    """u8 rows by s8 columns."""
    if rows <= 1:
        _tile(1, 0, work)
    elif rows <= 2:
        _tile(2, 0, work)
    elif rows <= 4:
        _tile(4, 0, work)
    elif rows <= 7:
        _tile(7, 0, work)
    elif rows <= 10:
        _tile(10, 0, work)
    else:
        _tile(14, 0, work)


@njit
def multiply_su(rows, work):
    """s8 rows by u8 columns."""
    if rows <= 1:
        _tile(1, 1, work)
    elif rows <= 2:
        _tile(2, 1, work)
    elif rows <= 4:
        _tile(4, 1, work)
    elif rows <= 7:
        _tile(7, 1, work)
    elif rows <= 10:
        _tile(10, 1, work)
    else:
        _tile(14, 1, work)
