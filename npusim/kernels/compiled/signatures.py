"""The numba types that kernels are compiled for: one for each role, so that no kernel is compiled twice.

Used in the signatures of the modules beside it. Inputs are read-only and of any layout, which accepts every array.
"""

from __future__ import annotations

from numba import types

BYTE_IMAGE = types.Array(types.uint8, 3, "A", readonly=True)
BYTE_IMAGE_OUT = types.Array(types.uint8, 3, "A")
WORD_IMAGE = types.Array(types.int32, 3, "A", readonly=True)
BYTE_BATCH = types.Array(types.uint8, 4, "A", readonly=True)
BYTE_BATCH_OUT = types.Array(types.uint8, 4, "A")
WORD_BATCH = types.Array(types.int32, 4, "A", readonly=True)
BYTE_RUN = types.Array(types.uint8, 1, "C", readonly=True)
WORDS = types.Array(types.int32, 1, "A", readonly=True)
FLOATS = types.Array(types.float32, 1, "A", readonly=True)
WORKSPACE = types.Array(types.uint8, 1, "C")
BYTE_ROWS = types.Array(types.uint8, 2, "A", readonly=True)
BYTE_ROWS_OUT = types.Array(types.uint8, 2, "A")
UNSIGNED_WORDS = types.Array(types.uint32, 1, "A", readonly=True)
