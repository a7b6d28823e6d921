"""What the tests of meaning share: random operands, and the real numbers behind integers."""

from __future__ import annotations

import numpy as np
import pytest

from isa.dtypes import DType

TYPES = {np.dtype(t): d for t, d in ((np.int8, DType.S8), (np.uint8, DType.U8), (np.int16, DType.S16),
                                     (np.uint16, DType.U16), (np.int32, DType.S32))}  # fmt: skip
DECIMAL = (0.01, 0.02, 0.025, 0.05, 0.1, 0.25)
S8, U8, S16, U16 = np.int8, np.uint8, np.int16, np.uint16

each_seed = pytest.mark.parametrize("seed", range(8))
each_byte = pytest.mark.parametrize("dtype", [U8, S8])
each_type = pytest.mark.parametrize("dtype", [U8, S8, U16, S16])


def scale_of(rng):
    return np.float32((rng.choice(DECIMAL), 2.0 ** rng.integers(-7, -1), rng.uniform(0.01, 0.3))[rng.integers(3)])


def integers(rng, dtype, shape):
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


def zero_of(rng, dtype):
    info = np.iinfo(dtype)
    return dtype(rng.choice([info.min, (info.min + info.max + 1) // 2, rng.integers(info.min, info.max)]))


def head(dtype, **more):
    info = np.iinfo(dtype)
    return {"low": int(info.min), "high": int(info.max)} | {
        k: int(v) if k.startswith("zero") else v for k, v in more.items()
    }


def rounded(real, scale, zero, dtype):
    """The real numbers through QuantizeLinear in float64: one division, half to even."""
    info = np.iinfo(dtype)
    return np.clip(np.rint(real / np.float64(scale)) + int(zero), info.min, info.max).astype(np.int64)


def real(q, scale, zero):
    return (q.astype(np.float64) - int(zero)) * np.float64(scale)


def dequantized(q, scale, zero):
    """What DequantizeLinear makes of integers, as float64: the reals that the law's expressions start from."""
    return np.float64((q.astype(np.int64) - int(zero)).astype(np.float32) * np.float32(scale))


def through_quantize_linear(ort, exact, scale, zero, dtype):
    """The real numbers through onnxruntime's QuantizeLinear."""
    return ort("QuantizeLinear", {"x": exact.astype(np.float32), "s": scale, "z": dtype(zero)}, out_type=dtype)


def assert_near(got, want, per_million):
    """At most ``per_million`` of the integers differ, each by 1."""
    difference = np.abs(got.astype(np.int64) - want)
    assert difference.max(initial=0) <= 1
    assert np.count_nonzero(difference) <= per_million * got.size / 1e6
