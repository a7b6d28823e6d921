"""Matmul and convolution by pairs of 16-bit products, as any CPU can multiply and add them.

Called by ``npusim.kernels.matmul`` and ``.conv`` on the portable tier, operands checked. Both operands are widened to
i16 less their zero points while they are packed, so that no correction terms remain.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from .build import kernel
from .convert import element, widen
from .deliver import deliver
from .geometry import tap_column, tap_row
from .memory import bytes_at, floats_at, longs_at, shorts_at, signed_bytes_at, words_at
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
from .tile import COLUMNS, MAX_ROWS, multiply_pairs, tile_height
from .workspace import COLUMN, COLUMN_BYTES, DST, PARTIAL, SCRATCH

BYTES = 0


@njit
def row_stride(k):
    """Bytes from one packed row of i16 to the next."""
    return (((2 * k + 63) // 64) | 1) * 64


@njit
def _prepare_columns(base, n, first, bias, multiplier):
    """Start values and multipliers of ``n`` columns, the first being ``first`` of the parameter arrays."""
    padded = (n + COLUMNS - 1) // COLUMNS * COLUMNS
    terms = words_at(base + COLUMN, padded)
    scales = floats_at(base + COLUMN + 4 * padded, padded)
    terms[:] = 0
    scales[:] = 0
    for j in range(n):
        if bias.size:
            terms[j] = bias[first + j]
        scales[j] = multiplier[0] if multiplier.size == 1 else multiplier[first + j]


@njit
def _run_tile(base, rows, packed, stride, panel, k, n, mode, partial, low, high, zero):
    """Multiply one packed tile with all column blocks and write its rows to the addresses in ``DST``."""
    blocks = (n + COLUMNS - 1) // COLUMNS
    steps = (k + 1) // 2
    column = base + COLUMN
    scales = column + 128 * blocks
    floor, ceiling = np.float32(low - zero), np.float32(high - zero)
    if mode == BYTES and not partial:
        targets = longs_at(base + DST, MAX_ROWS)
        for r in range(rows, tile_height(rows)):
            targets[r] = scales + 128 * blocks
        work = (packed, stride, panel, steps, blocks, column, 0, 0, scales, base + DST, n, floor, ceiling, zero, 0)
        multiply_pairs(rows, work)
        return
    for block in range(blocks):
        ahead = 128 * block
        work = (packed, stride, panel + ahead * steps, steps, 1, column + ahead, 0, 0, scales + ahead, 0, 0,
                floor, ceiling, zero, base + SCRATCH)  # fmt: skip
        multiply_pairs(rows, work)
        count = min(COLUMNS, n - COLUMNS * block)
        deliver(base, rows, count, block * COLUMNS, scales + ahead, mode, partial, low, high, zero)


@njit
def _zero_point(zeros, index):
    return zeros[0] if zeros.size == 1 else zeros[index]


@njit
def _unblock_quad(source, even, odd, zeros):
    """32 columns of four K to pairs: the first two K of each column to ``even``, the others to ``odd``."""
    for j in range(COLUMNS):
        zero = zeros[j]
        even[2 * j] = np.int16(source[4 * j]) - zero
        even[2 * j + 1] = np.int16(source[4 * j + 1]) - zero
        odd[2 * j] = np.int16(source[4 * j + 2]) - zero
        odd[2 * j + 1] = np.int16(source[4 * j + 3]) - zero


@njit
def _unblock(target, weights, k, n, kind, zeros, first):
    """Blocks of bytes ``[k/4][32][4]`` to panels of pairs ``[k/2][32][2]`` of i16, less the zero points.

    What lies behind the last K or column is not zero: rows are 0 there, and such columns are not stored.
    """
    quads, steps = (k + 3) // 4, (k + 1) // 2
    column_zeros, spare = np.zeros(COLUMNS, np.int16), np.empty(2 * COLUMNS, np.int16)
    for block in range((n + COLUMNS - 1) // COLUMNS):
        for j in range(min(COLUMNS, n - COLUMNS * block)):
            column_zeros[j] = _zero_point(zeros, first + block * COLUMNS + j)
        for quad in range(quads):
            source = weights + (block * quads + quad) * 128
            place = target + (block * steps + 2 * quad) * 128
            even = shorts_at(place, 2 * COLUMNS)
            odd = shorts_at(place + 128, 2 * COLUMNS) if 2 * quad + 1 < steps else spare
            if kind == 0:
                _unblock_quad(bytes_at(source, 128), even, odd, column_zeros)
            else:
                _unblock_quad(signed_bytes_at(source, 128), even, odd, column_zeros)


@njit
def _pair_rows(pairs, even, odd, zeros, count, has_odd):
    for j in range(count):
        pairs[2 * j] = np.int16(even[j]) - zeros[j]
        pairs[2 * j + 1] = np.int16(odd[j]) - zeros[j] if has_odd else np.int16(0)


@njit
def _pair_column(pairs, source, zero, k):
    for i in range(k // 2):
        pairs[64 * i] = np.int16(source[2 * i]) - zero
        pairs[64 * i + 1] = np.int16(source[2 * i + 1]) - zero
    if k % 2:
        pairs[64 * (k // 2)] = np.int16(source[k - 1]) - zero


@njit
def _pack_columns(target, source, stride, k, n, kind, zeros, transposed):
    """A row-major or transposed second operand to panels of pairs, less the zero points."""
    steps = (k + 1) // 2
    column_zeros = np.zeros(COLUMNS, np.int16)
    for block in range((n + COLUMNS - 1) // COLUMNS):
        count = min(COLUMNS, n - COLUMNS * block)
        place = target + block * steps * 128
        for j in range(count):
            column_zeros[j] = _zero_point(zeros, block * COLUMNS + j)
        if transposed:
            for j in range(count):
                pairs = shorts_at(place + 4 * j, steps * 64)
                column = source + (block * COLUMNS + j) * stride
                if kind == 0:
                    _pair_column(pairs, bytes_at(column, k), column_zeros[j], k)
                else:
                    _pair_column(pairs, signed_bytes_at(column, k), column_zeros[j], k)
        else:
            for step in range(steps):
                pairs = shorts_at(place + step * 128, 64)
                even = source + 2 * step * stride + block * COLUMNS
                has_odd = 2 * step + 1 < k
                odd = even + stride if has_odd else even
                if kind == 0:
                    _pair_rows(pairs, bytes_at(even, count), bytes_at(odd, count), column_zeros, count, has_odd)
                else:
                    rows = signed_bytes_at(even, count), signed_bytes_at(odd, count)
                    _pair_rows(pairs, rows[0], rows[1], column_zeros, count, has_odd)


@njit
def _pack_pixel(target, source, row_pitch, pixel_pitch, height, width, channels, y, x, geometry, kind, zero):
    """The taps of output pixel (y, x), one behind the other, less the zero point; 0 outside the image."""
    kernel_h, kernel_w = geometry[0], geometry[1]
    for i in range(kernel_h):
        row = tap_row(geometry, y, i)
        for j in range(kernel_w):
            column = tap_column(geometry, x, j)
            run = shorts_at(target, channels)
            if row < 0 or row >= height or column < 0 or column >= width:
                run[:] = 0
            else:
                widen(run, source + row * row_pitch + column * pixel_pitch, channels, kind, zero)
            target += 2 * channels
    shorts_at(target, 1)[0] = 0


@kernel(types.void(
    BYTE_IMAGE, BYTE_RUN, BYTE_IMAGE_OUT, WORD_IMAGE, types.UniTuple(types.int64, 10), types.int64, types.int64,
    WORDS, WORDS, FLOATS, types.int64, types.int64, types.int64, types.int64, WORKSPACE, types.int64, types.int64,
))  # fmt: skip
def conv(src, weights, dst, partial, geometry, signs, src_zero, weight_zero, bias, multiplier, mode, zero, low, high,
         workspace, begin, end):  # fmt: skip
    """As ``matrix_vnni.conv``."""
    kernel_h, kernel_w, groups = geometry[0], geometry[1], geometry[8]
    height, width, channels = src.shape
    out_h, out_w = dst.shape[0], dst.shape[1]
    item = 1 if mode == BYTES else (2 if mode == 1 else 4)
    n = dst.shape[2] // item // groups
    in_group = channels // groups
    k = kernel_h * kernel_w * in_group
    base = workspace.ctypes.data
    blocks = (n + COLUMNS - 1) // COLUMNS
    group_bytes = blocks * ((k + 3) // 4) * 128
    stride = row_stride(k)
    packed = base + COLUMN + COLUMN_BYTES * COLUMNS * blocks
    panel = packed + MAX_ROWS * stride + 64
    has_partial = partial.size > 0
    targets, partials = longs_at(base + DST, MAX_ROWS), longs_at(base + PARTIAL, MAX_ROWS)
    for group in range(groups):
        _prepare_columns(base, n, group * n, bias, multiplier)
        _unblock(panel, weights.ctypes.data + group * group_bytes, k, n, (signs >> 1) & 1, weight_zero, group * n)
        source = src.ctypes.data + group * in_group
        for tile in range(begin, end):
            rows = min(MAX_ROWS, out_h * out_w - tile * MAX_ROWS)
            for r in range(rows):
                y, x = divmod(tile * MAX_ROWS + r, out_w)
                _pack_pixel(packed + r * stride, source, src.strides[0], src.strides[1], height, width, in_group, y, x,
                            geometry, signs & 1, src_zero)  # fmt: skip
                targets[r] = dst.ctypes.data + y * dst.strides[0] + x * dst.strides[1] + group * n * item
                if has_partial:
                    partials[r] = partial.ctypes.data + y * partial.strides[0] + x * partial.strides[1] + group * n * 4
            _run_tile(base, rows, packed, stride, panel, k, n, mode, has_partial, low, high, zero)


@njit
def _pack_rows(packed, stride, source, row_pitch, k, rows, kind, zero, transposed):
    """Rows of the first operand, less the zero point."""
    for r in range(rows):
        line = shorts_at(packed + r * stride, k + 1)
        if transposed:
            for i in range(k):
                line[i] = element(source + i * row_pitch + r, kind) - zero
        else:
            widen(line, source + r * row_pitch, k, kind, zero)
        line[k] = 0


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
    blocks = (n + COLUMNS - 1) // COLUMNS
    stride = row_stride(k)
    packed = base + COLUMN + COLUMN_BYTES * COLUMNS * blocks
    panel = packed + MAX_ROWS * stride + 64
    has_partial = partial.size > 0
    targets, partials = longs_at(base + DST, MAX_ROWS), longs_at(base + PARTIAL, MAX_ROWS)
    tiles = (m + MAX_ROWS - 1) // MAX_ROWS
    _prepare_columns(base, n, 0, bias, multiplier)
    current = 0
    for index in range(begin, end):
        batch, tile = divmod(index, tiles)
        outer, inner = divmod(batch, dst.shape[1])
        matrix = b.ctypes.data + outer * b.strides[0] + inner * b.strides[1]
        if matrix != current:
            current = matrix
            if b_layout == 2:
                _unblock(panel, matrix, k, n, (signs >> 1) & 1, b_zero, 0)
            else:
                _pack_columns(panel, matrix, b.strides[2], k, n, (signs >> 1) & 1, b_zero, b_layout == 1)
        first = tile * MAX_ROWS
        rows = min(MAX_ROWS, m - first)
        source = a.ctypes.data + outer * a.strides[0] + inner * a.strides[1]
        _pack_rows(packed, stride, source + (first if a_transposed else first * a.strides[2]), a.strides[2], k, rows,
                   signs & 1, a_zero, a_transposed)  # fmt: skip
        target = dst.ctypes.data + outer * dst.strides[0] + inner * dst.strides[1] + first * dst.strides[2]
        for r in range(rows):
            targets[r] = target + r * dst.strides[2]
        if has_partial:
            addend = partial.ctypes.data + outer * partial.strides[0] + inner * partial.strides[1]
            for r in range(rows):
                partials[r] = addend + (first + r) * partial.strides[2]
        _run_tile(base, rows, packed, stride, panel, k, n, mode, has_partial, low, high, zero)
