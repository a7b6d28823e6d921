"""Where the matrix drivers keep what they pack: the sections of a workspace, from its 64-byte aligned start.

Imported by the drivers, and by the public kernels to size the workspace. Imports nothing: no numba needed.
"""

SCRATCH = 0
"""int64[14][32]: accumulators on their way to another destination than requantized bytes."""
DST = SCRATCH + 14 * 32 * 8
"""int64[16]: addresses of the tile's destination rows."""
PARTIAL = DST + 16 * 8
"""int64[16]: addresses of its rows of partial accumulators."""
SUMS = PARTIAL + 16 * 8
"""int32[16]: sums of its packed rows."""
COLUMN = SUMS + 16 * 4
"""Then, for n rounded up to 32: int32[n] start values of the current columns, int32[n] weight zeros, float32[n]
multipliers, int32[n] column sums (later where rows beyond the last are stored), int32[n] start values without the sums;
behind them a row of ones, packed rows, packed columns."""
COLUMN_BYTES = 20
"""Of these, for each column."""


PACKED_BYTES = 160 << 10
"""Room for packed rows of the portable tier: a good part of a level-2 cache, so that a block of columns, which lies in
the level-1 cache meanwhile, is fetched once for many rows."""
PACKED_ROWS = 96
"""Rows packed at a time at most, a multiple of the tile's height."""
TILE_ROWS = 6
"""Rows of the portable tier's tile."""


def portable_layout(k: int, n: int) -> tuple[int, ...]:
    """Where the portable drivers keep what they pack, for ``k`` products and ``n`` columns.

    Returns:
        Bytes from a packed row to the next, rows packed at a time, and the offsets of: start values, weight zeros and
        multipliers, each of 4 bytes for n rounded up to 32; int64[PACKED_ROWS] addresses of destination rows and of
        rows of partial accumulators, int32[PACKED_ROWS] row sums; packed rows; packed columns; the end.
    """
    stride = (((2 * k + 8 + 63) // 64) | 1) * 64  # whole cache lines, an odd number: rows spread over cache sets
    rows = min(max(PACKED_BYTES // stride // TILE_ROWS, 1) * TILE_ROWS, PACKED_ROWS)
    columns = COLUMN
    targets = columns + 12 * 32 * ((n + 31) // 32)
    packed = targets + 20 * PACKED_ROWS
    panel = packed + rows * stride + 64
    return stride, rows, columns, targets, packed, panel, panel + (n + 31) // 32 * ((k + 3) // 4) * 128


def depthwise_layout(channels: int, taps: int) -> tuple[int, ...]:
    """Where the portable depthwise convolution keeps what it prepares.

    Returns:
        Bytes from a pair of kernel positions to the next, and the offsets of: int32 start values and sums, for channels
        rounded up to 32; int64 addresses of the pixels, one for each position and one more; a pixel of padding;
        weights, two i16 for each channel and pair; the end.
    """
    pitch = (channels + 31) // 32 * 128
    places = 2 * pitch
    padding = places + 8 * taps + 8
    pairs = (padding + channels + 63) // 64 * 64
    return pitch, 0, pitch, places, padding, pairs, pairs + (taps + 1) // 2 * pitch
