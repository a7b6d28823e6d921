"""Table lookups: 64 bytes at a time through register permutes where the CPU has them, one by one elsewhere.

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
from .emit import I64, V64I8
from .memory import bytes_at, unsigned_shorts_at
from .signatures import BYTE_ROWS, BYTE_ROWS_OUT, BYTE_RUN

PERMUTES = {"avx512f", "avx512bw", "avx512vl", "avx512vbmi"} <= compiled_features()


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
            for i in range(count):
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
