"""Convolutions and matrix products mean what onnxruntime's integer kernels compute, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from isa.dtypes import DType
from isa.instructions import Conv, ConvTranspose, DepthwiseConv, Matmul, MatrixLayout, block_weights
from isa.law import gemm_multiplier, requantize_multiplier

TYPES = {np.dtype(np.int8): DType.S8, np.dtype(np.uint8): DType.U8, np.dtype(np.int32): DType.S32}
DECIMAL = (0.01, 0.02, 0.025, 0.05, 0.1, 0.25)
S8, U8 = np.int8, np.uint8

each_seed = pytest.mark.parametrize("seed", range(12))


def scale_of(rng):
    """Tie-rich: decimals and powers of two, and now and then any."""
    kind = rng.integers(3)
    value = (rng.choice(DECIMAL), 2.0 ** rng.integers(-7, -2), rng.uniform(0.01, 0.2))[kind]
    return np.float32(value)


def integers(rng, dtype, shape):
    info = np.iinfo(dtype)
    if rng.random() < 0.3:
        return rng.choice(np.array([info.min, info.max], dtype), shape)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


def zero_of(rng, dtype):
    info = np.iinfo(dtype)
    return dtype(
        rng.choice([rng.choice([info.min, info.max]), (info.min + info.max + 1) // 2, rng.integers(info.min, info.max)])
    )


def result_scale(rng, xs, ws, depth):
    """So that a result of random operands covers its type."""
    return np.float32(
        scale_of(rng) * 2.0 ** np.round(np.log2(float(xs) * float(np.max(ws)) * 60 * 60 * depth**0.5 / 5))
    )


def blocks(w, groups):
    """OIHW weights in the instruction's order, per group."""
    n = w.shape[0] // groups
    by_group = [w[g * n : (g + 1) * n].transpose(0, 2, 3, 1).reshape(n, -1) for g in range(groups)]
    return np.concatenate([block_weights(m).ravel() for m in by_group])


class ConvCase:
    """A random convolution: operands as ONNX has them, and the fields of the instruction."""

    def __init__(self, seed, *, x_type=U8, w_type=S8, depthwise=False):
        rng = self.rng = np.random.default_rng(seed)
        self.groups = int(rng.choice([1, 1, 2, 3]))
        in_group, out_group = int(rng.integers(1, 9)), int(rng.choice([1, 3, 8, 33]))
        if depthwise:
            self.groups, in_group, out_group = int(rng.choice([1, 7, 32, 40])), 1, 1
        self.channels, self.out_channels = self.groups * in_group, self.groups * out_group
        self.kernel = [int(v) for v in rng.integers(1, 4, 2)]
        self.strides = [int(v) for v in rng.integers(1, 4, 2)]
        self.dilations = [int(v) for v in rng.integers(1, 3, 2)]
        self.pads = [int(v) for v in rng.integers(0, 3, 4)]
        span = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]
        size = [int(s + rng.integers(0, 5)) for s in span]
        self.x = integers(rng, x_type, (1, self.channels, *size))
        self.w = integers(rng, w_type, (self.out_channels, in_group, *self.kernel))
        self.out = [(size[d] + self.pads[d] + self.pads[d + 2] - span[d]) // self.strides[d] + 1 for d in range(2)]
        self.depth = in_group * self.kernel[0] * self.kernel[1]
        self.attributes = {
            "group": self.groups, "kernel_shape": self.kernel, "strides": self.strides, "dilations": self.dilations,
            "pads": self.pads,
        }  # fmt: skip

    def instruction(self, board, cls=Conv, dst_type=DType.U8, **more):
        height, width = self.x.shape[2:]
        item = np.dtype(dst_type.numpy).itemsize
        weights = self.w[:, 0].transpose(1, 2, 0) if cls is DepthwiseConv else blocks(self.w, self.groups)
        if cls is not DepthwiseConv:
            more |= {"out_channels": self.out_channels, "groups": self.groups}
        return cls(
            src=board.put(self.x[0].transpose(1, 2, 0)), weights=board.put(weights),
            dst=board.space(self.out[0] * self.out[1] * self.out_channels * item),
            in_height=height, in_width=width, in_channels=self.channels, out_height=self.out[0], out_width=self.out[1],
            kernel_height=self.kernel[0], kernel_width=self.kernel[1], stride_height=self.strides[0],
            stride_width=self.strides[1], dilation_height=self.dilations[0], dilation_width=self.dilations[1],
            pad_top=self.pads[0], pad_left=self.pads[1], src_pixel_stride=self.channels,
            src_row_stride=width * self.channels, dst_pixel_stride=self.out_channels * item,
            dst_row_stride=self.out[1] * self.out_channels * item, src_type=TYPES[self.x.dtype],
            weight_type=TYPES[self.w.dtype], dst_type=dst_type, **more,
        )  # fmt: skip

    def shape(self):
        return (self.out[0], self.out[1], self.out_channels)


def nchw(y):
    return y.transpose(2, 0, 1)[None]


@pytest.mark.parametrize(("x_type", "w_type"), [(U8, S8), (U8, U8), (S8, S8)])
@pytest.mark.parametrize("depthwise", [False, True])
@each_seed
def test_conv_is_qlinear_conv(board, ort, seed, x_type, w_type, depthwise):
    case = ConvCase([seed, depthwise, x_type == S8], x_type=x_type, w_type=w_type, depthwise=depthwise)
    rng, channels = case.rng, case.out_channels
    per_channel, has_bias = bool(rng.integers(2)), bool(rng.integers(2))
    xs, xz, yz = scale_of(rng), zero_of(rng, x_type), zero_of(rng, x_type)
    ws = np.array([scale_of(rng) for _ in range(channels)]) if per_channel else scale_of(rng)
    wz = np.zeros(np.shape(ws), w_type) if w_type is S8 else np.broadcast_to(zero_of(rng, w_type), np.shape(ws)).copy()
    ys = result_scale(rng, xs, ws, case.depth)
    bias = rng.integers(-5000, 5000, channels, np.int32) if has_bias else None
    want = ort("QLinearConv", {
        "x": case.x, "xs": xs, "xz": xz, "w": case.w, "ws": ws, "wz": wz, "ys": ys, "yz": yz, "b": bias,
    }, **case.attributes)  # fmt: skip

    here, info = board(), np.iinfo(x_type)
    factors = np.asarray(requantize_multiplier(xs, ws, ys), "<f4")
    arrays = ([bias] if has_bias else []) + ([factors] if per_channel else [])
    params = here.block(
        *arrays, zero_a=int(xz), zero_b=int(np.ravel(wz)[0]), zero=int(yz), low=int(info.min), high=int(info.max),
        factor_a=np.ravel(factors)[0] if not per_channel else 0,
    )  # fmt: skip
    dst_type = TYPES[np.dtype(x_type)]
    for cls in (Conv, DepthwiseConv) if depthwise else (Conv,):
        made = case.instruction(
            here, cls, dst_type, params=params, has_bias=int(has_bias), per_channel=int(per_channel)
        )
        assert np.array_equal(nchw(here.run(made, dst_type, case.shape())), want)


@each_seed
def test_raw_conv_is_conv_integer(board, ort, seed):
    case = ConvCase(100 + seed, w_type=U8)
    xz, wz = zero_of(case.rng, U8), zero_of(case.rng, U8)
    want = ort("ConvInteger", {"x": case.x, "w": case.w, "xz": xz, "wz": wz}, out_type=np.int32, **case.attributes)
    here = board()
    made = case.instruction(here, dst_type=DType.S32, params=here.block(zero_a=int(xz), zero_b=int(wz)))
    assert np.array_equal(nchw(here.run(made, DType.S32, case.shape())), want)


@each_seed
def test_channel_zeros_are_a_zero_point_per_channel(board, seed):
    case = ConvCase(200 + seed, w_type=U8)
    zeros = case.rng.integers(0, 256, case.out_channels).astype("<i4")
    here = board()
    made = case.instruction(here, dst_type=DType.S32, params=here.block(zeros, zero_b=77), channel_zeros=1)
    got = here.run(made, DType.S32, case.shape())
    wide = np.zeros(case.shape(), np.int64)
    for channel in range(case.out_channels):  # one channel at a time, with the zero point in the head
        there = board()
        made = case.instruction(there, dst_type=DType.S32, params=there.block(zero_b=int(zeros[channel])))
        wide[..., channel] = there.run(made, DType.S32, case.shape())[..., channel]
    assert np.array_equal(got, wide)


@each_seed
def test_split_along_k_with_raw_partials_is_the_whole(board, seed):
    case = ConvCase(300 + seed)
    case.groups = 1
    rng = case.rng
    case.w = integers(rng, S8, (case.out_channels, case.channels, *case.kernel))
    bias = rng.integers(-1000, 1000, case.out_channels).astype("<i4")
    head = {"zero_a": 3, "zero": 128, "low": 0, "high": 255, "factor_a": np.float32(0.0025)}
    here = board()
    whole = case.instruction(here, params=here.block(bias, **head), has_bias=1)
    want = here.run(whole, DType.U8, case.shape())

    cut = case.channels // 2
    x, w = case.x, case.w
    partial, source, results = 0, here.put(x[0].transpose(1, 2, 0)), []
    parts = [part for part in (slice(0, cut), slice(cut, None)) if w[:, part].size]
    for position, part in enumerate(parts):
        last = position == len(parts) - 1
        case.x, case.w = x[:, part], w[:, part]
        full_channels, case.channels = case.channels, case.x.shape[1]
        made = case.instruction(
            here, dst_type=DType.U8 if last else DType.S32, has_bias=int(last), accumulate=int(position > 0),
            params=here.block(*([bias] if last else []), **head), partial=partial,
        )  # fmt: skip
        case.channels = full_channels
        # the channel slice is read in place, by strides
        fields = {f.name: getattr(made, f.name) for f in made.layout.fields}
        width = x.shape[3]
        fields |= {"src": source + (part.start or 0), "src_pixel_stride": full_channels}
        made = type(made)(**{**fields, "src_row_stride": width * full_channels})
        results.append(here.run(made, DType.U8 if last else DType.S32, case.shape()))
        partial = made.dst
    assert np.array_equal(results[-1], want)


def test_accumulators_may_continue_in_place(board):
    case = ConvCase(400)
    here = board()
    params = here.block()
    made = case.instruction(here, dst_type=DType.S32, params=params)
    once = here.run(made, DType.S32, case.shape()).astype(np.int64)
    again = case.instruction(here, dst_type=DType.S32, params=params, accumulate=1, partial=made.dst)
    fields = {f.name: getattr(again, f.name) for f in again.layout.fields}
    twice = here.run(Conv(**{**fields, "dst": made.dst}), DType.S32, case.shape())
    assert np.array_equal(twice, 2 * once)


@each_seed
def test_conv_transpose_is_that_of_floats(board, ort, seed):
    case = ConvCase(500 + seed, x_type=S8)
    rng, groups = case.rng, case.groups
    in_group, out_group = case.channels // groups, int(rng.choice([1, 2, 33]))
    w = integers(rng, S8, (case.channels, out_group, *case.kernel))
    span = [(k - 1) * d + 1 for k, d in zip(case.kernel, case.dilations, strict=True)]
    extra = [int(rng.integers(0, s)) for s in case.strides]
    pads = [int(rng.integers(0, min(3, s))) for s in (*span, *span)]
    size = case.x.shape[2:]
    out = [(size[d] - 1) * case.strides[d] + extra[d] + span[d] - pads[d] - pads[d + 2] for d in range(2)]
    if min(out) < 1:
        pads = [0, 0, 0, 0]
    out = [(size[d] - 1) * case.strides[d] + extra[d] + span[d] - pads[d] - pads[d + 2] for d in range(2)]
    want = ort(
        "ConvTranspose", {"x": case.x.astype(np.float32), "w": w.astype(np.float32)}, group=groups,
        kernel_shape=case.kernel, strides=case.strides, dilations=case.dilations, pads=pads, output_padding=extra,
    )  # fmt: skip
    # [C, M/g, kh, kw] to per group [M/g, C/g, kh, kw]
    case.w = np.concatenate([w[g * in_group : (g + 1) * in_group].swapaxes(0, 1) for g in range(groups)])
    case.out_channels, case.out, case.pads = groups * out_group, out, pads
    here = board()
    made = case.instruction(here, ConvTranspose, DType.S32, params=here.block())
    assert np.array_equal(nchw(here.run(made, DType.S32, case.shape())), want.astype(np.int64))  # sums are below 2**24


def matmul(board, a, b, *, params, dst_type, layout=MatrixLayout.ROW_MAJOR, a_transposed=0, **more):
    """The instruction for [b0, b1, m, k] @ [b0, b1, k, n], densely stored."""
    outer, inner, m, k = a.shape
    n, item = b.shape[-1], np.dtype(dst_type.numpy).itemsize
    a_size, b_size = a.dtype.itemsize, b.dtype.itemsize
    stored = {
        MatrixLayout.ROW_MAJOR: lambda: b,
        MatrixLayout.TRANSPOSED: lambda: b.swapaxes(2, 3),
        MatrixLayout.BLOCKED: lambda: np.stack([block_weights(x.T) for x in b.reshape(-1, k, n)]),
    }[layout]()
    per_matrix = stored.size // (outer * inner) * b_size
    return Matmul(
        a=board.put(a.swapaxes(2, 3) if a_transposed else a), b=board.put(stored), params=params,
        dst=board.space(outer * inner * m * n * item), batch_outer=outer, batch_inner=inner, m=m, k=k, n=n,
        a_row_stride=(m if a_transposed else k) * a_size, a_inner_stride=m * k * a_size,
        a_outer_stride=inner * m * k * a_size, b_row_stride=(k if layout is MatrixLayout.TRANSPOSED else n) * b_size,
        b_inner_stride=per_matrix, b_outer_stride=inner * per_matrix, dst_row_stride=n * item,
        dst_inner_stride=m * n * item, dst_outer_stride=inner * m * n * item, dst_type=dst_type,
        a_transposed=a_transposed, b_layout=layout, **more,
    )  # fmt: skip


@pytest.mark.parametrize("layout", MatrixLayout)
@pytest.mark.parametrize("a_transposed", [0, 1])
@pytest.mark.parametrize(("a_type", "b_type"), [(U8, S8), (U8, U8), (S8, S8)])
@pytest.mark.parametrize("seed", range(3))
def test_matmul_is_qlinear_matmul(board, ort, seed, layout, a_transposed, a_type, b_type):
    rng = np.random.default_rng([seed, layout, a_transposed])
    batch, m, k, n = rng.integers(1, 4, 2), *rng.integers(1, 20, 2), rng.choice([1, 5, 32, 40])
    a, b = integers(rng, a_type, (*batch, m, k)), integers(rng, b_type, (*batch, k, n))
    a_scale, b_scale = scale_of(rng), scale_of(rng)
    az, bz, yz = zero_of(rng, a_type), zero_of(rng, b_type), zero_of(rng, a_type)
    ys = result_scale(rng, a_scale, b_scale, k)
    want = ort("QLinearMatMul", {
        "a": a, "as": a_scale, "az": az, "b": b, "bs": b_scale, "bz": bz, "ys": ys, "yz": yz
    })  # fmt: skip
    here, info, dst = board(), np.iinfo(a_type), TYPES[np.dtype(a_type)]
    params = here.block(
        zero_a=int(az), zero_b=int(bz), zero=int(yz), low=int(info.min), high=int(info.max),
        factor_a=requantize_multiplier(a_scale, b_scale, ys),
    )  # fmt: skip
    made = matmul(
        here, a, b, params=params, dst_type=dst, layout=layout, a_transposed=a_transposed,
        src_type=TYPES[a.dtype], weight_type=TYPES[b.dtype],
    )  # fmt: skip
    assert np.array_equal(here.run(made, dst, want.shape), want)


@each_seed
def test_raw_matmul_is_matmul_integer(board, ort, seed):
    rng = np.random.default_rng(seed)
    a, b = integers(rng, U8, (2, 3, 5, 17)), integers(rng, U8, (2, 3, 17, 33))
    want = ort("MatMulInteger", {"a": a, "b": b, "az": U8(7), "bz": U8(200)}, out_type=np.int32)
    here = board()
    params = here.block(zero_a=7, zero_b=200)
    made = matmul(here, a, b, params=params, dst_type=DType.S32, weight_type=DType.U8)
    assert np.array_equal(here.run(made, DType.S32, want.shape), want)


@each_seed
def test_matmul_with_bias_is_qgemm(board, ort, seed):
    rng = np.random.default_rng(seed)
    m, k, n, per_column = 5, 33, 40, seed % 2
    a, b = integers(rng, U8, (m, k)), integers(rng, S8, (n, k))
    c, alpha = rng.integers(-9000, 9000, n, np.int32), float(rng.choice([1.0, 0.5, 0.3]))
    a_scale, az, yz = scale_of(rng), zero_of(rng, U8), zero_of(rng, U8)
    b_scale = np.array([scale_of(rng) for _ in range(n)]) if per_column else scale_of(rng)
    ys = result_scale(rng, a_scale, b_scale, k)
    want = ort("QGemm", {
        "a": a, "as": a_scale, "az": az, "b": b, "bs": b_scale, "bz": np.zeros(np.shape(b_scale), S8), "c": c,
        "ys": ys, "yz": yz,
    }, domain="com.microsoft", alpha=alpha, transB=1)  # fmt: skip
    here = board()
    factors = np.asarray(gemm_multiplier(alpha, a_scale, b_scale, ys), "<f4")
    params = here.block(
        c, *([factors] if per_column else []), zero_a=int(az), zero=int(yz), low=0, high=255,
        factor_a=np.ravel(factors)[0],
    )  # fmt: skip
    made = matmul(
        here, a[None, None], b.T[None, None], params=params, dst_type=DType.U8, layout=MatrixLayout.TRANSPOSED,
        has_bias=1, per_channel=per_column,
    )  # fmt: skip
    assert np.array_equal(here.run(made, DType.U8, (m, n)), want)


@each_seed
def test_pointwise_conv_is_a_blocked_matmul(board, seed):
    rng = np.random.default_rng(seed)
    m, k, n = 7, int(rng.integers(1, 40)), int(rng.choice([3, 32, 45]))
    a, b = integers(rng, U8, (1, 1, m, k)), integers(rng, S8, (1, 1, k, n))
    here = board()
    params = here.block(zero_a=9, zero_b=-3, zero=5, low=0, high=200, factor_a=np.float32(0.001))
    product = here.run(
        matmul(here, a, b, params=params, dst_type=DType.U8, layout=MatrixLayout.BLOCKED), DType.U8, (m, n)
    )
    conv = Conv(
        src=here.put(a), weights=here.put(block_weights(b[0, 0].T)), dst=here.space(m * n), params=params, in_height=1,
        in_width=m, in_channels=k, out_height=1, out_width=m, out_channels=n, src_row_stride=0, src_pixel_stride=k,
        dst_row_stride=0, dst_pixel_stride=n,
    )  # fmt: skip
    assert np.array_equal(here.run(conv, DType.U8, (m, n)), product)


@pytest.mark.parametrize(
    ("a_type", "b_type"), [(DType.S16, DType.S16), (DType.U16, DType.S8), (DType.U8, DType.U16), (DType.U16, DType.U16)]
)
def test_16_bit_operands_have_64_bit_accumulators(board, a_type, b_type):
    rng = np.random.default_rng(5)
    a, b = integers(rng, a_type.numpy.type, (1, 2, 3, 50)), integers(rng, b_type.numpy.type, (1, 2, 50, 4))
    a[..., 0, :], b[..., 0] = a_type.range[1], b_type.range[1]  # 50 * 65535**2 passes 2**32
    here = board()
    params = here.block(zero_a=-3, zero_b=5)
    made = matmul(here, a, b, params=params, dst_type=DType.S64, src_type=a_type, weight_type=b_type)
    exact = np.array((a.astype(object) + 3) @ (b.astype(object) - 5), np.int64)
    assert np.array_equal(here.run(made, DType.S64, exact.shape), exact)


def test_32_bit_accumulators_wrap(board):
    # 2**31 is reached by a bias: two's complement, as the silicon's adder and onnxruntime's do
    here = board()
    a, b = np.full((1, 1, 1, 1), 255, U8), np.full((1, 1, 1, 1), 127, S8)
    params = here.block(np.array([2**31 - 1], "<i4"))
    made = matmul(here, a, b, params=params, dst_type=DType.S32, has_bias=1)
    assert here.run(made, DType.S32, (1,))[0] == 2**31 - 1 + 255 * 127 - 2**32
