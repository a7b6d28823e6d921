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
