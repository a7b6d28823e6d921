"""Depthwise convolution of any element types: bytes by pairs of kernel positions, everything else in plain loops.

Called by ``npusim.kernels.depthwise`` on the portable tier, and on the VNNI tier for what its kernel leaves out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from . import emit
from .build import kernel
from .convert import element, item_bytes, put
from .emit import I8, I32, I64
from .geometry import tap_column, tap_row
from .laws import requantize
from .memory import bytes_at, longs_at, shorts_at, signed_bytes_at, unsigned_shorts_at, words_at
from .rows import requantize_row, take
from .signatures import BYTE_IMAGE, BYTE_IMAGE_OUT, BYTE_RUN, FLOATS, WORDS, WORKSPACE
from .workspace import depthwise_layout

BYTES, RAW = 0, 2

_layout = njit(depthwise_layout)


CHANNELS = 32
"""Channels of a step."""


def _const(value: int) -> Any:
    return ir.Constant(I64, value)


def _interleave(builder: Any, left: Any, right: Any) -> list[Any]:
    """Two vectors of bytes interleaved within groups of sixteen, as CPUs do it: all low halves, all high halves."""
    count = left.type.count
    results = []
    for half in (0, 8):
        kept = [group + i for group in range(0, count, 16) for i in range(half, half + 8)]
        results.append(emit.shuffle(builder, left, right, [x for i in kept for x in (i, i + count)]))
    return results


@njit
def _place_of(channel):
    """Where a channel stands among its 32 after ``_interleave``: groups of four go to vectors of eight in turn."""
    return channel % 16 // 4 * 8 + channel % 32 // 16 * 4 + channel % 4


@intrinsic
def _add_pairs(typingctx, sums, starts, places, weights, pitch, pairs, channels, flip):
    """``sums = starts + `` the products of bytes ``u ^ flip`` at two addresses of ``places`` for each of the pairs.

    ``sums`` and ``starts`` are int32 and have room for whole steps; ``weights`` holds two i16 for each channel, in the
    order of ``_place_of``, pairs ``pitch`` bytes apart. The last step overlaps the one before, if there is one.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        sums, starts, places, weights, pitch, pairs, channels, flip = args
        octets, part = emit.vector(I8, CHANNELS), emit.vector(I32, 8)
        flips, zero = emit.splat(builder, builder.trunc(flip, I8), CHANNELS), ir.Constant(octets, [0] * CHANNELS)
        accs = [cgutils.alloca_once(builder, part) for _ in range(4)]

        def body(here: Any, block: Any, mask: Any = None) -> None:
            ahead = builder.mul(here, _const(4))
            for acc in accs:
                builder.store(ir.Constant(part, [0] * 8), acc)
            with cgutils.for_range(builder, pairs) as pair:
                place = builder.add(places, builder.mul(pair.index, _const(16)))
                pixels = [
                    builder.xor(take(builder, builder.add(emit.load(builder, where, I64), here), octets, mask), flips)
                    for where in (place, builder.add(place, _const(8)))
                ]
                line = builder.add(weights, builder.add(builder.mul(pair.index, pitch), builder.mul(block, _const(4))))
                mixed = [x for half in _interleave(builder, *pixels) for x in _interleave(builder, half, zero)]
                for i, (acc, values) in enumerate(zip(accs, mixed, strict=True)):
                    factors = emit.load(builder, builder.add(line, _const(32 * i)), octets)
                    builder.store(emit.dot_pairs(builder, builder.load(acc), values, factors), acc)
            totals = [builder.load(acc) for acc in accs]
            for half in (0, 4):  # the lower, then the upper four of every vector
                for i in (0, 2):
                    ordered = emit.shuffle(builder, totals[i], totals[i + 1],
                                           [x for v in (0, 8) for x in range(v + half, v + half + 4)])  # fmt: skip
                    at = builder.add(ahead, _const(16 * half + 16 * i))
                    start = emit.load(builder, builder.add(starts, at), part)
                    emit.store(builder, builder.add(ordered, start), builder.add(sums, at))

        whole = builder.and_(channels, _const(-CHANNELS))
        with cgutils.for_range_slice(builder, _const(0), whole, _const(CHANNELS)) as (here, _):
            body(here, here)
        some = builder.icmp_signed("!=", whole, channels)
        with builder.if_then(some), builder.if_else(builder.icmp_signed("!=", whole, _const(0))) as (then, otherwise):
            with then:
                body(builder.sub(channels, _const(CHANNELS)), whole)
            with otherwise:
                body(whole, whole, emit.low_mask(builder, channels, CHANNELS))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 8), codegen


@njit
def _pair_kernels(starts, pairs, pitch, padding, weights, channels, taps, kind, zeros, bias, flip, shift):
    """Weights less their zero points as int16[pairs][channels][2] in the order of steps, and what each sum starts with.

    That is the bias less ``shift`` times the sum of the weights: pixels are read as ``u ^ flip``, which is ``shift``
    too large. ``padding`` is filled with the byte that stands for 0.
    """
    bytes_at(padding, channels)[:] = np.uint8((shift ^ flip) & 255)
    terms = words_at(starts, channels)
    whole = channels // CHANNELS * CHANNELS
    last = channels if whole == channels else max(channels - CHANNELS, 0)  # the first channel of the last step
    for c in range(channels):
        terms[c] = bias[c] if bias.size else np.int32(0)
    shorts_at(pairs, (taps + 1) // 2 * pitch // 2)[:] = 0
    for tap in range(taps):
        line = shorts_at(pairs + tap // 2 * pitch, pitch // 2)
        for c in range(channels):
            weight = element(weights + tap * channels + c, kind) - (zeros[0] if zeros.size == 1 else zeros[c])
            if c < whole:
                line[2 * (c // CHANNELS * CHANNELS + _place_of(c)) + tap % 2] = weight
            if c >= last:
                line[2 * (whole + _place_of(c - last)) + tap % 2] = weight
            terms[c] -= np.int32(weight * shift)


@njit
def _locate_taps(places, padding, source, row_pitch, pixel_pitch, height, width, y, x, geometry):
    """The address of the pixel under each kernel position of output pixel (y, x), ``padding`` for none.

    Returns whether all of them lie in the image.
    """
    found, whole, tap = longs_at(places, geometry[0] * geometry[1]), True, 0
    for i in range(geometry[0]):
        row = tap_row(geometry, y, i)
        for j in range(geometry[1]):
            column = tap_column(geometry, x, j)
            inside = 0 <= row < height and 0 <= column < width
            found[tap] = source + row * row_pitch + column * pixel_pitch if inside else padding
            whole &= inside
            tap += 1
    return whole


@njit
def _store(target, sums, addends, multiplier, mode, item, zero, low, high):
    """Add the partial accumulators, if any, and store a pixel; any sums, any destination."""
    for c in range(sums.size):
        if addends.size:
            sums[c] += addends[c]
        value = np.int64(sums[c])
        if mode < RAW:
            factor = multiplier[0] if multiplier.size == 1 else multiplier[c]
            value = requantize(value, factor, zero, low, high)
        put(target + c * item, value, item)


@njit
def _place(array, y, x):
    """The address of a pixel."""
    return array.ctypes.data + y * array.strides[0] + x * array.strides[1]


@kernel(types.void(
    BYTE_IMAGE, BYTE_RUN, BYTE_IMAGE_OUT, BYTE_IMAGE, types.UniTuple(types.int64, 10), types.int64, types.int64,
    types.int64, WORDS, WORDS, FLOATS, types.int64, types.int64, types.int64, types.int64, WORKSPACE, types.int64,
    types.int64,
))  # fmt: skip
def depthwise(src, weights, dst, partial, geometry, src_kind, weight_kind, src_zero, weight_zero, bias, multiplier,
              mode, zero, low, high, workspace, begin, end):  # fmt: skip
    """Convolve output rows ``begin`` to ``end`` of bytes.

    Args:
        src: byte view [h, w, c * item bytes].
        weights: bytes of [kernel rows][kernel columns][c].
        dst: byte view.
        partial: byte view of the accumulators, or of size 0.
        src_kind: see ``convert``.
        mode: see ``deliver``; 3 is raw s64.
    """
    height, width, channels = src.shape
    taps = geometry[0] * geometry[1]
    flip = 128 if src_kind == 1 else 0
    base = workspace.ctypes.data
    pitch, starts, sums, places, padding, pairs, _ = _layout(channels, taps)
    starts, sums, places, padding, pairs = base + starts, base + sums, base + places, base + padding, base + pairs
    _pair_kernels(starts, pairs, pitch, padding, weights.ctypes.data, channels, taps, weight_kind, weight_zero, bias,
                  flip, src_zero + flip)  # fmt: skip
    found = longs_at(places, taps + 1)
    found[taps] = padding
    step = 0 if multiplier.size == 1 else 4
    floor, ceiling = np.float32(low - zero), np.float32(high - zero)
    for y in range(begin, end):
        whole, last = False, width - 1 - (geometry[1] - 1) * geometry[5] + geometry[7]
        for x in range(dst.shape[1]):
            if whole and x * geometry[3] <= last:  # as the pixel before, a little further on
                for tap in range(taps):
                    found[tap] += geometry[3] * src.strides[1]
            else:
                whole = _locate_taps(places, padding, src.ctypes.data, src.strides[0], src.strides[1], height, width, y,
                                     x, geometry)  # fmt: skip
            _add_pairs(sums, starts, places, pairs, pitch, (taps + 1) // 2, channels, flip)
            if mode == BYTES and not partial.size:
                requantize_row(_place(dst, y, x), sums, channels, multiplier.ctypes.data, step, floor, ceiling, zero)
            else:
                addends = words_at(_place(partial, y, x), channels if partial.size else 0)
                _store(_place(dst, y, x), words_at(sums, channels), addends, multiplier, mode,
                       mode + 1 if mode < RAW else 4, zero, low, high)  # fmt: skip


@njit
def _widen_kernels(target, weights, count, channels, kind, zeros):
    """Weights less their zero points, as int32."""
    line, item = words_at(target, count), item_bytes(kind)
    for i in range(count):
        line[i] = element(weights + i * item, kind) - (zeros[0] if zeros.size == 1 else zeros[i % channels])


@njit
def _add_products(sums, pixel, line, zero):
    for c in range(sums.size):
        sums[c] += (np.int64(pixel[c]) - zero) * np.int64(line[c])


@njit
def _add_tap(sums, source, kind, line, zero):
    """Add the products of one kernel position."""
    if kind == 0:
        _add_products(sums, bytes_at(source, sums.size), line, zero)
    elif kind == 1:
        _add_products(sums, signed_bytes_at(source, sums.size), line, zero)
    elif kind == 2:
        _add_products(sums, unsigned_shorts_at(source, sums.size), line, zero)
    else:
        _add_products(sums, shorts_at(source, sums.size), line, zero)


@kernel(types.void(
    BYTE_IMAGE, BYTE_RUN, BYTE_IMAGE_OUT, BYTE_IMAGE, types.UniTuple(types.int64, 10), types.int64, types.int64,
    types.int64, WORDS, WORDS, FLOATS, types.int64, types.int64, types.int64, types.int64, WORKSPACE, types.int64,
    types.int64,
))  # fmt: skip
def depthwise_wide(src, weights, dst, partial, geometry, src_kind, weight_kind, src_zero, weight_zero, bias, multiplier,
                   mode, zero, low, high, workspace, begin, end):  # fmt: skip
    """As ``depthwise`` where an operand has 16 bits; sums have 64."""
    height, width = src.shape[0], src.shape[1]
    channels = src.shape[2] // item_bytes(src_kind)
    sums = longs_at(workspace.ctypes.data, channels)
    kernels = workspace.ctypes.data + 8 * channels
    _widen_kernels(kernels, weights.ctypes.data, channels * geometry[0] * geometry[1], channels, weight_kind,
                   weight_zero)  # fmt: skip
    for y in range(begin, end):
        for x in range(dst.shape[1]):
            for c in range(channels):
                sums[c] = bias[c] if bias.size else np.int32(0)
            for i in range(geometry[0]):
                row = tap_row(geometry, y, i)
                for j in range(geometry[1]):
                    column = tap_column(geometry, x, j)
                    if 0 <= row < height and 0 <= column < width:
                        line = words_at(kernels + 4 * (i * geometry[1] + j) * channels, channels)
                        _add_tap(sums, _place(src, row, column), src_kind, line, src_zero)
            addends = longs_at(_place(partial, y, x), channels if partial.size else 0)
            _store(_place(dst, y, x), sums, addends, multiplier, mode, mode + 1 if mode < RAW else 8, zero, low, high)
