"""Pooling, reducing and resizing instructions mean what onnxruntime or the real expression says.

Where onnxruntime has an integer kernel the results are equal. Elsewhere the oracle is the real expression, rounded
once; the misses allowed are counted and stated.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from isa import instructions as I
from isa.dtypes import DType
from isa.instructions import Interpolation
from isa.law import global_average_multiplier
from tests.isa.meaning import (
    S8,
    S16,
    TYPES,
    U8,
    U16,
    dequantized,
    each_byte,
    each_seed,
    head,
    integers,
    scale_of,
    through_quantize_linear,
    zero_of,
)

# -------------------------------------------------------------------------------------------------------------- pooling


def window(board, cls, x, kind, kernel, strides, dilations, pads, out, **more):
    channels, height, width = x.shape
    item = np.dtype(kind.numpy).itemsize
    made = cls(
        src=board.put(x.transpose(1, 2, 0)), dst=board.space(out[0] * out[1] * channels * item), in_height=height,
        in_width=width, in_channels=channels, out_height=out[0], out_width=out[1], kernel_height=kernel[0],
        kernel_width=kernel[1], stride_height=strides[0], stride_width=strides[1], dilation_height=dilations[0],
        dilation_width=dilations[1], pad_top=pads[0], pad_left=pads[1], src_pixel_stride=channels * x.itemsize,
        src_row_stride=width * channels * x.itemsize, dst_pixel_stride=channels * item,
        dst_row_stride=out[1] * channels * item, **more,
    )  # fmt: skip
    return board.run(made, kind, (*out, channels)).transpose(2, 0, 1)[None]


def geometry(rng, *, dilated):
    kernel, strides = [int(v) for v in rng.integers(1, 4, 2)], [int(v) for v in rng.integers(1, 4, 2)]
    dilations = [int(v) for v in rng.integers(1, 3, 2)] if dilated else [1, 1]
    pads = [int(rng.integers(0, k)) for k in (*kernel, *kernel)]
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    size = [int(s + rng.integers(0, 6)) for s in span]
    out = [(size[d] + pads[d] + pads[d + 2] - span[d]) // strides[d] + 1 for d in range(2)]
    return kernel, strides, dilations, pads, size, out


@each_byte
@each_seed
def test_max_pool_is_onnxruntimes(board, ort, dtype, seed):
    rng = np.random.default_rng(seed)
    kernel, strides, dilations, pads, size, out = geometry(rng, dilated=True)
    x = integers(rng, dtype, (1, 5, *size))
    want = ort("MaxPool", {"x": x}, kernel_shape=kernel, strides=strides, dilations=dilations, pads=pads)
    kind = TYPES[x.dtype]
    got = window(board(), I.MaxPool, x[0], kind, kernel, strides, dilations, pads, out, data_type=kind)
    assert np.array_equal(got, want)


@each_byte
@pytest.mark.parametrize("counted", [0, 1])
@each_seed
def test_average_pool_is_onnxruntimes(board, ort, dtype, counted, seed):
    rng = np.random.default_rng([seed, counted])
    kernel, strides, dilations, pads, size, out = geometry(rng, dilated=False)
    x, xs, xz, yz = integers(rng, dtype, (1, 5, *size)), scale_of(rng), zero_of(rng, dtype), zero_of(rng, dtype)
    ys = np.float32(xs * rng.choice([0.5, 1.0, 0.8]))
    want = ort(
        "QLinearAveragePool", {"x": x, "xs": xs, "xz": xz, "ys": ys, "yz": yz}, domain="com.microsoft",
        kernel_shape=kernel, strides=strides, pads=pads, count_include_pad=counted,
    )  # fmt: skip
    here, kind = board(), TYPES[x.dtype]
    params = here.block(**head(dtype, zero_a=xz, zero=yz, factor_a=xs, factor=ys))
    got = window(
        here, I.AveragePool, x[0], kind, kernel, strides, dilations, pads, out, src_type=kind, dst_type=kind,
        params=params, count_padding=counted, pad_bottom=pads[2], pad_right=pads[3],
    )  # fmt: skip
    assert np.array_equal(got, want)


@each_seed
def test_16_bit_and_dilated_average_pool_is_the_real_mean(board, seed):
    rng = np.random.default_rng(seed)
    kernel, strides, dilations, pads, size, out = geometry(rng, dilated=True)
    dilations = [min(d, s) for d, s in zip(dilations, size, strict=True)]
    x = integers(rng, S16, (3, *size))
    here = board()
    params = here.block(**head(S16, zero_a=11, zero=-7, factor_a=np.float32(0.5), factor=np.float32(0.25)))
    got = window(
        here, I.AveragePool, x, DType.S16, kernel, strides, dilations, pads, out, src_type=DType.S16,
        dst_type=DType.S16, params=params,
    )[0]  # fmt: skip
    for (c, i, j), value in np.ndenumerate(got):
        ys = [i * strides[0] - pads[0] + t * dilations[0] for t in range(kernel[0])]
        xs = [j * strides[1] - pads[1] + t * dilations[1] for t in range(kernel[1])]
        taps = [int(x[c, a, b]) - 11 for a in ys for b in xs if 0 <= a < size[0] and 0 <= b < size[1]]
        exact = np.clip(round(Fraction(sum(taps), len(taps)) * 2) - 7, -32768, 32767)
        assert abs(int(value) - exact) <= (Fraction(sum(taps), len(taps)) * 2 % 1 != 0)


@each_byte
@each_seed
def test_global_average_pool_is_onnxruntimes(board, ort, dtype, seed):
    rng = np.random.default_rng(seed)
    height, width, channels = rng.integers(1, 9), rng.integers(1, 9), 33
    x, xs, xz, yz = integers(rng, dtype, (1, channels, height, width)), scale_of(rng), *(zero_of(rng, dtype),) * 2
    ys = np.float32(xs * rng.choice([0.25, 0.5, 1.0]))
    want = ort("QLinearGlobalAveragePool", {"x": x, "xs": xs, "xz": xz, "ys": ys, "yz": yz}, domain="com.microsoft")
    here, kind = board(), TYPES[x.dtype]
    factor = global_average_multiplier(xs, ys, int(height * width))
    made = I.GlobalAveragePool(
        src=here.put(x[0].transpose(1, 2, 0)), dst=here.space(channels), height=int(height), width=int(width),
        channels=channels, src_pixel_stride=channels, src_row_stride=int(width) * channels, src_type=kind,
        dst_type=kind, params=here.block(**head(dtype, zero_a=xz, zero=yz, factor_a=factor)),
    )  # fmt: skip
    assert np.array_equal(here.run(made, kind, (1, channels, 1, 1)), want)


# --------------------------------------------------------------------------------------------------- reductions


def reduction(board, cls, x, dst, **more):
    outer, length, inner = x.shape
    return board.run(cls(
        src=board.put(x), dst=board.space(8 * outer * inner), outer=outer, length=length, inner=inner,
        src_outer_stride=length * inner * x.itemsize, src_stride=inner * x.itemsize, src_type=TYPES[x.dtype], **more,
    ), dst, (outer, inner))  # fmt: skip


@pytest.mark.parametrize(
    ("cls", "function"),
    [(I.ReduceSum, np.sum), (I.ReduceMean, np.mean), (I.ReduceMax, np.max), (I.ReduceMin, np.min)],
)
@pytest.mark.parametrize("dtypes", [(U8, U8), (S8, U8), (S16, S16), (U16, S8)])
def test_reductions_are_the_real_expression(board, ort, cls, function, dtypes):
    rng = np.random.default_rng(11)
    x, xs, xz, yz = integers(rng, dtypes[0], (40, 9, 50)), scale_of(rng), *(zero_of(rng, t) for t in dtypes)
    exact = function(dequantized(x, xs, xz), axis=1)
    ys = np.float32(np.std(exact) / (np.iinfo(dtypes[1]).max / 3))
    here, dst = board(), TYPES[np.dtype(dtypes[1])]
    params = here.block(**head(dtypes[1], zero_a=xz, zero=yz, factor_a=xs, factor=ys))
    got = reduction(here, cls, x, dst, params=params, dst_type=dst)
    assert np.array_equal(got, through_quantize_linear(ort, exact, ys, yz, dtypes[1]))


@pytest.mark.parametrize(("cls", "op"), [(I.ArgMax, "ArgMax"), (I.ArgMin, "ArgMin")])
@pytest.mark.parametrize("last", [0, 1])
@each_byte
def test_arg_reductions_are_onnxruntimes(board, ort, cls, op, last, dtype):
    rng = np.random.default_rng(last)
    x = rng.integers(0, 4, (5, 9, 7)).astype(dtype)  # few values: many equals
    x[0] = np.iinfo(dtype).min
    x[1] = np.iinfo(dtype).max
    want = ort(op, {"x": x.astype(np.int32)}, out_type=np.int64, axis=1, keepdims=0, select_last_index=last)
    assert np.array_equal(reduction(board(), cls, x, DType.S32, select_last=last), want)


# --------------------------------------------------------------------------------------------------- resize

COORDINATES = {
    "half_pixel": lambda i, n, m: (i + 0.5) * n / m - 0.5,
    "asymmetric": lambda i, n, m: i * n / m,
    "align_corners": lambda i, n, m: i * (n - 1) / (m - 1) if m > 1 else 0 * i,
}


def positions(rule, n, m):
    return np.clip(COORDINATES[rule](np.arange(m, dtype=np.float64), n, m), 0, n - 1)


def resize(board, x, out, tables, mode, params, dtype):
    height, width, channels = x.shape
    kind, item = TYPES[x.dtype], x.itemsize
    made = I.Resize(
        src=board.put(x), dst=board.space(out[0] * out[1] * channels * item), params=params,
        tables=board.put(np.concatenate([t.view("<i4") for t in tables])), in_height=height, in_width=width,
        out_height=out[0], out_width=out[1], channels=channels, src_pixel_stride=channels * item,
        src_row_stride=width * channels * item, dst_pixel_stride=channels * item,
        dst_row_stride=out[1] * channels * item, src_type=kind, dst_type=TYPES[np.dtype(dtype)], interpolation=mode,
    )  # fmt: skip
    return board.run(made, TYPES[np.dtype(dtype)], (*out, channels))


@pytest.mark.parametrize("rule", COORDINATES)
@pytest.mark.parametrize("sizes", [((4, 5), (8, 10)), ((7, 3), (3, 9)), ((1, 6), (5, 1))])
def test_nearest_resize_is_onnxruntimes(board, ort, rule, sizes):
    x = integers(np.random.default_rng(1), U8, (*sizes[0], 3))
    want = ort(
        "Resize", {"x": x.transpose(2, 0, 1)[None], "roi": None, "scales": None, "sizes": np.array([1, 3, *sizes[1]])},
        mode="nearest", coordinate_transformation_mode=rule, nearest_mode="floor",
    )  # fmt: skip
    here = board()
    tables = [np.floor(positions(rule, n, m)).astype("<i4") for n, m in zip(*sizes, strict=True)]
    got = resize(here, x, sizes[1], tables, Interpolation.NEAREST, here.block(**head(U8)), U8)
    assert np.array_equal(got.transpose(2, 0, 1)[None], want)


@pytest.mark.parametrize("rule", COORDINATES)
@pytest.mark.parametrize("sizes", [((4, 5), (8, 10)), ((7, 3), (3, 9)), ((1, 6), (5, 1)), ((5, 5), (13, 17))])
def test_linear_resize_is_the_real_interpolation(board, ort, rule, sizes):
    rng = np.random.default_rng(2)
    x = integers(rng, U8, (*sizes[0], 16))
    tables, sides = [], []
    for n, m in zip(*sizes, strict=True):
        place = positions(rule, n, m)
        low = np.floor(place).astype("<i4")
        weight = (place - low).astype("<f4")
        high = np.minimum(low + 1, n - 1).astype("<i4")
        tables += [low, high, weight]
        matrix = np.zeros((m, n))
        matrix[np.arange(m), low] += 1 - weight.astype(np.float64)
        matrix[np.arange(m), high] += weight.astype(np.float64)
        sides.append(matrix)
    xs, ys = np.float32(0.1), np.float32(0.07)
    exact = np.einsum("ih,jw,hwc->ijc", *sides, dequantized(x, xs, 100))
    here = board()
    params = here.block(**head(U8, zero_a=100, zero=120, factor_a=xs, factor=ys))
    got = resize(here, x, sizes[1], tables, Interpolation.LINEAR, params, U8)
    assert np.array_equal(got, through_quantize_linear(ort, exact, ys, 120, U8))
