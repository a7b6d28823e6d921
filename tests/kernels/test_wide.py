"""Products of 16-bit operands equal whole-number arithmetic, at the ends of the types too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isa.instructions.matrix import block_weights
from npusim import kernels
from npusim.kernels import wide

BYTES, SHORTS = ("u1", "i1"), ("u2", "i2")
TYPES = [(a, b) for a in BYTES + SHORTS for b in BYTES + SHORTS if a in SHORTS or b in SHORTS]


def integers(rng, dtype, shape, extreme):
    """Any values of a type, or its ends only."""
    info = np.iinfo(dtype)
    if extreme:
        return rng.choice(np.array([info.min, info.max], dtype), shape)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize("tier", kernels.available(), ids=lambda tier: tier.value)
@pytest.mark.parametrize(("a_type", "b_type"), TYPES)
def test_matmul_equals_whole_number_arithmetic(tier, a_type, b_type):
    @settings(max_examples=max(10, settings().max_examples // 10))
    @given(st.integers(0, 2**32), st.booleans(), st.sampled_from(["row_major", "transposed"]))
    def check(seed, extreme, layout):
        rng = np.random.default_rng(seed)
        m, k, n = (int(x) for x in rng.integers(1, 40, 3))
        a, b = integers(rng, a_type, (m, k), extreme), integers(rng, b_type, (k, n), extreme)
        a_zero = int(integers(rng, a_type, (), extreme))
        b_zero = integers(rng, "i1", n, extreme).astype(np.int32) * (100 if b_type in SHORTS else 1)
        wanted = (a.astype(object) - a_zero) @ (b.astype(object) - b_zero.astype(object))
        dst = np.empty((m, n), np.int64)
        stored = b if layout == "row_major" else np.ascontiguousarray(b.T)
        with kernels.forced(tier):
            kernels.matmul(a, stored, dst, weight_layout=layout, src_zero=a_zero, weight_zero=b_zero)
        assert (dst == wanted).all()

    check()


def test_conv_adds_the_planes_of_source_and_weights():
    rng = np.random.default_rng(0)
    image, weights = integers(rng, "i2", (9, 8, 5), False), integers(rng, "i2", (35, 3, 3, 5), False)
    dst = np.empty((9, 8, 35), np.int64)
    kernels.conv(image, block_weights(weights.reshape(35, 45)), dst, kernel=(3, 3), pad=(1, 1), src_zero=-7)
    padded = np.full((11, 10, 5), -7, np.int64)
    padded[1:-1, 1:-1] = image
    taps = np.lib.stride_tricks.sliding_window_view(padded + 7, (3, 3), axis=(0, 1))
    wanted = np.einsum("yxcij,oijc->yxo", taps, weights.astype(np.int64))
    assert (dst == wanted).all()


def test_sums_that_might_leave_32_bits_take_another_way():
    b = np.zeros(4, np.int8)
    assert wide.fits_words(33_024, b, np.zeros(1, np.int32))
    assert not wide.fits_words(33_026, b, np.zeros(1, np.int32))
    assert not wide.fits_words(1000, b, np.array([16_000], np.int32))
    a, w, dst = np.full((1, 40_000), 32_767, np.int16), np.full((40_000, 1), -128, np.int8), np.empty((1, 1), np.int64)
    kernels.matmul(a, w, dst, src_zero=-32_768)
    assert dst[0, 0] == 40_000 * 65_535 * -128
