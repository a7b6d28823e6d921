"""Intrinsics on raw addresses: scalar accesses, copies that flip signs, and the packing shuffles of the VNNI tier.

Called by the drivers, which know the bounds. ``copy``, ``interleave_rows`` and ``transpose_words`` need AVX512BW.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from . import emit
from .emit import I8, I16, I32, I64

V64, V32, V16W = emit.V64I8, emit.vector(I8, 32), emit.vector(I32, 16)


def _const(value: int) -> Any:
    return ir.Constant(I64, value)


@intrinsic
def put_i32(typingctx, address, value):
    """Store a 32-bit integer."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        word = context.cast(builder, args[1], sig.args[1], types.int32)
        emit.store(builder, word, args[0])
        return context.get_dummy_value()

    return types.void(types.int64, value), codegen


@intrinsic
def put_i64(typingctx, address, value):
    """Store a 64-bit integer."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit.store(builder, context.cast(builder, args[1], sig.args[1], types.int64), args[0])
        return context.get_dummy_value()

    return types.void(types.int64, value), codegen


@intrinsic
def put_f32(typingctx, address, value):
    """Store a float32."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit.store(builder, args[1], args[0])
        return context.get_dummy_value()

    return types.void(types.int64, types.float32), codegen


@intrinsic
def get_i32(typingctx, address):
    """Load a 32-bit integer."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit.load(builder, args[0], I32)

    return types.int32(types.int64), codegen


@intrinsic
def copy_runs(typingctx, dst, step, src, pitch, runs, count, flip):
    """Copy runs of ``count`` (at least 1) bytes that are ``pitch`` apart to places ``step`` apart, in 64-byte stores.

    Each byte is xored with ``flip``. Bytes behind a run, up to 63 of them, become zero: the caller leaves
    room there and fills it later.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        dst, step, src, pitch, runs, count, flip = args
        flips = emit.splat(builder, builder.trunc(flip, I8), 64)
        whole = builder.and_(builder.sub(count, _const(1)), _const(-64))
        mask = emit.low_mask(builder, builder.sub(count, whole), 64)
        with cgutils.for_range(builder, runs) as run:
            source = builder.add(src, builder.mul(run.index, pitch))
            target = builder.add(dst, builder.mul(run.index, step))
            with cgutils.for_range_slice(builder, _const(0), whole, _const(64)) as (here, _):
                octets = emit.load(builder, builder.add(source, here), V64)
                emit.store(builder, builder.xor(octets, flips), builder.add(target, here))
            octets = builder.xor(emit.masked_load(builder, builder.add(source, whole), mask, V64), flips)
            kept = builder.select(mask, octets, ir.Constant(V64, [0] * 64))
            emit.store(builder, kept, builder.add(target, whole))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), codegen


@njit
def copy(dst, src, count, flip):
    """One run; see ``copy_runs``."""
    copy_runs(dst, 0, src, 0, 1, count, flip)


@intrinsic
def fill(typingctx, dst, count, value):
    """Set ``count`` (at least 1) bytes to ``value`` in stores of 64 bytes; up to 63 bytes behind change too."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        dst, count, value = args
        bytes_ = emit.splat(builder, builder.trunc(value, I8), 64)
        with cgutils.for_range_slice(builder, _const(0), count, _const(64)) as (here, _):
            emit.store(builder, bytes_, builder.add(dst, here))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def interleave_rows(typingctx, dst, src, stride, rows, columns):
    """Pack up to four rows of up to 32 bytes as ``[32][4]``: byte c of row r goes to ``dst[4 c + r]``.

    Reads exactly the bytes that exist, writes 128; what does not exist is zero.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        dst, src, stride, rows, columns = args
        zero = _const(0)
        line = []
        for r in range(4):
            present = builder.icmp_signed(">", rows, _const(r))
            mask = emit.low_mask(builder, builder.select(present, columns, zero), 32)
            line.append(emit.masked_load(builder, builder.add(src, builder.mul(stride, _const(r))), mask, V32))
        for i, packed in enumerate(interleave_four(builder, line)):
            emit.store(builder, packed, builder.add(dst, _const(32 * i)))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), codegen


def interleave_four(builder: Any, line: list[Any]) -> list[Any]:
    """Bytes of four vectors of 32 as ``[32][4]``, in four pieces."""
    pieces = []
    for half in (0, 16):
        order = [x for i in range(half, half + 16) for x in (i, i + 32)]
        first, second = (emit.shuffle(builder, line[i], line[i + 1], order) for i in (0, 2))
        wide = emit.vector(I16, 16)
        first, second = builder.bitcast(first, wide), builder.bitcast(second, wide)
        for quarter in (0, 8):
            order = [x for i in range(quarter, quarter + 8) for x in (i, i + 16)]
            pieces.append(builder.bitcast(emit.shuffle(builder, first, second, order), V32))
    return pieces


@intrinsic
def transpose_words(typingctx, dst, src, stride, rows, bytes_):
    """Transpose up to 16 rows of up to 64 bytes in units of 4: word w of row r goes to ``dst[128 w + 4 r]``.

    Reads exactly the bytes that exist, writes 64 bytes for each word that has one; what does not exist is zero.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        dst, src, stride, rows, count = args
        zero = _const(0)
        line = []
        for r in range(16):
            present = builder.icmp_signed(">", rows, _const(r))
            mask = emit.low_mask(builder, builder.select(present, count, zero), 64)
            loaded = emit.masked_load(builder, builder.add(src, builder.mul(stride, _const(r))), mask, V64)
            line.append(builder.bitcast(loaded, V16W))
        # Four rounds exchange the bits of row and column numbers, the lowest first.
        for bit in (1, 2, 4, 8):
            upper = [x + (16 - bit if x & bit else 0) for x in range(16)]
            lower = [x + (16 if x & bit else bit) for x in range(16)]
            line = [
                emit.shuffle(builder, line[r & ~bit], line[r | bit], lower if r & bit else upper) for r in range(16)
            ]
        for w in range(16):
            with builder.if_then(builder.icmp_signed(">", count, _const(4 * w))):
                emit.store(builder, line[w], builder.add(dst, _const(128 * w)))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), codegen


@intrinsic
def _pointer(typingctx, address):
    """The address as a pointer that ``carray`` takes."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], I8.as_pointer())

    return types.voidptr(types.int64), codegen


@njit
def bytes_at(address, count):
    """uint8[count] at an address."""
    return carray(_pointer(address), (count,), np.uint8)


@njit
def signed_bytes_at(address, count):
    """int8[count] at an address."""
    return carray(_pointer(address), (count,), np.int8)


@njit
def shorts_at(address, count):
    """int16[count] at an address."""
    return carray(_pointer(address), (count,), np.int16)


@njit
def words_at(address, count):
    """int32[count] at an address."""
    return carray(_pointer(address), (count,), np.int32)


@njit
def longs_at(address, count):
    """int64[count] at an address."""
    return carray(_pointer(address), (count,), np.int64)


@njit
def floats_at(address, count):
    """float32[count] at an address."""
    return carray(_pointer(address), (count,), np.float32)


@njit
def doubles_at(address, count):
    """float64[count] at an address."""
    return carray(_pointer(address), (count,), np.float64)


@njit
def unsigned_shorts_at(address, count):
    """uint16[count] at an address."""
    return carray(_pointer(address), (count,), np.uint16)


@njit
def unsigned_words_at(address, count):
    """uint32[count] at an address."""
    return carray(_pointer(address), (count,), np.uint32)
