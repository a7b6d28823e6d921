"""Which source pixel lies under a kernel position, for convolutions and transposed ones.

Called by the convolution drivers. ``geometry`` is the tuple (kernel rows, columns, stride of rows, columns, dilation of
rows, columns, pad top, left, groups, transposed).
"""

from __future__ import annotations

from numba import njit


@njit
def tap_row(geometry, y, i):
    """The source row under kernel row ``i`` of destination row ``y``; negative or beyond the image for none."""
    _, _, stride, _, dilation, _, pad, _, _, transposed = geometry
    if transposed:
        return _upsampled(y + pad - i * dilation, stride)
    return y * stride - pad + i * dilation


@njit
def tap_column(geometry, x, j):
    """The source column under kernel column ``j`` of destination column ``x``; see ``tap_row``."""
    _, _, _, stride, _, dilation, _, pad, _, transposed = geometry
    if transposed:
        return _upsampled(x + pad - j * dilation, stride)
    return x * stride - pad + j * dilation


@njit
def _upsampled(position, stride):
    """The source index that a transposed convolution puts at ``position``; -1 between two of them."""
    if position < 0 or position % stride:
        return -1
    return position // stride
