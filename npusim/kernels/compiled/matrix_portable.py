"""Matmul and convolution by pairs of 16-bit products, as any CPU can multiply and add them.

Called by ``npusim.kernels.matmul`` and ``.conv`` on the portable tier, operands checked. Rows are widened to i16 less
their zero point while they are packed; columns stay s8, and the zero points of weights are subtracted from the sums.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from . import workspace as room
from .build import kernel
from .convert import element
from .deliver import deliver
from .geometry import tap_column, tap_row
from .memory import bytes_at, floats_at, get_i32, longs_at, put_i32, put_i64, shorts_at, words_at
from .pairs import COLUMNS, MAX_ROWS, multiply, requantize_rows, row_total
from .signatures import (
    BYTE_BATCH,
    BYTE_BATCH_OUT,
    BYTE_IMAGE,
    BYTE_IMAGE_OUT,
    BYTE_RUN,
    FLOATS,
    WORD_BATCH,
    WORD_IMAGE,
    WORDS,
    WORKSPACE,
)  # fmt: skip
from .widen import interleave_four_rows, widen_run
from .workspace import DST, PACKED_ROWS, PARTIAL, SCRATCH

BYTES = 0
"""Destination mode that needs no ``deliver``."""

TRANSPOSED, BLOCKED = 1, 2
"""Layouts of the second operand of a matmul, as the instruction numbers them; 0 is row-major."""

_layout = njit(room.portable_layout)


@njit
def _source_sign(signs, zero):
    """Flip and shift that make source bytes ``(u ^ flip) - shift``, their values less the zero point."""
    flip = 128 if signs & 1 else 0
    return flip, zero + flip


@njit
def _weight_flip(signs):
    """What makes weights s8: 0, or 128, which takes 128 from unsigned ones, and from their zero points with them."""
    return 0 if signs & 2 else 128


@njit
def _prepare_columns(columns, n, first, flip, zeros, bias, multiplier):
    """Start values, weight zeros and multipliers of ``n`` columns, the first being ``first`` of the parameter arrays.

    Returns whether any zero point is not 0.
    """
    padded = (n + COLUMNS - 1) // COLUMNS * COLUMNS
    starts, points = words_at(columns, padded), words_at(columns + 4 * padded, padded)
    scales = floats_at(columns + 8 * padded, padded)
    starts[:] = 0
    points[:] = 0
    scales[:] = 0
    has_zeros = False
    for j in range(n):
        if bias.size:
            starts[j] = bias[first + j]
        points[j] = (zeros[0] if zeros.size == 1 else zeros[first + j]) - flip
        has_zeros |= points[j] != 0
        scales[j] = multiplier[0] if multiplier.size == 1 else multiplier[first + j]
    return has_zeros


@njit
def _subtract_zeros(sums, totals, zeros, rows):
    """Take row sum times weight zero point from int32[rows][32]."""
    points, sums_of_rows = words_at(zeros, COLUMNS), words_at(totals, rows)
    for r in range(rows):
        line, total = words_at(sums + 4 * COLUMNS * r, COLUMNS), sums_of_rows[r]
        for j in range(COLUMNS):
            line[j] -= np.int32(total * points[j])


@njit
def _run_rows(base, rows, panel, k, n, has_zeros, mode, partial, low, high, zero):
    """Multiply packed rows with all column blocks and write them where the addresses of the workspace say."""
    stride, _, columns, targets, packed, _, _ = _layout(k, n)
    blocks, steps = (n + COLUMNS - 1) // COLUMNS, (k + 3) // 4
    starts, targets, packed, sums = base + columns, base + targets, base + packed, base + SCRATCH
    partials, totals = targets + 8 * PACKED_ROWS, targets + 16 * PACKED_ROWS
    zeros, scales = starts + 4 * COLUMNS * blocks, starts + 8 * COLUMNS * blocks
    if has_zeros:
        for r in range(rows):
            put_i32(totals + 4 * r, row_total(packed + r * stride, steps))
    floor, ceiling = np.float32(low - zero), np.float32(high - zero)
    for block in range(blocks):
        ahead, count = 4 * COLUMNS * block, min(COLUMNS, n - COLUMNS * block)
        for first in range(0, rows, MAX_ROWS):
            height = min(MAX_ROWS, rows - first)
            work = packed + first * stride, stride, panel + ahead * steps, steps, count, starts + ahead, sums
            multiply(height, work)
            if has_zeros:
                _subtract_zeros(sums, totals + 4 * first, zeros + ahead, height)
            if mode == BYTES and not partial:
                requantize_rows(height, sums, scales + ahead, targets + 8 * first, COLUMNS * block, count, floor,
                                ceiling, zero)  # fmt: skip
                continue
            for r in range(height):
                longs_at(base + DST, MAX_ROWS)[r] = longs_at(targets, rows)[first + r]
                if partial:
                    longs_at(base + PARTIAL, MAX_ROWS)[r] = longs_at(partials, rows)[first + r]
            deliver(base, height, count, COLUMNS * block, scales + ahead, mode, partial, low, high, zero)


@njit
def _as_signed(target, source, count, flip):
    octets, signed = bytes_at(source, count), bytes_at(target, count)
    for i in range(count):
        signed[i] = octets[i] ^ np.uint8(flip)


@njit
def _block_columns(target, source, stride, k, n, flip, transposed):
    """A row-major or transposed second operand as blocks of s8. What lies behind the last K or column is not set."""
    steps, flips = (k + 3) // 4, np.int32(-2139062144) if flip else np.int32(0)
    for block in range((n + COLUMNS - 1) // COLUMNS):
        count = min(COLUMNS, n - COLUMNS * block)
        panel = target + block * steps * 128
        for j in range(count if transposed else 0):
            column, place = source + (block * COLUMNS + j) * stride, panel + 4 * j
            for step in range(k // 4):
                put_i32(place + 128 * step, get_i32(column + 4 * step) ^ flips)
            _as_signed(place + 128 * (k // 4), column + k // 4 * 4, k % 4, flip)
        for step in range(0 if transposed else steps):
            rows, place = source + 4 * step * stride + block * COLUMNS, panel + 128 * step
            if count == COLUMNS and 4 * step + 4 <= k:
                interleave_four_rows(place, rows, stride, flip)
                continue
            octets = bytes_at(place, 128)
            for r in range(min(4, k - 4 * step)):
                row = bytes_at(rows + r * stride, count)
                for j in range(count):
                    octets[4 * j + r] = row[j] ^ np.uint8(flip)


@njit
def _clear(target, count):
    shorts_at(target, count)[:] = 0


@njit
def _pack_pixel(target, source, row_pitch, pixel_pitch, height, width, channels, y, x, geometry, flip, shift):
    """The taps of output pixel (y, x), one behind the other, less the zero point; 0 outside the image."""
    kernel_h, kernel_w = geometry[0], geometry[1]
    left = tap_column(geometry, x, 0)
    joined = not geometry[9] and (kernel_w == 1 or (geometry[5] == 1 and pixel_pitch == channels))
    first, last = max(0, -left), min(kernel_w, width - left)
    for i in range(kernel_h):
        row = tap_row(geometry, y, i)
        here = source + row * row_pitch
        if row < 0 or row >= height or (joined and first >= last):
            _clear(target, kernel_w * channels)
        elif joined:
            _clear(target, first * channels)
            widen_run(target + 2 * first * channels, here + (left + first) * pixel_pitch, (last - first) * channels,
                      flip, shift)  # fmt: skip
            _clear(target + 2 * last * channels, (kernel_w - last) * channels)
        else:
            for j in range(kernel_w):
                column = tap_column(geometry, x, j)
                if column < 0 or column >= width:
                    _clear(target + 2 * j * channels, channels)
                else:
                    widen_run(target + 2 * j * channels, here + column * pixel_pitch, channels, flip, shift)
        target += 2 * kernel_w * channels
    put_i64(target, 0)


@kernel(types.void(
    BYTE_IMAGE, BYTE_RUN, BYTE_IMAGE_OUT, WORD_IMAGE, types.UniTuple(types.int64, 10), types.int64, types.int64,
    WORDS, WORDS, FLOATS, types.int64, types.int64, types.int64, types.int64, WORKSPACE, types.int64, types.int64,
))  # fmt: skip
def conv(src, weights, dst, partial, geometry, signs, src_zero, weight_zero, bias, multiplier, mode, zero, low, high,
         workspace, begin, end):  # fmt: skip
    """As ``matrix_vnni.conv``."""
    kernel_h, kernel_w, groups = geometry[0], geometry[1], geometry[8]
    height, width, channels = src.shape
    out_w, pixels = dst.shape[1], dst.shape[0] * dst.shape[1]
    item = 1 if mode == BYTES else (2 if mode == 1 else 4)
    n = dst.shape[2] // item // groups
    in_group = channels // groups
    k = kernel_h * kernel_w * in_group
    base = workspace.ctypes.data
    stride, at_once, columns, targets, packed, panel, _ = _layout(k, n)
    group_bytes = (n + COLUMNS - 1) // COLUMNS * ((k + 3) // 4) * 128
    (flip, shift), weight_flip = _source_sign(signs, src_zero), _weight_flip(signs)
    has_partial = partial.size > 0
    rows_at = longs_at(base + targets, at_once)
    partials_at = longs_at(base + targets + 8 * PACKED_ROWS, at_once)
    for group in range(groups):
        has_zeros = _prepare_columns(base + columns, n, group * n, weight_flip, weight_zero, bias, multiplier)
        blocks = weights.ctypes.data + group * group_bytes
        if weight_flip:
            _as_signed(base + panel, blocks, group_bytes, weight_flip)
            blocks = base + panel
        source = src.ctypes.data + group * in_group
        for first in range(begin * MAX_ROWS, min(end * MAX_ROWS, pixels), at_once):
            rows = min(at_once, min(end * MAX_ROWS, pixels) - first)
            for r in range(rows):
                y, x = divmod(first + r, out_w)
                _pack_pixel(base + packed + r * stride, source, src.strides[0], src.strides[1], height, width, in_group,
                            y, x, geometry, flip, shift)  # fmt: skip
                rows_at[r] = dst.ctypes.data + y * dst.strides[0] + x * dst.strides[1] + group * n * item
                if has_partial:
                    place = y * partial.strides[0] + x * partial.strides[1] + group * n * 4
                    partials_at[r] = partial.ctypes.data + place
            _run_rows(base, rows, blocks, k, n, has_zeros, mode, has_partial, low, high, zero)


@njit
def _pack_row(target, source, pitch, k, kind, flip, shift, transposed):
    """A row of the first operand, less the zero point."""
    if transposed:
        line = shorts_at(target, k)
        for i in range(k):
            line[i] = element(source + i * pitch, kind) - (shift - flip)
    else:
        widen_run(target, source, k, flip, shift)
    put_i64(target + 2 * k, 0)


@kernel(types.void(
    BYTE_BATCH, BYTE_BATCH, BYTE_BATCH_OUT, WORD_BATCH, types.int64, types.int64, types.int64, types.int64,
    WORDS, WORDS, FLOATS, types.int64, types.int64, types.int64, types.int64, WORKSPACE, types.int64, types.int64,
))  # fmt: skip
def matmul(a, b, dst, partial, a_transposed, b_layout, signs, a_zero, b_zero, bias, multiplier, mode, zero, low, high,
           workspace, begin, end):  # fmt: skip
    """As ``matrix_vnni.matmul``."""
    item = 1 if mode == BYTES else (2 if mode == 1 else 4)
    m, n = dst.shape[2], dst.shape[3] // item
    k = a.shape[2] if a_transposed else a.shape[3]
    base = workspace.ctypes.data
    stride, at_once, columns, targets, packed, panel, _ = _layout(k, n)
    (flip, shift), weight_flip = _source_sign(signs, a_zero), _weight_flip(signs)
    has_partial = partial.size > 0
    rows_at = longs_at(base + targets, at_once)
    partials_at = longs_at(base + targets + 8 * PACKED_ROWS, at_once)
    tiles, matrix_bytes = (m + MAX_ROWS - 1) // MAX_ROWS, (n + COLUMNS - 1) // COLUMNS * ((k + 3) // 4) * 128
    row_step, k_step = (1, a.strides[2]) if a_transposed else (a.strides[2], 1)
    has_zeros = _prepare_columns(base + columns, n, 0, weight_flip, b_zero, bias, multiplier)
    current, blocks, tile = 0, 0, begin
    while tile < end:
        batch, place = divmod(tile, tiles)
        outer, inner = divmod(batch, dst.shape[1])
        matrix = b.ctypes.data + outer * b.strides[0] + inner * b.strides[1]
        if matrix != current:
            current, blocks = matrix, base + panel
            if b_layout != BLOCKED:
                _block_columns(blocks, matrix, b.strides[2], k, n, weight_flip, b_layout == TRANSPOSED)
            elif weight_flip:
                _as_signed(blocks, matrix, matrix_bytes, weight_flip)
            else:
                blocks = matrix
        first = place * MAX_ROWS
        rows = min(at_once, m - first, (end - tile) * MAX_ROWS)
        source = a.ctypes.data + outer * a.strides[0] + inner * a.strides[1] + first * row_step
        target = dst.ctypes.data + outer * dst.strides[0] + inner * dst.strides[1] + first * dst.strides[2]
        addend = 0
        if has_partial:
            addend = partial.ctypes.data + outer * partial.strides[0] + inner * partial.strides[1]
            addend += first * partial.strides[2]
        for r in range(rows):
            _pack_row(base + packed + r * stride, source + r * row_step, k_step, k, signs & 1, flip, shift,
                      a_transposed)  # fmt: skip
            rows_at[r] = target + r * dst.strides[2]
            partials_at[r] = addend + r * partial.strides[2]
        _run_rows(base, rows, blocks, k, n, has_zeros, mode, has_partial, low, high, zero)
        tile += (rows + MAX_ROWS - 1) // MAX_ROWS
