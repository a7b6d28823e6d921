"""Elementwise and normalizing instructions mean what onnxruntime or the real expression says.

Where onnxruntime has an integer kernel the results are equal. Elsewhere the oracle is the real expression, rounded
once; the misses allowed are counted and stated.
"""

from __future__ import annotations

import numpy as np
import pytest

from isa import instructions as I
from isa.dtypes import DType
from isa.law import coarse_exp_table, exp_table, lookup_table
from tests.isa.meaning import (
    S8,
    S16,
    TYPES,
    U8,
    U16,
    assert_near,
    dequantized,
    each_byte,
    each_seed,
    each_type,
    head,
    integers,
    real,
    rounded,
    scale_of,
    through_quantize_linear,
    zero_of,
)

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
