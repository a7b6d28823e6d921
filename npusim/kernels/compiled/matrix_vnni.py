"""Matmul and convolution with ``vpdpbusd``: packing and the loops over tiles.

Called by ``npusim.kernels.matmul`` and ``.conv`` on the VNNI tier, operands checked. Activations are packed a tile of
rows at a time into the workspace; blocked weights are read where they lie.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from ..tier import VNNI_FEATURES
from .build import kernel, require_features
from .deliver import deliver
from .geometry import tap_column, tap_row
from .memory import (
    bytes_at,
    copy,
    copy_runs,
    fill,
    floats_at,
    interleave_rows,
    longs_at,
    put_i32,
    signed_bytes_at,
    transpose_words,
    words_at,
)  # fmt: skip
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
from .tile import COLUMNS, MAX_ROWS, multiply_su, multiply_us, tile_height
from .workspace import COLUMN, COLUMN_BYTES, DST, PARTIAL, SCRATCH, SUMS

require_features(VNNI_FEATURES)

BYTES = 0
"""Destination mode that the tile itself requantizes; see ``deliver`` for the others."""


@njit
def _multiply(unsigned_rows, rows, work):
    if unsigned_rows:
        multiply_us(rows, work)
    else:
        multiply_su(rows, work)


@njit
def _sign_change(signs, src_zero):
    """What to xor the source bytes with so that one operand is signed and the other not, and their zero point then."""
    if signs == 0:
        return 128, src_zero - 128
    if signs == 3:
        return 128, src_zero + 128
    return 0, src_zero


@njit
def row_stride(k):
    """Bytes from one packed row to the next: whole cache lines, an odd number so that rows spread over cache sets."""
    return (((k + 63) // 64) | 1) * 64


@njit
def _prepare_parameters(base, n, first, k, src_zero, weight_zero, bias, multiplier):
    """Fill what the columns have apart from weights; the first of ``n`` is ``first`` in the parameter arrays.

    Returns whether any weight zero point is not 0, in which case the tiles subtract ``row sum * weight_zero`` too.
    """
    padded = (n + COLUMNS - 1) // COLUMNS * COLUMNS
    zeros = words_at(base + COLUMN + 4 * padded, padded)
    scales = floats_at(base + COLUMN + 8 * padded, padded)
    starts = words_at(base + COLUMN + 16 * padded, padded)
    zeros[:] = 0
    scales[:] = 0
    starts[:] = 0
    has_zeros = False
    for j in range(n):
        zero = weight_zero[0] if weight_zero.size == 1 else weight_zero[first + j]
        has_zeros |= zero != 0
        term = np.int32(0) if bias.size == 0 else bias[first + j]
        starts[j] = np.int32(term + k * src_zero * zero)
        zeros[j] = zero
        scales[j] = multiplier[0] if multiplier.size == 1 else multiplier[first + j]
    return has_zeros


@njit
def _prepare_weights(base, n, k, weights, unsigned_rows, src_zero):
    """Start values of the columns: ``bias + k * src_zero * weight_zero - src_zero * sum(w)``."""
    blocks = (n + COLUMNS - 1) // COLUMNS
    padded = blocks * COLUMNS
    terms = words_at(base + COLUMN, padded)
    starts = words_at(base + COLUMN + 16 * padded, padded)
    if src_zero == 0:
        for j in range(padded):
            terms[j] = starts[j]
        return
    steps = (k + 3) // 4
    sums = base + COLUMN + 12 * padded
    ones = base + COLUMN + 20 * padded
    row = bytes_at(ones, 4 * steps)
    for i in range(4 * steps):
        row[i] = i < k
    terms[:] = 0
    work = (ones, 0, weights, steps, blocks, base + COLUMN, 0, 0, 0, 0, 0, np.float32(0), np.float32(0), 0, sums)
    _multiply(unsigned_rows, 1, work)
    totals, factor = words_at(sums, padded), np.int32(src_zero)
    for j in range(padded):
        terms[j] = np.int32(starts[j] - np.int32(factor * totals[j]))


@njit
def run_tile(base, rows, packed, stride, weights, k, n, unsigned_rows, has_zeros, mode, partial, low, high, zero):
    """Multiply one packed tile with all column blocks and write its rows to the addresses in ``DST``."""
    blocks = (n + COLUMNS - 1) // COLUMNS
    steps = (k + 3) // 4
    column = base + COLUMN
    zeros, scales, sink = column + 128 * blocks, column + 256 * blocks, column + 384 * blocks
    sums = 0
    if has_zeros:
        sums = base + SUMS
        for r in range(rows):
            total = np.int32(0)
            if unsigned_rows:
                for value in bytes_at(packed + r * stride, k):
                    total += np.int32(value)
            else:
                for value in signed_bytes_at(packed + r * stride, k):
                    total += np.int32(value)
            put_i32(sums + 4 * r, total)
    floor, ceiling = np.float32(low - zero), np.float32(high - zero)
    if mode == BYTES and not partial:
        targets = longs_at(base + DST, MAX_ROWS)
        for r in range(rows, tile_height(rows)):
            targets[r] = sink
        work = (packed, stride, weights, steps, blocks, column, sums, zeros, scales, base + DST, n, floor, ceiling,
                zero, 0)  # fmt: skip
        _multiply(unsigned_rows, rows, work)
        return
    for block in range(blocks):
        ahead = 128 * block
        work = (packed, stride, weights + ahead * steps, steps, 1, column + ahead, sums, zeros + ahead, scales + ahead,
                0, 0, floor, ceiling, zero, base + SCRATCH)  # fmt: skip
        _multiply(unsigned_rows, rows, work)
        count = min(COLUMNS, n - COLUMNS * block)
        deliver(base, rows, count, block * COLUMNS, scales + ahead, mode, partial, low, high, zero)


@njit
def _pack_pixel(target, source, row_pitch, pixel_pitch, height, width, channels, y, x, geometry, padding, flip):
    """The taps of output pixel (y, x), one behind the other; those outside the image read as ``padding``."""
    kernel_h, kernel_w, dilation_w, transposed = geometry[0], geometry[1], geometry[5], geometry[9]
    left = tap_column(geometry, x, 0)
    whole = not transposed and left >= 0 and left + (kernel_w - 1) * dilation_w < width
    for i in range(kernel_h):
        row = tap_row(geometry, y, i)
        here = source + row * row_pitch
        if row < 0 or row >= height:
            fill(target, kernel_w * channels, padding)
        elif whole:
            copy_runs(target, channels, here + left * pixel_pitch, dilation_w * pixel_pitch, kernel_w, channels, flip)
        else:
            for j in range(kernel_w):
                column = tap_column(geometry, x, j)
                if column < 0 or column >= width:
                    fill(target + j * channels, channels, padding)
                else:
                    copy(target + j * channels, here + column * pixel_pitch, channels, flip)
        target += kernel_w * channels
    put_i32(target, 0)


@njit
def _inner_range(size, kernel, stride, dilation, pad):
    """First and last output index whose taps all lie in ``size`` source indices."""
    return (pad + stride - 1) // stride, (size - 1 - (kernel - 1) * dilation + pad) // stride


@kernel(types.void(
    BYTE_IMAGE, BYTE_RUN, BYTE_IMAGE_OUT, WORD_IMAGE, types.UniTuple(types.int64, 10), types.int64, types.int64,
    WORDS, WORDS, FLOATS, types.int64, types.int64, types.int64, types.int64, WORKSPACE, types.int64, types.int64,
))  # fmt: skip
def conv(src, weights, dst, partial, geometry, signs, src_zero, weight_zero, bias, multiplier, mode, zero, low, high,
         workspace, begin, end):  # fmt: skip
    """Convolve output pixels in tiles ``begin`` to ``end`` of ``MAX_ROWS``.

    Args:
        src: uint8 view [h, w, c].
        weights: blocked.
        dst: uint8 view [oh, ow, oc * item bytes].
        partial: int32 [oh, ow, oc], or of size 0.
        geometry: see ``geometry``.
        signs: 1 if the source is signed, plus 2 if the weights are.
        src_zero: as the source's type reads it.
        begin: first tile.
        end: tile after the last.
    """
    kernel_h, kernel_w, groups = geometry[0], geometry[1], geometry[8]
    height, width, channels = src.shape
    out_h, out_w = dst.shape[0], dst.shape[1]
    item = 1 if mode == BYTES else (2 if mode == 1 else 4)
    n = dst.shape[2] // item // groups
    in_group = channels // groups
    k = kernel_h * kernel_w * in_group
    unsigned_rows = signs & 2 != 0
    flip, src_zero = _sign_change(signs, src_zero)
    base = workspace.ctypes.data
    blocks = (n + COLUMNS - 1) // COLUMNS
    group_bytes = blocks * ((k + 3) // 4) * 128
    stride = row_stride(k)
    packed = (base + COLUMN + COLUMN_BYTES * COLUMNS * blocks + stride + 64) & ~63
    row_pitch, pixel_pitch = src.strides[0], src.strides[1]
    has_partial = partial.size > 0
    targets, partials = longs_at(base + DST, MAX_ROWS), longs_at(base + PARTIAL, MAX_ROWS)
    # Output pixels whose taps all exist and form one run per kernel row are packed by one copy.
    first_y, last_y = _inner_range(height, kernel_h, geometry[2], geometry[4], geometry[6])
    first_x, last_x = _inner_range(width, kernel_w, geometry[3], geometry[5], geometry[7])
    if geometry[9] or (kernel_w > 1 and (geometry[5] > 1 or pixel_pitch != in_group)):
        last_y = -1
    for group in range(groups):
        panel = weights.ctypes.data + group * group_bytes
        has_zeros = _prepare_parameters(base, n, group * n, k, src_zero, weight_zero, bias, multiplier)
        _prepare_weights(base, n, k, panel, unsigned_rows, src_zero)
        source = src.ctypes.data + group * in_group
        for tile in range(begin, end):
            rows = min(MAX_ROWS, out_h * out_w - tile * MAX_ROWS)
            y, x = divmod(tile * MAX_ROWS, out_w)
            for r in range(rows):
                if first_y <= y <= last_y and first_x <= x <= last_x:
                    corner = (y * geometry[2] - geometry[6]) * row_pitch + (x * geometry[3] - geometry[7]) * pixel_pitch
                    run = kernel_w * in_group
                    copy_runs(packed + r * stride, run, source + corner, geometry[4] * row_pitch, kernel_h, run, flip)
                    put_i32(packed + r * stride + k, 0)
                else:
                    _pack_pixel(packed + r * stride, source, row_pitch, pixel_pitch, height, width, in_group, y, x,
                                geometry, src_zero, flip)  # fmt: skip
                targets[r] = dst.ctypes.data + y * dst.strides[0] + x * dst.strides[1] + group * n * item
                if has_partial:
                    partials[r] = partial.ctypes.data + y * partial.strides[0] + x * partial.strides[1] + group * n * 4
                x += 1
                if x == out_w:
                    y, x = y + 1, 0
            run_tile(base, rows, packed, stride, panel, k, n, unsigned_rows, has_zeros, mode, has_partial,
                     low, high, zero)  # fmt: skip


ROW_MAJOR, TRANSPOSED, BLOCKED = 0, 1, 2
"""Layouts of the second operand of a matmul, as the instruction numbers them."""


@njit
def _pack_columns(target, source, stride, k, n, transposed):
    """Bring a row-major or transposed second operand into blocks."""
    steps = (k + 3) // 4
    for block in range((n + COLUMNS - 1) // COLUMNS):
        count = min(COLUMNS, n - block * COLUMNS)
        panel = target + block * steps * 128
        if transposed:
            for half in range(2):
                present = count - 16 * half
                rows = source + (block * COLUMNS + 16 * half) * stride
                for chunk in range(0, k, 64):
                    transpose_words(panel + 32 * chunk + 64 * half, rows + chunk, stride, present, min(64, k - chunk))
        else:
            for step in range(steps):
                rows = source + 4 * step * stride + block * COLUMNS
                interleave_rows(panel + 128 * step, rows, stride, k - 4 * step, count)


@njit
def _pack_transposed(packed, stride, source, pitch, rows, k, flip):
    """Rows of a matrix that is stored by columns."""
    target = bytes_at(packed, MAX_ROWS * stride)
    target[:] = 0
    for i in range(k):
        column = bytes_at(source + i * pitch, rows)
        for r in range(rows):
            target[r * stride + i] = column[r] ^ np.uint8(flip)


@kernel(types.void(
    BYTE_BATCH, BYTE_BATCH, BYTE_BATCH_OUT, WORD_BATCH, types.int64, types.int64, types.int64, types.int64,
    WORDS, WORDS, FLOATS, types.int64, types.int64, types.int64, types.int64, WORKSPACE, types.int64, types.int64,
))  # fmt: skip
def matmul(a, b, dst, partial, a_transposed, b_layout, signs, a_zero, b_zero, bias, multiplier, mode, zero, low, high,
           workspace, begin, end):  # fmt: skip
    """Multiply the tiles ``begin`` to ``end`` of all matrices, counted through the batch.

    Args:
        a: uint8 view [b0, b1, m, k], or [b0, b1, k, m] where ``a_transposed``.
        b: uint8 view [b0, b1, k, n], [b0, b1, n, k], or blocked [b0, b1, 1, bytes]; batch strides may be 0.
        dst: uint8 view [b0, b1, m, n * item bytes].
        partial: int32 [b0, b1, m, n], or of size 0.
    """
    item = 1 if mode == BYTES else (2 if mode == 1 else 4)
    m, n = dst.shape[2], dst.shape[3] // item
    k = a.shape[2] if a_transposed else a.shape[3]
    unsigned_rows = signs & 2 != 0
    flip, a_zero = _sign_change(signs, a_zero)
    base = workspace.ctypes.data
    blocks = (n + COLUMNS - 1) // COLUMNS
    stride = row_stride(k)
    packed = (base + COLUMN + COLUMN_BYTES * COLUMNS * blocks + stride + 64) & ~63
    own_panel = packed + MAX_ROWS * stride + 64
    has_partial = partial.size > 0
    targets, partials = longs_at(base + DST, MAX_ROWS), longs_at(base + PARTIAL, MAX_ROWS)
    tiles = (m + MAX_ROWS - 1) // MAX_ROWS
    current, panel = 0, 0
    has_zeros = _prepare_parameters(base, n, 0, k, a_zero, b_zero, bias, multiplier)
    for index in range(begin, end):
        batch, tile = divmod(index, tiles)
        outer, inner = divmod(batch, dst.shape[1])
        matrix = b.ctypes.data + outer * b.strides[0] + inner * b.strides[1]
        if matrix != current:
            current = panel = matrix
            if b_layout != BLOCKED:
                panel = own_panel
                _pack_columns(panel, matrix, b.strides[2], k, n, b_layout == TRANSPOSED)
            _prepare_weights(base, n, k, panel, unsigned_rows, a_zero)
        first = tile * MAX_ROWS
        rows = min(MAX_ROWS, m - first)
        source = a.ctypes.data + outer * a.strides[0] + inner * a.strides[1]
        if a_transposed:
            _pack_transposed(packed, stride, source + first, a.strides[2], rows, k, flip)
        else:
            copy_runs(packed, stride, source + first * a.strides[2], a.strides[2], rows, k, flip)
        target = dst.ctypes.data + outer * dst.strides[0] + inner * dst.strides[1] + first * dst.strides[2]
        for r in range(rows):
            targets[r] = target + r * dst.strides[2]
        if has_partial:
            addend = partial.ctypes.data + outer * partial.strides[0] + inner * partial.strides[1]
            for r in range(rows):
                partials[r] = addend + (first + r) * partial.strides[2]
        run_tile(base, rows, packed, stride, panel, k, n, unsigned_rows, has_zeros, mode, has_partial,
                 low, high, zero)  # fmt: skip
