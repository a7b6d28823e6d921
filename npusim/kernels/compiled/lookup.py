"""Table lookups: 64 or 32 bytes at a time through register permutes where the CPU has them, one by one elsewhere.

Called by ``npusim.kernels.lookup``, operands checked.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..tier import compiled_features
from . import emit
from .build import kernel
from .emit import I8, I16, I64, V64I8
from .memory import bytes_at, unsigned_shorts_at
from .signatures import BYTE_ROWS, BYTE_ROWS_OUT, BYTE_RUN

PERMUTES = {"avx512f", "avx512bw", "avx512vl", "avx512vbmi"} <= compiled_features()
"""Whether one instruction looks 64 bytes up in 128 others."""
SHUFFLES = "avx2" in compiled_features()
"""Whether one instruction looks 32 bytes up in 16 others."""

V32I8, V16I8, V16I16 = emit.vector(I8, 32), emit.vector(I8, 16), emit.vector(I16, 16)


def _const(value: int) -> Any:
    return ir.Constant(I64, value)


@intrinsic
def permute_rows(typingctx, dst, dst_pitch, src, src_pitch, rows, count, table):
    """``dst[r, i] = table[src[r, i]]`` of bytes at addresses."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        dst, dst_pitch, src, src_pitch, rows, count, table = args
        quarters = [emit.load(builder, builder.add(table, _const(64 * i)), V64I8) for i in range(4)]
        whole = builder.and_(count, _const(-64))
        rest = builder.sub(count, whole)
        mask = emit.low_mask(builder, rest, 64)

        def translated(index: Any) -> Any:
            low, high = (
                emit.call(builder, "llvm.x86.avx512.vpermi2var.qi.512", V64I8, [first, index, second])
                for first, second in (quarters[:2], quarters[2:])
            )
            return builder.select(builder.icmp_signed("<", index, ir.Constant(V64I8, [0] * 64)), high, low)

        with cgutils.for_range(builder, rows) as row:
            source = builder.add(src, builder.mul(row.index, src_pitch))
            target = builder.add(dst, builder.mul(row.index, dst_pitch))
            with cgutils.for_range_slice(builder, _const(0), whole, _const(64)) as (here, _):
                entries = translated(emit.load(builder, builder.add(source, here), V64I8))
                emit.store(builder, entries, builder.add(target, here))
            with builder.if_then(builder.icmp_signed("!=", rest, _const(0))):
                index = emit.masked_load(builder, builder.add(source, whole), mask, V64I8)
                emit.masked_store(builder, translated(index), builder.add(target, whole), mask)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), codegen


@intrinsic
def shuffle_run(typingctx, dst, src, count, table):
    """``dst[i] = table[src[i]]`` of ``count`` bytes at addresses, a multiple of 32; needs AVX2."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        dst, src, count, table = args
        with cgutils.for_range_slice(builder, _const(0), count, _const(32)) as (here, _):
            index = emit.load(builder, builder.add(src, here), V32I8)
            emit.store(builder, _shuffled(builder, index, table), builder.add(dst, here))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


def _shuffled(builder: Any, index: Any, table: Any) -> Any:
    """Look low nibbles up in each sixteenth of the table, then choose by one bit of the high nibbles after another."""
    low = builder.and_(index, ir.Constant(V32I8, [15] * 32))
    found = []
    for sixteenth in range(16):
        entries = emit.load(builder, builder.add(table, _const(16 * sixteenth)), V16I8)
        both = emit.shuffle(builder, entries, entries, list(range(16)) * 2)
        found.append(emit.call(builder, "llvm.x86.avx2.pshuf.b", V32I8, [both, low]))
    for bit in (4, 5, 6, 7):
        moved = builder.shl(builder.bitcast(index, V16I16), ir.Constant(V16I16, [7 - bit] * 16))
        chosen = builder.icmp_signed("<", builder.bitcast(moved, V32I8), ir.Constant(V32I8, [0] * 32))
        found = [builder.select(chosen, odd, even) for even, odd in zip(found[::2], found[1::2], strict=True)]
    return found[0]


@kernel(types.void(BYTE_ROWS, BYTE_RUN, BYTE_ROWS_OUT))
def bytes_to_bytes(src, table, dst):
    """``dst = table[src]``, [rows, count] bytes and 256 entries; ``src`` may be ``dst``."""
    rows, count = src.shape
    src_pitch, dst_pitch = src.strides[0], dst.strides[0]
    if src_pitch == count and dst_pitch == count:
        rows, count = 1, rows * count
    if PERMUTES:
        permute_rows(dst.ctypes.data, dst_pitch, src.ctypes.data, src_pitch, rows, count, table.ctypes.data)
    else:
        for r in range(rows):
            source = bytes_at(src.ctypes.data + r * src_pitch, count)
            target = bytes_at(dst.ctypes.data + r * dst_pitch, count)
            whole = 0
            if SHUFFLES:
                whole = count & -32
                shuffle_run(target.ctypes.data, source.ctypes.data, whole, table.ctypes.data)
            for i in range(whole, count):
                target[i] = table[source[i]]


@kernel(types.void(BYTE_ROWS, BYTE_RUN, BYTE_ROWS_OUT, types.int64, types.int64))
def any_to_any(src, table, dst, src_item, dst_item):
    """``dst = table[src]`` of elements of 1 or 2 bytes."""
    rows, count = src.shape[0], src.shape[1] // src_item
    wide_table = unsigned_shorts_at(table.ctypes.data, table.size // 2)
    for r in range(rows):
        here, there = src.ctypes.data + r * src.strides[0], dst.ctypes.data + r * dst.strides[0]
        octets, shorts = bytes_at(here, count), unsigned_shorts_at(here, count)
        results, wide_results = bytes_at(there, count), unsigned_shorts_at(there, count)
        for i in range(count):
            index = octets[i] if src_item == 1 else shorts[i]
            if dst_item == 1:
                results[i] = table[index]
            else:
                wide_results[i] = wide_table[index]
