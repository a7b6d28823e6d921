"""Where the matrix drivers keep what they pack: the sections of a workspace, from its 64-byte aligned start.

Imported by the drivers, and by the public kernels to size the workspace. Imports nothing: no numba needed.
"""

SCRATCH = 0
"""int64[14][32]: accumulators on their way to another destination than requantised bytes."""
DST = SCRATCH + 14 * 32 * 8
"""int64[16]: addresses of the tile's destination rows."""
PARTIAL = DST + 16 * 8
"""int64[16]: addresses of its rows of partial accumulators."""
SUMS = PARTIAL + 16 * 8
"""int32[16]: sums of its packed rows."""
SINK = SUMS + 16 * 4
"""Where rows beyond the last are stored."""
COLUMN = SINK + 64
"""Then, for n rounded up to 32: start values int32[n], weight zeros int32[n], multipliers float32[n], column sums
int32[n], a row of ones, packed rows, packed columns."""
