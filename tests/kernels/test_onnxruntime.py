"""The compiled kernels against onnxruntime's integer kernels: no mismatch in ten million outputs of each operator.

Half of the scales are random, half make ties: decimals and powers of two. Tables, layer norm and softmax are held
against float64, correctly rounded.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from isa import law
from isa.instructions.matrix import block_weights
from npusim import kernels
from npusim.quant import exact

pytestmark = pytest.mark.slow

OUTPUTS = 10_000_000
MICROSOFT = "com.microsoft"
TYPES = {np.dtype(np.uint8): TensorProto.UINT8, np.dtype(np.int8): TensorProto.INT8}
DECIMALS = (0.5, 0.25, 0.125, 0.1, 0.2, 0.05, 0.025, 0.01, 0.02, 1.0)


class Case:
    """A seeded source of tensors, scales and zero points."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.ties = seed % 2 == 0

    def between(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high))

    def scale(self, typical: float = 0.05) -> np.float32:
        if self.ties:
            return np.float32(self.rng.choice(DECIMALS))
        return np.float32(typical * self.rng.uniform(0.3, 3))

    def zero(self, dtype: Any) -> Any:
        info = np.iinfo(dtype)
        return np.dtype(dtype).type(self.rng.integers(info.min, info.max, endpoint=True))

    def values(self, dtype: Any, *shape: int) -> Any:
        info = np.iinfo(dtype)
        return self.rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def run(operator: str, domain: str, inputs: list[Any], live: dict[int, str], shape: tuple[int, ...], dtype: Any,
        **attributes: Any) -> Any:  # fmt: skip
    """One node in onnxruntime; ``live`` names the inputs that are fed, all others are constants."""
    names, constants, infos, feeds = [], [], [], {}
    for i, value in enumerate(inputs):
        if value is None:
            names.append("")
            continue
        name = live.get(i, f"c{i}")
        names.append(name)
        array = np.array(value, order="C")
        if i in live:
            infos.append(helper.make_tensor_value_info(name, TYPES[array.dtype], array.shape))
            feeds[name] = array
        else:
            constants.append(numpy_helper.from_array(array, name))
    node = helper.make_node(operator, names, ["y"], domain=domain, **attributes)
    out = helper.make_tensor_value_info("y", TYPES[np.dtype(dtype)], shape)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
    graph = helper.make_graph([node], "case", infos, [out], constants)
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return exact.session(model, threads=1).run(None, feeds)[0]


def all_equal(make: Any) -> None:
    """Draw cases until enough outputs were compared, all of them equal."""
    compared, seed = 0, 0
    while compared < OUTPUTS:
        ours, theirs = make(Case(seed))
        wrong = int((ours != theirs).sum())
        assert wrong == 0, f"seed {seed}: {wrong} of {ours.size} outputs differ"
        compared, seed = compared + ours.size, seed + 1


def spread(case: Case, k: int, x_scale: Any, w_scale: Any, n: int) -> np.float32:
    """A destination scale that neither saturates nor flattens the results of ``k`` products."""
    wanted = float(x_scale) * float(np.max(w_scale)) * 74 * 74 * np.sqrt(k) / 60
    if case.ties:
        return np.float32(2.0 ** np.round(np.log2(wanted)))
    return np.float32(wanted * case.rng.uniform(0.5, 2))


def test_conv():
    def make(case):
        side, ic, oc, size = 96, case.between(1, 24), case.between(20, 80), int(case.rng.choice([1, 3, 5]))
        stride, dilation, pad = case.between(1, 3), case.between(1, 3), case.between(0, size)
        out = (side + 2 * pad - (size - 1) * dilation - 1) // stride + 1
        x, w = case.values(np.uint8, side, side, ic), case.values(np.int8, oc, ic, size, size)
        xs, ws = case.scale(), np.array([case.scale(0.01) for _ in range(oc)], np.float32)
        ys, xz, yz = spread(case, ic * size * size, xs, ws, oc), case.zero(np.uint8), case.zero(np.uint8)
        bias = case.rng.integers(-5000, 5000, oc, dtype=np.int32)
        image, zeros = x.transpose(2, 0, 1)[None], np.zeros(oc, np.int8)
        theirs = run("QLinearConv", "", [image, xs, xz, w, ws, zeros, ys, yz, bias], {0: "x"},
                     (1, oc, out, out), np.uint8, strides=[stride] * 2, pads=[pad] * 4,
                     dilations=[dilation] * 2)  # fmt: skip
        ours = np.empty((out, out, oc), np.uint8)
        blocks = block_weights(w.transpose(0, 2, 3, 1).reshape(oc, -1))
        kernels.conv(x, blocks, ours, kernel=(size, size), stride=(stride, stride), dilation=(dilation, dilation),
                     pad=(pad, pad), src_zero=int(xz), bias=bias,
                     multiplier=law.requantize_multiplier(xs, ws, ys), dst_zero=int(yz))  # fmt: skip
        return ours, theirs[0].transpose(1, 2, 0)

    all_equal(make)


def test_depthwise():
    def make(case):
        side, channels, size = 128, case.between(8, 70), int(case.rng.choice([3, 5, 7]))
        stride, pad = case.between(1, 3), case.between(0, size)
        out = (side + 2 * pad - size) // stride + 1
        x, w = case.values(np.uint8, side, side, channels), case.values(np.int8, channels, 1, size, size)
        xs, ws = case.scale(), np.array([case.scale(0.01) for _ in range(channels)], np.float32)
        ys, xz, yz = spread(case, size * size, xs, ws, channels), case.zero(np.uint8), case.zero(np.uint8)
        zeros = np.zeros(channels, np.int8)
        theirs = run("QLinearConv", "", [x.transpose(2, 0, 1)[None], xs, xz, w, ws, zeros, ys, yz], {0: "x"},
                     (1, channels, out, out), np.uint8, strides=[stride] * 2, pads=[pad] * 4,
                     group=channels)  # fmt: skip
        ours = np.empty((out, out, channels), np.uint8)
        kernels.depthwise(x, np.ascontiguousarray(w[:, 0].transpose(1, 2, 0)), ours, kernel=(size, size),
                          stride=(stride, stride), pad=(pad, pad), src_zero=int(xz),
                          multiplier=law.requantize_multiplier(xs, ws, ys), dst_zero=int(yz))  # fmt: skip
        return ours, theirs[0].transpose(1, 2, 0)

    all_equal(make)


def _products(case: Case) -> tuple[Any, ...]:
    m, k, n = 1500, case.between(1, 200), case.between(50, 300)
    b_type = np.int8 if case.rng.random() < 0.7 else np.uint8
    a, b = case.values(np.uint8, m, k), case.values(b_type, k, n)
    return a, b, case.scale(), case.zero(np.uint8), case.zero(b_type), case.zero(np.uint8)


def test_matmul():
    def make(case):
        a, b, a_scale, az, bz, yz = _products(case)
        b_scale = case.scale(0.01)
        ys = spread(case, a.shape[1], a_scale, b_scale, b.shape[1])
        theirs = run(
            "QLinearMatMul", "", [a, a_scale, az, b, b_scale, bz, ys, yz], {0: "a"}, (len(a), b.shape[1]), np.uint8
        )
        ours = np.empty_like(theirs)
        layout = ("row_major", "transposed", "blocked")[int(case.rng.integers(3))]
        stored = (
            b if layout == "row_major" else np.ascontiguousarray(b.T) if layout == "transposed" else block_weights(b.T)
        )
        kernels.matmul(a, stored, ours, weight_layout=layout, src_zero=int(az), weight_zero=int(bz),
                       multiplier=law.requantize_multiplier(a_scale, b_scale, ys), dst_zero=int(yz))  # fmt: skip
        return ours, theirs

    all_equal(make)


def test_gemm():
    def make(case):
        a, b, a_scale, az, _, yz = _products(case)
        n = b.shape[1]
        b_scale = np.array([case.scale(0.01) for _ in range(n)], np.float32)
        alpha, bias = np.float32(case.rng.choice([1.0, 0.5, 0.3])), case.rng.integers(-5000, 5000, n, dtype=np.int32)
        ys = spread(case, a.shape[1], a_scale, b_scale, n)
        theirs = run("QGemm", MICROSOFT, [a, a_scale, az, b, b_scale, np.zeros(n, b.dtype), bias, ys, yz], {0: "a"},
                     (len(a), n), np.uint8, alpha=float(alpha))  # fmt: skip
        ours = np.empty_like(theirs)
        kernels.matmul(a, block_weights(b.T), ours, weight_layout="blocked", src_zero=int(az), bias=bias,
                       multiplier=law.gemm_multiplier(alpha, a_scale, b_scale, ys), dst_zero=int(yz))  # fmt: skip
        return ours, theirs

    all_equal(make)


@pytest.mark.parametrize(("operator", "kernel"), [("QLinearAdd", kernels.add), ("QLinearMul", kernels.mul)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_elementwise(operator, kernel, dtype):
    def make(case):
        a, b = case.values(dtype, 700, 700), case.values(dtype, 700, 700)
        sa, sb, sy = case.scale(), case.scale(), case.scale()
        if operator == "QLinearMul":
            sy = np.float32(sy * 4 if case.ties else 3 * sa * sb * 40)
        za, zb, zy = (case.zero(dtype) for _ in range(3))
        theirs = run(operator, MICROSOFT, [a, sa, za, b, sb, zb, sy, zy], {0: "a", 3: "b"}, a.shape, dtype)
        ours = np.empty_like(a)
        kernel(a, b, ours, a_scale=sa, b_scale=sb, dst_scale=sy, a_zero=int(za), b_zero=int(zb), dst_zero=int(zy))
        return ours, theirs

    all_equal(make)


def test_global_average_pool():
    def make(case):
        side, channels = case.between(1, 6), 40_000
        x, xs, xz, yz = (
            case.values(np.uint8, side, side, channels),
            case.scale(),
            case.zero(np.uint8),
            case.zero(np.uint8),
        )
        ys = case.scale()
        theirs = run("QLinearGlobalAveragePool", MICROSOFT, [x[None], xs, xz, ys, yz], {0: "x"}, (1, 1, 1, channels),
                     np.uint8, channels_last=1)  # fmt: skip
        ours = np.empty(channels, np.uint8)
        kernels.global_average_pool(x, ours, multiplier=law.global_average_multiplier(xs, ys, side * side),
                                    src_zero=int(xz), dst_zero=int(yz))  # fmt: skip
        return ours, theirs.ravel()

    all_equal(make)


def _integer_softmax(x: Any, scale: Any) -> Any:
    inputs = [x, scale, np.uint8(0), np.float32(1 / 256), np.uint8(0)]
    return run("QLinearSoftmax", MICROSOFT, inputs, {0: "x"}, x.shape, np.uint8, axis=-1, opset=13)


def _softmax(x: Any, scale: Any) -> Any:
    ours = np.empty_like(x)
    kernels.softmax(x, ours, table=law.exp_table(scale), dst_scale=1 / 256)
    return ours


def _real_softmax(x: Any, scale: Any) -> Any:
    real = np.exp((x.astype(np.float64) - x.max(axis=1, keepdims=True)) * np.float64(scale))
    return _rounded(real / real.sum(axis=1, keepdims=True), 1 / 256, 0, np.uint8)


def test_softmax_against_the_integer_kernel():
    """onnxruntime adds exponentials in float32. Where it differs from ours, it differs from the real softmax."""
    compared = misses = seed = 0
    while compared < OUTPUTS:
        case = Case(seed)
        n = case.between(2, 300)
        x, scale = case.values(np.uint8, 400_000 // n, n), case.scale(0.03)
        ours, theirs = _softmax(x, scale), _integer_softmax(x, scale)
        wrong = ours != theirs
        assert (ours[wrong] == _real_softmax(x, scale)[wrong]).all()
        assert (np.abs(ours[wrong].astype(int) - theirs[wrong]) == 1).all()
        compared, misses, seed = compared + x.size, misses + int(wrong.sum()), seed + 1
    assert misses <= compared * 1e-6


def test_softmax_of_a_row_that_onnxruntime_rounds_by_its_order():
    row = np.array([85, 74, 243, 71, 123, 95, 12, 162, 96, 43, 188, 30], np.uint8)
    xs = np.float32(float.fromhex("0x1.f4be94p-5"))
    terms = [((int(q) - 243) * Decimal(float(xs))).exp() for q in row]
    assert Decimal("245.499998433") < 256 * terms[2] / sum(terms) < Decimal("245.499998434")
    orders = np.array([np.random.default_rng(i).permutation(12) for i in range(100)])
    largest = orders == 2
    assert (_softmax(row[orders], xs)[largest] == 245).all()
    assert set(_integer_softmax(row[orders], xs)[largest]) == {245, 246}


def test_max_pool():
    def make(case):
        dtype = (np.uint8, np.int8)[int(case.rng.integers(2))]
        x, size = case.values(dtype, 128, 128, 40), case.between(2, 4)
        stride, pad = case.between(1, 3), case.between(0, 2)
        out = (128 + 2 * pad - size) // stride + 1
        theirs = run("MaxPool", "", [x.transpose(2, 0, 1)[None]], {0: "x"}, (1, 40, out, out), dtype,
                     kernel_shape=[size] * 2, strides=[stride] * 2, pads=[pad] * 4)  # fmt: skip
        ours = np.empty((out, out, 40), dtype)
        kernels.max_pool(x, ours, kernel=(size, size), stride=(stride, stride), pad=(pad, pad))
        return ours, theirs[0].transpose(1, 2, 0)

    all_equal(make)


def _rounded(real: Any, scale: Any, zero: int, dtype: Any) -> Any:
    """Float64 values quantized with one correct rounding of the quotient."""
    info = np.iinfo(dtype)
    return np.clip(np.rint(real / np.float64(scale)), info.min - zero, info.max - zero) + zero


def _misses(make: Any) -> tuple[int, int, int]:
    """Outputs compared, outputs that differ, largest difference."""
    compared = misses = worst = seed = 0
    while compared < OUTPUTS:
        ours, exact = make(Case(seed))
        difference = np.abs(ours.astype(np.int64) - exact)
        compared, misses, seed = compared + ours.size, misses + int((difference > 0).sum()), seed + 1
        worst = max(worst, int(difference.max()))
    return compared, misses, worst


def test_softmax_against_the_real_one():
    def make(case):
        n = case.between(2, 300)
        x, scale = case.values(np.uint8, 400_000 // n, n), case.scale(0.03)
        return _softmax(x, scale), _real_softmax(x, scale)

    compared, misses, worst = _misses(make)
    assert worst <= 1  # a 31-bit table entry can move a value across a tie, no further
    assert misses <= compared * 1e-6


def test_layer_norm_against_the_real_one():
    def make(case):
        n = case.between(2, 600)
        x, xs, ys = case.values(np.uint8, 400_000 // n, n), case.scale(0.02), np.float32(0.03)
        gain, offset = (case.rng.normal(size=n).astype(np.float32) for _ in range(2))
        ours = np.empty_like(x)
        kernels.layer_norm(x, ours, gain=gain, offset=offset, src_scale=xs, epsilon=np.float32(1e-5), dst_scale=ys,
                           dst_zero=128)  # fmt: skip
        real = x.astype(np.float64) * np.float64(xs)
        centred = real - real.mean(axis=1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=1, keepdims=True) + np.float64(np.float32(1e-5)))
        return ours, _rounded(centred / deviation * gain.astype(np.float64) + offset, ys, 128, np.uint8)

    compared, misses, worst = _misses(make)
    assert worst <= 1
    assert misses <= compared * 1e-6


FUNCTIONS = {
    "tanh": np.tanh,
    "exp": lambda x: np.exp(np.minimum(x, 80)),  # beyond, float32 overflows, and NumPy says so
    "silu": lambda x: x / (1 + np.exp(-x)),
    "leaky_relu": lambda x: np.maximum(x, 0.1 * x),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_tables_against_the_real_function(function):
    def make(case):
        x, xs, ys, xz, yz = case.values(np.uint8, 500_000), case.scale(), case.scale(), case.zero(np.uint8), 100
        ours = np.empty_like(x)
        kernels.lookup(x, law.lookup_table(function, np.uint8, xs, int(xz), np.uint8, ys, yz), ours)
        real = function(np.float64(law.dequantize(x, xs, xz)))
        return ours, _rounded(np.float32(real) / ys, 1.0, yz, np.uint8)  # QuantizeLinear divides in float32

    _, misses, _ = _misses(make)
    assert misses == 0
