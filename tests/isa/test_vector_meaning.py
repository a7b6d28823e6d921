"""Elementwise, pooling, reducing and normalizing instructions mean what onnxruntime or the real expression says.

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
from isa.law import coarse_exp_table, exp_table, global_average_multiplier, lookup_table

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


# ---------------------------------------------------------------------------------------------------------- elementwise

BROADCASTS = {
    "none": ((2, 3, 4, 16), (2, 3, 4, 16)),
    "scalar b": ((2, 3, 4, 16), (1,)),
    "scalar a": ((1,), (2, 3, 4, 16)),
    "channel b": ((2, 3, 4, 16), (1, 3, 1, 1)),
    "channel a": ((1, 3, 1, 1), (2, 3, 4, 16)),
    "row b": ((2, 3, 4, 16), (16,)),
    "row a": ((16,), (2, 3, 4, 16)),
}


def elementwise(board, cls, a, b, params, dst):
    """The instruction for NumPy broadcasting over up to four dimensions, the destination dense."""
    shape = np.broadcast_shapes(a.shape, b.shape)
    whole = (1,) * (4 - len(shape)) + shape
    fields = {"count": whole[3], "count_1": whole[2], "count_2": whole[1], "count_3": whole[0]}
    for name, array in (("a", a), ("b", b)):
        dims = (1,) * (4 - array.ndim) + array.shape
        dense = np.array([dims[1] * dims[2] * dims[3], dims[2] * dims[3], dims[3]]) * array.itemsize
        strides = np.where(np.array(dims[:3]) == 1, 0, dense)
        fields |= {f"{name}_stride_{3 - d}": int(strides[d]) for d in range(3)}
        fields |= {name: board.put(array), f"{name}_type": TYPES[array.dtype]}
        fields[f"{name}_broadcast"] = int(dims[3] == 1 and whole[3] > 1)
    item = np.dtype(dst.numpy).itemsize
    fields |= {"dst_stride_3": whole[1] * whole[2] * whole[3] * item, "dst_stride_2": whole[2] * whole[3] * item}
    fields |= {"dst_stride_1": whole[3] * item, "dst": board.space(int(np.prod(whole)) * item), "dst_type": dst}
    return board.run(cls(params=params, **fields), dst, shape)


@pytest.mark.parametrize("op", ["Add", "Mul"])
@pytest.mark.parametrize("shapes", BROADCASTS.values(), ids=BROADCASTS.keys())
@each_byte
@each_seed
def test_byte_add_and_mul_are_onnxruntimes(board, ort, op, shapes, dtype, seed):
    rng = np.random.default_rng([seed, len(shapes[0]), dtype == S8])
    a, b = (integers(rng, dtype, shape) for shape in shapes)
    sa, sb, za, zb, zc = scale_of(rng), scale_of(rng), *(zero_of(rng, dtype) for _ in range(3))
    sc = np.float32((sa + sb if op == "Add" else sa * sb * 100) * rng.choice([0.5, 1.0, 1.25]))
    inputs = {"a": a, "sa": sa, "za": za, "b": b, "sb": sb, "zb": zb, "sc": sc, "zc": zc}
    want = ort(f"QLinear{op}", inputs, domain="com.microsoft")
    if op == "Add" and shapes[0] in ((1,), (1, 3, 1, 1)):  # whoever emits the instruction exchanges the operands
        a, sa, za, b, sb, zb = b, sb, zb, a, sa, za
    here = board()
    params = here.block(**head(dtype, zero_a=za, zero_b=zb, zero=zc, factor_a=sa, factor_b=sb, factor=sc))
    cls = I.Add if op == "Add" else I.Mul
    assert np.array_equal(elementwise(here, cls, a, b, params, TYPES[np.dtype(dtype)]), want)


REAL = {
    I.Sub: np.subtract, I.Div: np.divide, I.Min: np.minimum, I.Max: np.maximum, I.Add: np.add, I.Mul: np.multiply
}  # fmt: skip


@pytest.mark.parametrize("cls", REAL, ids=lambda cls: cls.layout.mnemonic)
@pytest.mark.parametrize("dtypes", [(U8, S8, U8), (S16, S16, S16), (U8, S16, U16), (U16, S8, S8)])
@pytest.mark.parametrize("seed", range(3))
def test_other_elementwise_is_the_real_expression(board, ort, cls, dtypes, seed):
    if cls in (I.Add, I.Mul) and all(np.dtype(t).itemsize == 1 for t in dtypes):
        pytest.skip("their law is the one above")
    rng = np.random.default_rng([seed, *(np.dtype(t).num for t in dtypes)])
    a, b = integers(rng, dtypes[0], (6, 4, 5, 64)), integers(rng, dtypes[1], (6, 4, 5, 64))
    sa, sb, za, zb, zc = scale_of(rng), scale_of(rng), *(zero_of(rng, t) for t in dtypes)
    with np.errstate(all="ignore"):
        exact = REAL[cls](dequantized(a, sa, za), dequantized(b, sb, zb))
    sc = np.float32(np.std(exact[np.isfinite(exact)]) / (np.iinfo(dtypes[2]).max / 3))
    here = board()
    params = here.block(**head(dtypes[2], zero_a=za, zero_b=zb, zero=zc, factor_a=sa, factor_b=sb, factor=sc))
    got = elementwise(here, cls, a, b, params, TYPES[np.dtype(dtypes[2])])
    known = ~np.isnan(exact)
    assert np.array_equal(got[known], through_quantize_linear(ort, exact[known], sc, zc, dtypes[2]))
    assert (got[~known] == np.iinfo(dtypes[2]).min).all()


def test_division_by_zero_saturates_and_zero_by_zero_is_the_smallest(board):
    here = board()
    params = here.block(**head(S8, zero=5))
    a, b = np.array([1, -1, 0, 6], S8), np.array([0, 0, 0, 3], S8)
    assert elementwise(here, I.Div, a, b, params, DType.S8).tolist() == [127, -128, -128, 7]


# ----------------------------------------------------------------------------------------------------- rows and tables


def rows(board, cls, x, params, dst, **more):
    item = np.dtype(dst.numpy).itemsize
    made = cls(
        src=board.put(x), dst=board.space(x.size * item), count=x.shape[1], rows=x.shape[0],
        src_row_stride=x.shape[1] * x.itemsize, dst_row_stride=x.shape[1] * item, **params, **more,
    )  # fmt: skip
    return board.run(made, dst, x.shape)


@each_type
@each_seed
def test_quantize_is_quantize_linear(board, ort, dtype, seed):
    rng = np.random.default_rng(seed)
    scale, zero = scale_of(rng), zero_of(rng, dtype)
    span = np.iinfo(dtype).max - np.iinfo(dtype).min
    halves = rng.integers(-2 * span, 2 * span, (4, 500)) / 2 * np.float64(scale)
    x = np.concatenate([halves, rng.normal(0, span * float(scale) / 3, (4, 500))]).astype(np.float32)
    x[0, :4] = np.inf, -np.inf, 3e38, -0.0
    want = ort("QuantizeLinear", {"x": x, "s": scale, "z": zero}, out_type=dtype)
    here = board()
    params = here.block(**head(dtype, zero=zero, factor=scale))
    got = rows(here, I.Quantize, x, {"params": params}, TYPES[np.dtype(dtype)], dst_type=TYPES[np.dtype(dtype)])
    assert np.array_equal(got, want)


def test_nan_becomes_the_smallest_value(board):
    here = board()
    x = np.array([[np.nan, 1.0]], np.float32)
    got = rows(here, I.Quantize, x, {"params": here.block(**head(S8, zero=3))}, DType.S8, dst_type=DType.S8)
    assert got.tolist() == [[-128, 4]]


@pytest.mark.parametrize("dtype", [U8, S8, U16, S16, np.int32])
@each_seed
def test_dequantize_is_dequantize_linear(board, ort, dtype, seed):
    rng = np.random.default_rng(seed)
    x, scale = integers(rng, dtype, (3, 700)), scale_of(rng)
    zero = zero_of(rng, dtype) if dtype is not np.int32 else np.int32(0)
    want = ort("DequantizeLinear", {"x": x, "s": scale, "z": zero}, out_type=np.float32)
    here = board()
    params = {"params": here.block(zero_a=int(zero), factor_a=scale)}
    got = rows(here, I.Dequantize, x, params, DType.F32, src_type=TYPES[x.dtype])
    assert np.array_equal(got, want)


@pytest.mark.parametrize("dtypes", [(U8, S8), (S8, U8), (S16, U8), (U8, U16)])
@each_seed
def test_rescale_is_dequantize_then_quantize(board, ort, dtypes, seed):
    rng = np.random.default_rng(seed)
    x, xs, ys, xz, yz = (
        integers(rng, dtypes[0], (3, 300)),
        scale_of(rng),
        scale_of(rng),
        *(zero_of(rng, t) for t in dtypes),
    )
    middle = ort("DequantizeLinear", {"x": x, "s": xs, "z": xz}, out_type=np.float32)
    want = ort("QuantizeLinear", {"x": middle, "s": ys, "z": yz}, out_type=dtypes[1])
    here = board()
    params = {"params": here.block(**head(dtypes[1], zero_a=xz, zero=yz, factor_a=xs, factor=ys))}
    src, dst = (TYPES[np.dtype(t)] for t in dtypes)
    assert np.array_equal(rows(here, I.Rescale, x, params, dst, src_type=src, dst_type=dst), want)


def test_requantize_rounds_half_to_even_before_the_zero_point(board):
    here = board()
    x = np.array([[1, 3, 5, -1, -3, 500, -500]], np.int32)
    params = {"params": here.block(**head(U8, zero=3, factor_a=np.float32(0.5)))}
    # halves: 0.5 -> 0, 1.5 -> 2, 2.5 -> 2, -0.5 -> 0, -1.5 -> -2; then 3 is added
    got = rows(here, I.Requantize, x, params, DType.U8)
    assert got.tolist() == [[3, 5, 5, 3, 1, 253, 0]]


def test_requantize_per_channel_and_to_raw(board):
    here = board()
    x = np.array([[100, 100, 100]], np.int32)
    params = {"params": here.block(np.array([1.0, 0.5, 2.0], "<f4"), **head(S8))}
    assert rows(here, I.Requantize, x, params, DType.S8, dst_type=DType.S8, per_channel=1).tolist() == [[100, 50, 127]]
    wide = np.array([[1 << 40, -(1 << 40), 7]], np.int64)
    params = {"params": here.block(zero_a=2)}
    got = rows(here, I.Requantize, wide, params, DType.S32, src_type=DType.S64, dst_type=DType.S32)
    assert got.tolist() == [[2**31 - 1, -(2**31), 5]]


@pytest.mark.parametrize("dtypes", [(U8, U8), (S8, U8), (U8, S16), (S16, S16), (U16, S8)])
def test_lookup_is_any_function(board, dtypes):
    rng = np.random.default_rng(3)
    x = integers(rng, dtypes[0], (4, 300))
    xs, ys, xz, yz = 8 / np.iinfo(dtypes[0]).max, 1 / np.iinfo(dtypes[1]).max, *(zero_of(rng, t) for t in dtypes)
    table = lookup_table(np.tanh, dtypes[0], xs, int(xz), dtypes[1], ys, int(yz))
    here = board()
    src, dst = (TYPES[np.dtype(t)] for t in dtypes)
    got = rows(here, I.Lookup, x, {"table": here.put(table)}, dst, src_type=src, dst_type=dst)
    want = rounded(np.tanh(real(x, np.float32(xs), xz)), np.float32(ys), yz, dtypes[1])
    assert_near(got, want, 0 if dtypes[1] in (U8, S8) else 9000)


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


# --------------------------------------------------------------------------------------------------- normalization


def normalization(board, cls, q, params, dst, **more):
    item = np.dtype(dst.numpy).itemsize
    made = cls(
        src=board.put(q), dst=board.space(q.size * item), params=params, rows=q.shape[0], length=q.shape[1],
        src_row_stride=q.shape[1] * q.itemsize, dst_row_stride=q.shape[1] * item, src_type=TYPES[q.dtype],
        dst_type=dst, **more,
    )  # fmt: skip
    return board.run(made, dst, q.shape)


@pytest.mark.parametrize("cls", [I.LayerNorm, I.RmsNorm])
@pytest.mark.parametrize("dtypes", [(U8, U8), (S8, U8), (S16, S16), (U16, S8)])
@pytest.mark.parametrize("length", [1, 2, 96, 257])
def test_norms_are_the_real_expression(board, cls, dtypes, length):
    rng = np.random.default_rng(length)
    q, xs, xz, yz = integers(rng, dtypes[0], (200, length)), scale_of(rng), *(zero_of(rng, t) for t in dtypes)
    q[0] = q[0, 0]  # a constant row
    gain, offset = rng.normal(1, 0.5, length).astype("<f4"), rng.normal(0, 0.3, length).astype("<f4")
    x, epsilon = real(q, xs, xz).astype(np.longdouble), np.float64(np.float32(1e-5))
    if cls is I.LayerNorm:
        centred = x - x.mean(axis=1, keepdims=True)
        exact = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + epsilon) * gain + offset
    else:
        exact = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + epsilon) * gain
    ys = np.float32(3 / np.iinfo(dtypes[1]).max)
    here, dst = board(), TYPES[np.dtype(dtypes[1])]
    arrays = (gain, offset) if cls is I.LayerNorm else (gain,)
    head_ = head(dtypes[1], zero_a=xz, zero=yz, factor_a=xs, factor_b=np.float32(1e-5), factor=ys)
    got = normalization(here, cls, q, here.block(*arrays, **head_), dst)
    want = rounded(exact, ys, yz, dtypes[1])
    assert_near(got, want, 0)


@each_byte
@pytest.mark.parametrize("length", [1, 7, 49, 197])
def test_softmax_with_scale_1_256_is_onnxruntimes(board, ort, dtype, length):
    rng = np.random.default_rng(length)
    q = integers(rng, dtype, (60, length))
    xs, ys, low = np.float32(0.03), np.float32(1 / 256), np.iinfo(dtype).min
    want = ort(
        "QLinearSoftmax", {"x": q, "xs": xs, "xz": dtype(9), "ys": ys, "yz": dtype(low)}, domain="com.microsoft",
        axis=-1, opset=13,
    )  # fmt: skip
    here = board()
    params = here.block(exp_table(xs), **head(dtype, zero=low, factor=ys))
    got = normalization(here, I.Softmax, q, params, TYPES[q.dtype])
    exact = np.exp(real(q, xs, 0))
    exact /= exact.sum(axis=1, keepdims=True)
    assert_near(got, rounded(exact, ys, low, dtype), 0)
    assert_near(got, want.astype(np.int64), 100)


@pytest.mark.parametrize("dtypes", [(S16, U16), (U16, S16), (S16, U8), (U8, U16)])
def test_16_bit_softmax_is_the_real_expression(board, dtypes):
    rng = np.random.default_rng(1)
    q = integers(rng, dtypes[0], (100, 64))
    xs = np.float32(10 / (np.iinfo(dtypes[0]).max))
    low, ys = np.iinfo(dtypes[1]).min, np.float32(2.0 ** -(8 * np.dtype(dtypes[1]).itemsize))
    tables = [exp_table(xs)] + ([coarse_exp_table(xs)] if dtypes[0] is not U8 else [])
    here = board()
    params = here.block(*tables, **head(dtypes[1], zero=low, factor=ys))
    got = normalization(here, I.Softmax, q, params, TYPES[np.dtype(dtypes[1])])
    exact = np.exp(real(q, xs, 0) - real(q, xs, 0).max(axis=1, keepdims=True))
    exact /= exact.sum(axis=1, keepdims=True)
    assert_near(got, rounded(exact, ys, low, dtypes[1]), 300)


def test_masked_softmax_ignores_the_rest(board):
    q = integers(np.random.default_rng(0), U8, (9, 20))
    here = board()
    params = here.block(exp_table(0.05), **head(U8, factor=np.float32(1 / 256)))
    short = normalization(here, I.Softmax, np.ascontiguousarray(q[:, :13]), params, DType.U8)
    whole = normalization(here, I.Softmax, q, params, DType.U8, masked=1, valid=13)
    assert np.array_equal(whole[:, :13], short)
    assert (whole[:, 13:] == 0).all()
