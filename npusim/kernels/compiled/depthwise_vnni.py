"""Depthwise convolution with ``vpdpbusd``: kernel rows are interleaved by four, so that a step is a kernel column.

Called by ``npusim.kernels.depthwise`` on the VNNI tier for requantized bytes without weight zero points. Source rows
are copied once into a padded ring; for each output row they are interleaved to ``[x][64 channels][4 rows]``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ..tier import VNNI_FEATURES
from . import emit
from .build import kernel, require_features
from .emit import I64, V16F32, V16I32, V64I8
from .memory import copy_runs, fill, floats_at, words_at
from .signatures import BYTE_IMAGE, BYTE_IMAGE_OUT, BYTE_RUN, FLOATS, WORDS, WORKSPACE

require_features(VNNI_FEATURES)

CHANNELS = 64
PIXELS = 4
"""Output pixels of a register tile: sixteen accumulators, four weights."""


def _const(value: int) -> Any:
    return ir.Constant(I64, value)


@intrinsic
def _interleave(typingctx, dst, rows, counts):
    """Store byte c of row r at ``dst[4 c + r]`` for four rows of 64 bytes, of which ``counts[r]`` exist."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        dst = args[0]
        addresses, counts = cgutils.unpack_tuple(builder, args[1]), cgutils.unpack_tuple(builder, args[2])
        lines = [
            emit.masked_load(builder, address, emit.low_mask(builder, count, CHANNELS), V64I8)
            for address, count in zip(addresses, counts, strict=True)
        ]
        _store_interleaved(builder, dst, lines)
        return context.get_dummy_value()

    return types.void(types.int64, types.UniTuple(types.int64, 4), types.UniTuple(types.int64, 4)), codegen


@intrinsic
def _interleave_run(typingctx, dst, rows, step, count):
    """``_interleave`` of whole rows at ``count`` places ``step`` bytes apart; places are 256 bytes apart in ``dst``."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        dst, _, step, count = args
        addresses = cgutils.unpack_tuple(builder, args[1])
        with cgutils.for_range(builder, count) as loop:
            ahead = builder.mul(loop.index, step)
            lines = [emit.load(builder, builder.add(address, ahead), V64I8) for address in addresses]
            _store_interleaved(builder, builder.add(dst, builder.mul(loop.index, _const(256))), lines)
        return context.get_dummy_value()

    return types.void(types.int64, types.UniTuple(types.int64, 4), types.int64, types.int64), codegen


def _store_interleaved(builder: Any, dst: Any, lines: list[Any]) -> None:
    for quarter in range(4):
        first = 16 * quarter
        order = [x for i in range(first, first + 16) for x in (i, i + 64)]
        low = emit.shuffle(builder, lines[0], lines[1], order)
        high = emit.shuffle(builder, lines[2], lines[3], order)
        pairs = emit.vector(emit.I16, 16)
        order = [x for i in range(16) for x in (i, i + 16)]
        mixed = emit.shuffle(builder, builder.bitcast(low, pairs), builder.bitcast(high, pairs), order)
        emit.store(builder, mixed, builder.add(dst, _const(64 * quarter)))


@intrinsic
def _tile(typingctx, work):
    """Convolve ``PIXELS`` pixels of 64 channels; ``work`` as ``_row`` builds it."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        (columns, pixel_step, column_step, weights, taps, plane, planes, terms, scales, dst, dst_step, present, count,
         low, high, zero) = cgutils.unpack_tuple(builder, args[0])  # fmt: skip
        accs = [[cgutils.alloca_once(builder, V16I32) for _ in range(4)] for _ in range(PIXELS)]
        for v in range(4):
            start = emit.load(builder, builder.add(terms, _const(64 * v)), V16I32)
            for pixel in accs:
                builder.store(start, pixel[v])
        position = cgutils.alloca_once(builder, I64)
        builder.store(weights, position)
        with cgutils.for_range(builder, planes) as rows:
            base = builder.add(columns, builder.mul(rows.index, plane))
            with cgutils.for_range(builder, taps) as loop:
                here = builder.add(base, builder.mul(loop.index, column_step))
                weight = builder.load(position)
                vectors = [emit.load(builder, builder.add(weight, _const(64 * v)), V64I8) for v in range(4)]
                for p, pixel in enumerate(accs):
                    source = builder.add(here, builder.mul(pixel_step, _const(p)))
                    for v, acc in enumerate(pixel):
                        taken = emit.load(builder, builder.add(source, _const(64 * v)), V64I8)
                        builder.store(emit.dot_bytes(builder, builder.load(acc), taken, vectors[v]), acc)
                builder.store(builder.add(weight, _const(256)), position)
        _finish(builder, accs, scales, dst, dst_step, present, count, low, high, zero)
        return context.get_dummy_value()

    return types.void(work), codegen


def _finish(builder: Any, accs: Any, scales: Any, dst: Any, dst_step: Any, present: Any, count: Any,
            low: Any, high: Any, zero: Any) -> None:  # fmt: skip
    """``law.requantize`` of all accumulators, and the store of the pixels that are present."""
    factors = [emit.load(builder, builder.add(scales, _const(64 * v)), V16F32) for v in range(4)]
    rounding = emit.ByteRounding(builder, low, high, zero)
    mask = emit.low_mask(builder, count, CHANNELS)
    whole = builder.icmp_signed("==", count, _const(CHANNELS))
    for p, pixel in enumerate(accs):
        result = rounding.apply([
            builder.fmul(builder.sitofp(builder.load(acc), V16F32), factor)
            for acc, factor in zip(pixel, factors, strict=True)
        ])  # fmt: skip
        address = builder.add(dst, builder.mul(dst_step, _const(p)))
        with (
            builder.if_then(builder.icmp_signed(">", present, _const(p))),
            builder.if_else(whole) as (then, otherwise),
        ):
            with then:
                emit.store(builder, result, address)
            with otherwise:
                emit.masked_store(builder, result, address, mask)


@njit
def _pack_weights(target, weights, first, present, channels, kernel_h, kernel_w):
    """Weights of 64 channels as ``[rows / 4][columns][64][4]``; a missing row or channel weighs 0."""
    for group in range((kernel_h + 3) // 4):
        for j in range(kernel_w):
            row = weights + (4 * group * kernel_w + j) * channels + first
            step = kernel_w * channels
            left = kernel_h - 4 * group
            counts = (present, present if left > 1 else 0, present if left > 2 else 0, present if left > 3 else 0)
            _interleave(target, (row, row + step, row + 2 * step, row + 3 * step), counts)
            target += 256


@njit
def _load_row(ring, src, y, pitch, left, columns, padding, flip):
    """Put source row ``y`` with its padding into a slot of the ring; pixels are ``pitch`` bytes apart there."""
    height, width, channels = src.shape
    if y < 0 or y >= height:
        fill(ring, columns * pitch, padding)
        return
    if left:
        fill(ring, left * pitch, padding)
    source = src.ctypes.data + y * src.strides[0]
    copy_runs(ring + left * pitch, pitch, source, src.strides[1], width, channels, flip)
    if columns > left + width:
        fill(ring + (left + width) * pitch, (columns - left - width) * pitch, padding)


@kernel(types.void(
    BYTE_IMAGE, BYTE_RUN, BYTE_IMAGE_OUT, types.UniTuple(types.int64, 10), types.int64, types.int64, WORDS, FLOATS,
    types.int64, types.int64, types.int64, WORKSPACE, types.int64, types.int64,
))  # fmt: skip
def depthwise(src, weights, dst, geometry, flip, src_zero, bias, multiplier, zero, low, high, workspace, begin, end):
    """Convolve output rows ``begin`` to ``end``.

    Args:
        src: uint8 view [h, w, c].
        weights: int8 as uint8, [kernel rows][kernel columns][c].
        dst: uint8 view [oh, ow, c].
        geometry: see ``geometry``.
        flip: 128 if the source is signed, else 0.
        src_zero: of the source as unsigned bytes.
    """
    kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, top, left = geometry[:8]
    channels, out_w = src.shape[2], dst.shape[1]
    blocks = (channels + CHANNELS - 1) // CHANNELS
    pitch = blocks * CHANNELS
    columns = max(left + src.shape[1], (out_w - 1) * stride_w + (kernel_w - 1) * dilation_w + 1)
    planes = (kernel_h + 3) // 4
    slots = (kernel_h - 1) * dilation_h + 1
    # Sections: start values, multipliers, packed weights, interleaved columns, ring of rows.
    terms = workspace.ctypes.data
    scales = terms + 4 * pitch
    packed = scales + 4 * pitch
    columns_at = packed + blocks * planes * kernel_w * 256
    plane = columns * 256
    slack = PIXELS * stride_w * 256  # absent pixels of the last tile are computed from there
    ring = columns_at + planes * plane + slack
    row_bytes = columns * pitch + 64
    sums, factors = words_at(terms, pitch), floats_at(scales, pitch)
    sums[:] = 0
    factors[:] = 0
    for tap in range(kernel_h * kernel_w):
        for c in range(channels):
            sums[c] += np.int32(np.int8(weights[tap * channels + c]))
    for c in range(channels):
        start = np.int32(0) if bias.size == 0 else bias[c]
        sums[c] = np.int32(start - src_zero * sums[c])
        factors[c] = multiplier[0] if multiplier.size == 1 else multiplier[c]
    for block in range(blocks):
        _pack_weights(packed + block * planes * kernel_w * 256, weights.ctypes.data, block * CHANNELS,
                      min(CHANNELS, channels - block * CHANNELS), channels, kernel_h, kernel_w)  # fmt: skip
    floor, ceiling = np.float32(low - zero), np.float32(high - zero)
    loaded = begin * stride_h - top - 1  # the last source row in the ring
    for y in range(begin, end):
        first = y * stride_h - top
        for row in range(max(first, loaded + 1), first + slots):
            _load_row(ring + row % slots * row_bytes, src, row, pitch, left, columns, src_zero, flip)
        loaded = max(loaded, first + slots - 1)
        for block in range(blocks):
            count = min(CHANNELS, channels - block * CHANNELS)
            for group in range(planes):
                base = ring + block * CHANNELS
                rows = first + 4 * group * dilation_h
                last = kernel_h - 4 * group - 1
                lines = (
                    base + rows % slots * row_bytes,
                    base + (rows + min(1, last) * dilation_h) % slots * row_bytes,
                    base + (rows + min(2, last) * dilation_h) % slots * row_bytes,
                    base + (rows + min(3, last) * dilation_h) % slots * row_bytes,
                )
                _interleave_run(columns_at + group * plane, lines, pitch, columns)
            target = dst.ctypes.data + y * dst.strides[0] + block * CHANNELS
            for x in range(0, out_w, PIXELS):
                _tile((columns_at + x * stride_w * 256, stride_w * 256, dilation_w * 256,
                       packed + block * planes * kernel_w * 256, kernel_w, plane, planes, terms + block * 256,
                       scales + block * 256, target + x * dst.strides[1], dst.strides[1], out_w - x, count,
                       floor, ceiling, zero))  # fmt: skip
