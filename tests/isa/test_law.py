"""The arithmetic law against exact rational arithmetic, and against the ONNX backend's own node tests."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases

from isa import law
from isa.instructions import Parameters

# ----------------------------------------------- rounding, written otherwise


def f32(exact):
    """The float32 nearest to a rational, ties to even, from the definition; normal numbers only."""
    exact = Fraction(exact)
    if exact == 0:
        return Fraction(0)
    magnitude, exponent = abs(exact), -200
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length() - 24
    while magnitude / Fraction(2) ** exponent >= 1 << 24:
        exponent += 1
    while magnitude / Fraction(2) ** exponent < 1 << 23:
        exponent -= 1
    rounded = (
        round(magnitude / Fraction(2) ** exponent) * Fraction(2) ** exponent
    )  # round() of a Fraction: half to even
    return rounded if exact > 0 else -rounded


def clamped(value, low, high):
    return min(max(value, low), high)


def of(value):
    return Fraction(float(value))


floats = st.floats(-(2.0**40), 2.0**40, width=32, allow_subnormal=False).filter(lambda v: v == 0 or abs(v) > 2.0**-40)
scales = (
    st.integers(-12, 3).map(lambda e: 2.0**e)
    | st.builds(lambda d, e: d * 10.0**-e, st.sampled_from((1, 2, 2.5, 4, 5, 7.5)), st.integers(1, 4))
    | st.floats(2.0**-12, 8.0, width=32)
).map(np.float32)
bytes_ = st.integers(-128, 255)
zeros = st.integers(-128, 255)


@settings(max_examples=600)
@given(a=floats, b=floats, c=floats)
@example(a=1 + 2.0**-12, b=1 + 2.0**-12, c=2.0**-60)  # just above a tie of float32: a double rounding loses it
@example(a=1 + 2.0**-12, b=1 + 2.0**-12, c=-(2.0**-60))
@example(a=1 + 2.0**-12, b=1 + 2.0**-11, c=0.0)
@example(a=2.0**24, b=1 + 2.0**-23, c=1.0)
@example(a=3.0, b=-3.0, c=9.0)
def test_fma_rounds_once(a, b, c):
    got = law.fma(np.float32(a), np.float32(b), np.float32(c))
    assert got.dtype == np.float32
    assert of(got) == f32(of(np.float32(a)) * of(np.float32(b)) + of(np.float32(c)))


@settings(max_examples=200)
@given(a=st.integers(1 << 11, (1 << 12) - 1), tiny=st.integers(-60, -30), sign=st.sampled_from((-1, 1)))
def test_fma_next_to_a_tie(a, tiny, sign):
    # an odd product of 25 bits lies exactly between two float32; float64 ends at 2**-28, far above the third term,
    # which nevertheless has to decide: rounding to float64 first would lose it
    a |= 1
    b = (1 << 24) // a + 1 | 1
    assert 1 << 24 < a * b < 1 << 25
    assert a * b % 2 == 1
    got = law.fma(np.float32(a), np.float32(b), np.float32(sign * 2.0**tiny))
    assert of(got) == a * b + sign


def test_fma_of_arrays_is_that_of_scalars_and_differs_from_two_roundings():
    rng = np.random.default_rng(0)
    a, b, c = (rng.normal(size=20_000).astype(np.float32) for _ in range(3))
    together = law.fma(a, b, c)
    assert together.dtype == np.float32
    singles = [of(law.fma(*row)) for row in zip(a[:300], b[:300], c[:300], strict=True)]
    assert [of(v) for v in together[:300]] == singles
    exact = [f32(of(x) * of(y) + of(z)) for x, y, z in zip(a[:2000], b[:2000], c[:2000], strict=True)]
    assert [of(v) for v in together[:2000]] == exact
    assert (together != a * b + c).any()


@settings(max_examples=300)
@given(acc=st.integers(-(2**31), 2**31 - 1) | st.integers(-400, 400), m=scales, zero=bytes_)
@example(acc=5, m=np.float32(0.5), zero=3)
@example(acc=2**24 + 1, m=np.float32(2.0**-20), zero=0)
def test_requantize(acc, m, zero):
    value = f32(f32(acc) * of(m))
    want = round(clamped(value, -128 - zero, 127 - zero)) + zero
    assert law.requantize(np.int32(acc), m, zero, -128, 127) == want
    assert law.requantize(np.array([acc], np.int64), m, zero, -128, 127).tolist() == [want]


def test_requantize_converts_wide_accumulators_once():
    # 2^60 + 2^36 + 1 lies just above a tie of float32; by way of float64 the 1 is lost and the tie goes down
    acc = (1 << 60) + (1 << 36) + 1
    value = law.requantize(np.array([acc]), np.float32(2.0**-37), 0, -(2**31), 2**31 - 1)
    assert value.tolist() == [2**23 + 1]


@settings(max_examples=300)
@given(x=floats | st.integers(-600, 600).map(lambda n: n / 2), s=scales, zero=bytes_)
def test_quantize(x, s, zero):
    x = np.float32(x)
    value = f32(of(x) / of(s))
    want = round(clamped(value, -128 - zero, 127 - zero)) + zero
    assert law.quantize(x, s, zero, -128, 127) == want


@pytest.mark.parametrize(("x", "want"), [(np.nan, -128), (np.inf, 127), (-np.inf, -128), (-0.0, 3)])
def test_quantize_of_what_is_no_number(x, want):
    assert law.quantize(np.float32(x), np.float32(0.1), 3, -128, 127) == want


@settings(max_examples=200)
@given(q=st.integers(-(2**31), 2**31 - 1) | bytes_, s=scales, zero=st.integers(-65535, 65535))
def test_dequantize(q, s, zero):
    assert of(law.dequantize(q, s, zero)) == f32(f32(q - zero) * of(s))


@settings(max_examples=400)
@given(a=bytes_, b=bytes_, sa=scales, sb=scales, sc=scales, za=zeros, zb=zeros, zc=zeros)
def test_add(a, b, sa, sb, sc, za, zb, zc):
    ra, rb = f32(of(sa) / of(sc)), f32(of(sb) / of(sc))
    t = f32(ra * za + f32(rb * zb))
    value = f32(a * ra + f32(b * rb + f32(zc - t)))
    ratios = sa / sc, sb / sc
    offset = law.add_offset(ratios[0], za, ratios[1], zb, zc)
    assert law.add(a, b, *ratios, offset, 0, 255) == clamped(round(value), 0, 255)


@settings(max_examples=400)
@given(a=bytes_, b=bytes_, sa=scales, sb=scales, sc=scales, za=zeros, zb=zeros, zc=zeros)
@example(a=1, b=1, sa=np.float32(0.5), sb=np.float32(1), sc=np.float32(1), za=0, zb=0, zc=1)  # 0.5 + 1 rounds to 2
def test_mul(a, b, sa, sb, sc, za, zb, zc):
    ratio = f32(f32(of(sa) * of(sb)) / of(sc))
    value = f32(f32(f32((a - za) * (b - zb)) * ratio) + zc)
    got = law.mul(a, za, b, zb, law.mul_ratio(sa, sb, sc), zc, 0, 255)
    assert got == clamped(round(value), 0, 255)


@settings(max_examples=300)
@given(total=floats, count=st.integers(1, 200), s=scales, zero=bytes_)
def test_average(total, count, s, zero):
    total = np.float32(total)
    value = f32(f32(f32(of(total) / count) / of(s)) + zero)
    assert law.average(total, count, s, zero, -128, 127) == clamped(round(value), -128, 127)


@settings(max_examples=100)
@given(xs=scales, ws=scales, ys=scales, alpha=scales, count=st.integers(1, 5000))
def test_multipliers(xs, ws, ys, alpha, count):
    assert of(law.requantize_multiplier(xs, ws, ys)) == f32(f32(of(xs) * of(ws)) / of(ys))
    assert of(law.gemm_multiplier(alpha, xs, ws, ys)) == f32(f32(f32(of(alpha) * of(xs)) * of(ws)) / of(ys))
    assert of(law.global_average_multiplier(xs, ys, count)) == f32(of(xs) / f32(of(ys) * count))


def test_exponential_tables():
    table = law.exp_table(0.1)
    assert table.dtype == np.uint32
    assert table[0] == 1 << 31
    step = float(np.float32(0.1))
    assert [int(v) for v in table] == [round(math.exp(-d * step) * 2**31) for d in range(256)]
    assert law.coarse_exp_table(0.0001)[3] == round(math.exp(-3 * 256 * float(np.float32(0.0001))) * 2**31)


@given(fine=st.integers(0, 2**32 - 1), coarse=st.integers(0, 2**32 - 1))
def test_softmax_numerator_never_overflows(fine, coarse):
    assert law.softmax_numerator(np.uint64(fine), np.uint64(coarse)) == (fine * coarse + (1 << 30)) >> 31


def test_lookup_table_order_follows_the_unsigned_reading():
    table = law.lookup_table(lambda x: x, np.int8, 1.0, 0, np.int8, 1.0, 0)
    assert table[:3].tolist() == [0, 1, 2]
    assert table[128:131].tolist() == [-128, -127, -126]
    assert law.lookup_table(np.abs, np.int16, 1.0, 0, np.uint16, 1.0, 0).shape == (65536,)


# ----------------------------------------------- the ONNX backend's own node tests


def quantize_case(inputs, attributes):
    x, s, *rest = inputs
    axis = attributes.get("axis", 1)
    kind = helper.tensor_dtype_to_np_dtype(attributes["output_dtype"]) if "output_dtype" in attributes else np.uint8
    zero = rest[0] if rest else np.zeros(s.shape, kind)
    s, z = broadcast(s, x, axis, attributes), broadcast(zero.astype(np.int64), x, axis, attributes)
    info = np.iinfo(zero.dtype)
    return [law.quantize(x, s, z, info.min, info.max).astype(zero.dtype)]


def dequantize_case(inputs, attributes):
    q, s, *rest = inputs
    axis = attributes.get("axis", 1)
    zero = rest[0].astype(np.int64) if rest else np.zeros(s.shape, np.int64)
    return [law.dequantize(q, broadcast(s, q, axis, attributes), broadcast(zero, q, axis, attributes))]


def broadcast(parameter, x, axis, attributes):
    """Per tensor, along one axis, or one parameter per block of the axis."""
    if parameter.ndim == 0:
        return parameter
    if parameter.ndim == 1 and x.ndim > 1:
        return parameter.reshape([-1 if d == axis % x.ndim else 1 for d in range(x.ndim)])
    block = attributes.get("block_size", 0) or -(-x.shape[axis] // parameter.shape[axis])
    return (
        np.repeat(parameter, block, axis)[tuple(slice(n) for n in x.shape)]
        if parameter.ndim == x.ndim > 1
        else parameter
    )


def matmul_case(inputs, _):
    a, sa, za, b, sb, zb, sy, zy = inputs
    acc = (a.astype(np.int64) - za) @ (b.astype(np.int64) - zb)
    info = np.iinfo(zy.dtype)
    m = law.requantize_multiplier(sa, sb, sy)
    return [law.requantize(acc, m, zy.astype(np.int64), info.min, info.max).astype(zy.dtype)]


CASES = {"QuantizeLinear": quantize_case, "DequantizeLinear": dequantize_case, "QLinearMatMul": matmul_case}
INTEGERS = {np.dtype(t) for t in (np.int8, np.uint8, np.int16, np.uint16)}


def plain(array):
    return isinstance(array, np.ndarray) and (array.dtype in INTEGERS or array.dtype in (np.float32, np.int32))


def backend_cases():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # onnx computes its expectations with casts that overflow on purpose
        cases = collect_testcases()
    for case in cases:
        node = case.model.graph.node[0] if case.model is not None and len(case.model.graph.node) == 1 else None
        if node is None or node.op_type not in CASES:
            continue
        attributes = {a.name: a.i for a in node.attribute}
        for inputs, outputs in case.data_sets:
            arrays = [
                numpy_helper.to_array(v) if hasattr(v, "raw_data") else np.asarray(v) for v in (*inputs, *outputs)
            ]
            if all(plain(a) for a in arrays):
                yield pytest.param(node.op_type, attributes, arrays[: len(inputs)], arrays[len(inputs) :], id=case.name)


BACKEND = tuple(backend_cases())


@pytest.mark.parametrize(("op", "attributes", "inputs", "outputs"), BACKEND)
def test_onnx_backend_case(op, attributes, inputs, outputs):
    got = CASES[op](inputs, attributes)
    for one, want in zip(got, outputs, strict=True):
        assert one.dtype == want.dtype
        assert np.array_equal(one, want)


def test_backend_cases_were_found():
    names = {param.id for param in BACKEND}
    wanted = {
        "test_quantizelinear", "test_quantizelinear_axis", "test_quantizelinear_uint16", "test_quantizelinear_int16",
        "test_dequantizelinear", "test_dequantizelinear_axis", "test_dequantizelinear_uint16",
        "test_dequantizelinear_int16", "test_qlinearmatmul_2D_uint8_float32", "test_qlinearmatmul_3D_uint8_float32",
        "test_qlinearmatmul_2D_int8_float32", "test_qlinearmatmul_3D_int8_float32",
    }  # fmt: skip
    assert wanted - names == set()


def test_parameter_block_layout():
    # int32 zero_a, zero_b, zero, low, high; float32 factor_a, factor_b, factor; then the arrays
    head = Parameters(zero_a=1, zero_b=-2, zero=3, low=-4, high=5, factor_a=0.5, factor_b=2, factor=1)
    packed = head.pack(np.array([7], "<i4"))
    assert np.frombuffer(packed[:20], "<i4").tolist() == [1, -2, 3, -4, 5]
    assert np.frombuffer(packed[20:32], "<f4").tolist() == [0.5, 2.0, 1.0]
    assert packed[32:] == bytes([7, 0, 0, 0])
