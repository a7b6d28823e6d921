"""Vector code for rows: requantization, moments, normalization, and the steps of softmax.

Called by the kernels beside it. All of it is LLVM vector IR that any target lowers, except the exponential
lookup, which needs the byte permutes of AVX512-VBMI. Bytes are read as ``u ^ flip``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from . import emit
from .emit import F32, F64, I8, I16, I32, I64, V16F32, V16I32, V64I8


def _const(value: int) -> Any:
    return ir.Constant(I64, value)


def _repeat(kind: Any, value: Any) -> Any:
    return ir.Constant(kind, [value] * kind.count)


def each(builder: Any, count: Any, lanes: int, body: Callable[[Any, Any], None]) -> None:
    """Run ``body(position, mask)`` for every vector of a row; the mask is None but for the last, partial one."""
    whole = builder.and_(count, _const(-lanes))
    with cgutils.for_range_slice(builder, _const(0), whole, _const(lanes)) as (here, _):
        body(here, None)
    rest = builder.sub(count, whole)
    with builder.if_then(builder.icmp_signed("!=", rest, _const(0))):
        body(whole, emit.low_mask(builder, rest, lanes))


def take(builder: Any, address: Any, kind: Any, mask: Any) -> Any:
    """Load a vector, or what the mask leaves of it."""
    if mask is None:
        return emit.load(builder, address, kind)
    return emit.masked_load(builder, address, mask, kind)


def give(builder: Any, value: Any, address: Any, mask: Any) -> None:
    """Store a vector, or what the mask leaves of it."""
    if mask is None:
        emit.store(builder, value, address)
    else:
        emit.masked_store(builder, value, address, mask)


def _only(builder: Any, value: Any, mask: Any) -> Any:
    """``value``, 0 in the lanes that do not exist."""
    return value if mask is None else builder.select(mask, value, ir.Constant(value.type, [0] * value.type.count))


def _total(builder: Any, lanes: Any) -> Any:
    """The sum of i32 lanes as i64."""
    wide = builder.sext(lanes, emit.vector(I64, lanes.type.count))
    return emit.call(builder, f"llvm.vector.reduce.add.v{lanes.type.count}i64", I64, [wide])


@intrinsic
def requantize_row(typingctx, dst, src, count, multipliers, step, low, high, zero):
    """``law.requantize`` of int32 to bytes; multipliers are ``step`` bytes apart, 4 or 0."""
    integer, real = types.int64, types.float32

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        dst, src, count, multipliers, step, low, high, zero = args
        rounding = emit.ByteRounding(builder, low, high, zero)
        common = emit.splat(builder, emit.load(builder, multipliers, F32), 16)
        alike = builder.icmp_signed("==", step, _const(0))

        def factors(ahead: Any, mask: Any) -> Any:
            with builder.if_else(alike) as (then, otherwise):
                with then:
                    from_one = builder.block
                with otherwise:
                    own = take(builder, builder.add(multipliers, ahead), V16F32, mask)
                    from_many = builder.block
            chosen = builder.phi(V16F32)
            chosen.add_incoming(common, from_one)
            chosen.add_incoming(own, from_many)
            return chosen

        def body(here: Any, mask: Any) -> None:
            values = []
            for quarter in range(4):
                ahead = builder.mul(builder.add(here, _const(16 * quarter)), _const(4))
                lanes = list(range(16 * quarter, 16 * quarter + 16))
                part = None if mask is None else emit.shuffle(builder, mask, mask, lanes)
                acc = take(builder, builder.add(src, ahead), V16I32, part)
                values.append(builder.fmul(builder.sitofp(acc, V16F32), factors(ahead, part)))
            give(builder, rounding.apply(values), builder.add(dst, here), mask)

        each(builder, count, 64, body)
        return context.get_dummy_value()

    return types.void(*[integer] * 5, real, real, integer), codegen


@intrinsic
def moments(typingctx, src, count, flip, shift):
    """The sums of ``q`` and ``q * q``, ``q = (u ^ flip) - shift``; 16,383 elements of |q| < 1448 cannot wrap."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        src, count, flip, shift = args
        flips = emit.splat(builder, builder.trunc(flip, I8), 32)
        shifts = emit.splat(builder, builder.trunc(shift, I16), 32)
        accs = [cgutils.alloca_once(builder, V16I32) for _ in range(2)]
        for acc in accs:
            builder.store(_repeat(V16I32, 0), acc)
        wide = emit.vector(I16, 32)

        def body(here: Any, mask: Any) -> None:
            octets = builder.xor(take(builder, builder.add(src, here), emit.vector(I8, 32), mask), flips)
            q = _only(builder, builder.sub(builder.zext(octets, wide), shifts), mask)
            builder.store(emit.dot_pairs(builder, builder.load(accs[0]), q, _repeat(wide, 1)), accs[0])
            builder.store(emit.dot_pairs(builder, builder.load(accs[1]), q, q), accs[1])

        each(builder, count, 32, body)
        sums = [_total(builder, builder.load(acc)) for acc in accs]
        return context.make_tuple(builder, sig.return_type, sums)

    return types.UniTuple(types.int64, 2)(*[types.int64] * 4), codegen


def _halves(builder: Any, mask: Any) -> list[Any]:
    """The masks of both halves of thirty-two lanes."""
    if mask is None:
        return [None, None]
    return [emit.shuffle(builder, mask, mask, list(range(first, first + 16))) for first in (0, 16)]


@intrinsic
def normalize_row(typingctx, dst, src, count, flip, slope, intercept, factor, gains, offsets, low, high, zero):
    """``law.normalize`` of ``deviation = slope * (u ^ flip) - intercept`` for a row; gains and offsets are float64."""
    integer, real = types.int64, types.float64

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        (dst, src, count, flip, slope, intercept, factor, gains, offsets, low, high, zero) = args
        word, double = emit.vector(I32, 16), emit.vector(F64, 16)
        flips = emit.splat(builder, builder.trunc(flip, I8), 32)
        slopes, intercepts = (emit.splat(builder, builder.trunc(x, I32), 16) for x in (slope, intercept))
        factors = emit.splat(builder, factor, 16)
        rounding = emit.ByteRounding(builder, low, high, zero)

        def body(here: Any, mask: Any) -> None:
            octets = builder.xor(take(builder, builder.add(src, here), emit.vector(I8, 32), mask), flips)
            values = []
            for half, part in enumerate(_halves(builder, mask)):
                lanes = list(range(16 * half, 16 * half + 16))
                source = builder.zext(emit.shuffle(builder, octets, octets, lanes), word)
                deviation = builder.sub(builder.mul(source, slopes), intercepts)
                ahead = builder.add(builder.mul(here, _const(8)), _const(128 * half))
                gain = take(builder, builder.add(gains, ahead), double, part)
                offset = take(builder, builder.add(offsets, ahead), double, part)
                scaled = builder.fmul(builder.fmul(builder.sitofp(deviation, double), factors), gain)
                values.append(builder.fadd(scaled, offset))
            result, _ = rounding.apply_doubles(values)
            give(builder, result, builder.add(dst, here), mask)

        each(builder, count, 32, body)
        return context.get_dummy_value()

    return types.void(*[integer] * 6, real, integer, integer, *[types.float32] * 2, integer), codegen


@intrinsic
def largest_byte(typingctx, src, count, flip):
    """The largest ``u ^ flip`` of a row."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        src, count, flip = args
        flips = emit.splat(builder, builder.trunc(flip, I8), 64)
        best = cgutils.alloca_once(builder, V64I8)
        builder.store(_repeat(V64I8, 0), best)

        def body(here: Any, mask: Any) -> None:
            octets = _only(builder, builder.xor(take(builder, builder.add(src, here), V64I8, mask), flips), mask)
            held = builder.load(best)
            builder.store(builder.select(builder.icmp_unsigned(">", octets, held), octets, held), best)

        each(builder, count, 64, body)
        largest = emit.call(builder, "llvm.vector.reduce.umax.v64i8", I8, [builder.load(best)])
        return builder.zext(largest, I64)

    return types.int64(types.int64, types.int64, types.int64), codegen


@intrinsic
def exponentials(typingctx, dst, src, count, flip, largest, planes):
    """Table entries of ``largest - (u ^ flip)`` for a row to uint32, and their sum; needs AVX512-VBMI.

    ``planes`` holds the table as four planes of 256 bytes. Up to 63 entries behind the last are written, as 0.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        dst, src, count, flip, largest, planes = args
        flips = emit.splat(builder, builder.trunc(flip, I8), 64)
        tops = emit.splat(builder, builder.trunc(largest, I8), 64)
        quarters = [
            [emit.load(builder, builder.add(planes, _const(256 * plane + 64 * i)), V64I8) for i in range(4)]
            for plane in range(4)
        ]
        longs = emit.vector(I64, 8)
        acc = cgutils.alloca_once(builder, longs)
        builder.store(_repeat(longs, 0), acc)

        def body(here: Any, mask: Any) -> None:
            octets = builder.xor(take(builder, builder.add(src, here), V64I8, mask), flips)
            index = builder.sub(tops, octets)
            upper = builder.icmp_signed("<", index, _repeat(V64I8, 0))
            parts = []
            for plane in quarters:
                low, high = (
                    emit.call(builder, "llvm.x86.avx512.vpermi2var.qi.512", V64I8, [first, index, second])
                    for first, second in (plane[:2], plane[2:])
                )
                parts.append(_only(builder, builder.select(upper, high, low), mask))
            for i, words in enumerate(_interleaved(builder, parts)):
                emit.store(builder, words, builder.add(dst, builder.add(builder.mul(here, _const(4)), _const(64 * i))))
                pairs = builder.bitcast(words, longs)
                halves = builder.add(
                    builder.and_(pairs, _repeat(longs, (1 << 32) - 1)), builder.lshr(pairs, _repeat(longs, 32))
                )
                builder.store(builder.add(builder.load(acc), halves), acc)

        each(builder, count, 64, body)
        return emit.call(builder, "llvm.vector.reduce.add.v8i64", I64, [builder.load(acc)])

    return types.int64(*[types.int64] * 6), codegen


def _interleaved(builder: Any, parts: list[Any]) -> list[Any]:
    """Four vectors of 64 bytes as four of sixteen words, byte c of each making word c."""
    shorts, words = emit.vector(I16, 32), []
    for half in (0, 32):
        order = [x for i in range(half, half + 32) for x in (i, i + 64)]
        low, high = (builder.bitcast(emit.shuffle(builder, parts[i], parts[i + 1], order), shorts) for i in (0, 2))
        for quarter in (0, 16):
            order = [x for i in range(quarter, quarter + 16) for x in (i, i + 32)]
            words.append(builder.bitcast(emit.shuffle(builder, low, high, order), V16I32))
    return words


@intrinsic
def scale_row(typingctx, dst, numerators, count, factor, low, high, zero):
    """``e * factor`` of uint32 ``e``, as clamped bytes; returns the largest distance from what a product became."""
    integer, real = types.int64, types.float64

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        dst, numerators, count, factor, low, high, zero = args
        double = emit.vector(F64, 16)
        factors = emit.splat(builder, factor, 16)
        rounding = emit.ByteRounding(builder, low, high, zero)
        worst = cgutils.alloca_once(builder, double)
        builder.store(_repeat(double, 0.0), worst)

        def body(here: Any, mask: Any) -> None:
            values = []
            for half, part in enumerate(_halves(builder, mask)):
                address = builder.add(numerators, builder.add(builder.mul(here, _const(4)), _const(64 * half)))
                entries = take(builder, address, V16I32, part)
                values.append(builder.fmul(builder.uitofp(entries, double), factors))
            result, rounded = rounding.apply_doubles(values)
            for value, nearest in zip(values, rounded, strict=True):
                error = builder.fsub(value, nearest)
                distance = emit.call(builder, "llvm.fabs.v16f64", double, [error])
                builder.store(emit.maximum(builder, distance, builder.load(worst)), worst)
            give(builder, result, builder.add(dst, here), mask)

        each(builder, count, 32, body)
        return emit.call(builder, "llvm.vector.reduce.fmax.v16f64", F64, [builder.load(worst)])

    return real(integer, integer, integer, real, types.float32, types.float32, integer), codegen
