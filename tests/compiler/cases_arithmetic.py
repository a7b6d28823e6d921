"""Cases of the operations that compute."""

from __future__ import annotations

import numpy as np

from npusim.graph.ir import Quantization
from npusim.graph.pointwise import Expression, Step
from tests.compiler.cases import case
from tests.compiler.cases_movement import image, plain
from tests.compiler.graphs import Maker

OTHER = Quantization(scale=np.float32(0.21), zero_point=11)
SILU = Expression((Step("sigmoid", (0,)), Step("mul", (0, 1))))


# ------------------------------------------------------------------------------------------------------------ products


@case("conv")
def conv_of_image():
    make, x = image()
    return make.build(make.conv(x, 40, 3, 2))


@case("conv")
def conv_of_two_images():
    make, x = plain((2, 3, 8, 6))
    return make.build(make.conv(make.conv(x, 12, 3), 8))


@case("conv")
def conv_of_channels_apart():
    make, x = image(32)
    w = make.constant(make.random.integers(-9, 9, (32, 1, 3, 3), np.int8), Quantization(scale=np.float32(0.3)))
    return make.build(make.op("conv", x, w, shape=(1, 32, 9, 7), strides=(1, 1), pads=(1,) * 4, dilations=(1, 1),
                              groups=32))  # fmt: skip


def transposed(x_shape, w_shape, shape, groups=1, strides=(2, 2), pads=(0,) * 4, dilations=(1, 1), axis=None):
    make, x = plain(x_shape)
    channels = w_shape[1] * groups
    scale = np.float32(0.02) if axis is None else np.linspace(0.01, 0.03, w_shape[1], dtype=np.float32)
    zero = 3 if axis is None else np.arange(w_shape[1]) - 2
    w = make.constant(
        make.random.integers(-128, 128, w_shape, np.int8), Quantization(scale=scale, zero_point=zero, axis=axis)
    )
    bias = make.constant(make.random.integers(-5000, 5000, channels, np.int32))
    return make.build(make.op("conv_transpose", x, w, bias, shape=shape, groups=groups, strides=strides, pads=pads,
                              dilations=dilations))  # fmt: skip


@case("conv_transpose")
def transposed_two_by_two():
    return transposed((1, 6, 5, 4), (6, 9, 2, 2), (1, 9, 10, 8))


@case("conv_transpose")
def transposed_with_padding_per_channel():
    return transposed((1, 6, 7, 4), (6, 9, 3, 3), (1, 9, 14, 8), pads=(1, 1, 0, 0), axis=1)


@case("conv_transpose")
def transposed_groups_of_two_images():
    return transposed((2, 6, 5, 4), (6, 4, 3, 3), (2, 8, 7, 6), groups=2, strides=(1, 1))


@case("conv_transpose")
def transposed_groups_per_channel():
    return transposed((1, 6, 5, 4), (6, 4, 3, 3), (1, 8, 7, 6), groups=2, strides=(1, 1), axis=1)


@case("conv_transpose")
def transposed_with_gaps():
    return transposed((1, 4, 4, 4), (4, 3, 1, 1), (1, 3, 10, 10), strides=(3, 3))


@case("conv_transpose")
def transposed_dilated():
    return transposed((1, 4, 5, 4), (4, 3, 3, 2), (1, 3, 13, 8), strides=(2, 2), dilations=(2, 1))


@case("matmul")
def matmul_with_constant():
    make, x = plain((1, 20, 24))
    w = make.constant(make.random.integers(-128, 128, (24, 40), np.int8), Quantization(scale=np.float32(0.02)))
    return make.build(make.op("matmul", x, w, shape=(1, 20, 40)))


@case("matmul")
def matmul_of_live_operands():
    make, x = plain((3, 10, 12))
    y = make.input((3, 12, 9), "s8")
    return make.build(make.op("matmul", x, y, shape=(3, 10, 9), quantization=Quantization(scale=np.float32(3.0))))


# --------------------------------------------------------------------------------------------------------- elementwise


def binary(op, quantization=OTHER):
    """An image and a number for each of its channels."""
    make, x = image()
    y = make.input((1, 16, 1, 1), "s8")
    return make.build(make.op(op, x, y, shape=(1, 16, 9, 7), quantization=quantization))


@case("add")
def add_of_images():
    make, x = image()
    y = make.conv(make.inputs[0], 16)
    return make.build(make.op("add", x, y, shape=(1, 16, 9, 7), quantization=OTHER))


@case("add")
def add_of_image_in_another_order():
    make, x = image()
    y = make.input((1, 16, 9, 7), "s8")
    return make.build(make.op("add", x, y, shape=(1, 16, 9, 7)))


@case("add")
def add_of_windows():
    make, x = plain((1, 8, 8, 6))
    y = make.op("reshape", x, shape=(1, 2, 4, 2, 4, 6))
    y = make.op("transpose", y, shape=(1, 2, 2, 4, 4, 6), permutation=(0, 1, 3, 2, 4, 5))
    y = make.op("reshape", y, shape=(4, 16, 6))
    z = make.input((1, 16, 1), "s8")
    return make.build(make.op("add", y, z, shape=(4, 16, 6)))


@case("sub")
def sub_of_channels():
    return binary("sub")


@case("mul")
def mul_of_channels():
    return binary("mul")


@case("mul")
def mul_of_both_broadcast():
    make, x = plain((5, 1, 9))
    y = make.input((4, 1), "s16")
    return make.build(make.op("mul", x, y, shape=(5, 4, 9)))


@case("mul")
def mul_of_scalars():
    make, x = plain(())
    return make.build(make.op("mul", x, make.input((), "u8"), shape=()))


@case("div")
def div_of_channels():
    return binary("div")


@case("min")
def min_of_channels():
    return binary("min")


@case("max")
def max_of_channels():
    return binary("max", None)


@case("max")
def max_of_long_vectors():
    make, x = plain((9000,))
    return make.build(make.op("max", x, make.input((9000,), "u8"), shape=(9000,)))


@case("table")
def table_of_image():
    make, x = image()
    return make.build(make.op("table", x, shape=(1, 16, 9, 7), quantization=OTHER, expression=SILU))


def scaled(channels, axis, same=1):
    """A factor for each index of an axis; ``same`` that follow one another are equal."""
    factors = tuple(float(np.float32(0.3 + 0.1 * (index // same))) for index in range(channels))
    return Expression((Step("mul", (0, factors)), Step("tanh", (1,))), axis)


@case("tables")
def tables_of_channels_last():
    make, x = image()
    y = make.conv(x, 16)
    z = make.op("tables", y, shape=(1, 16, 9, 7), quantization=OTHER, expression=scaled(16, 1))
    return make.build(make.conv(z, 8), z)


@case("tables")
def tables_of_a_large_image():
    """So many pixels that each core turns its own."""
    make, x = plain((1, 6, 50, 40))
    y = make.conv(x, 6)
    z = make.op("tables", y, shape=(1, 6, 50, 40), dtype="s16", quantization=OTHER, expression=scaled(6, 1, same=2))
    return make.build(z)


@case("tables")
def tables_of_pairs_of_channels():
    make, x = plain((2, 6, 50))
    return make.build(make.op("tables", x, shape=(2, 6, 50), dtype="s16", expression=scaled(6, 1, same=2)))


@case("tables")
def tables_of_features():
    make, x = plain((3, 70))
    return make.build(make.op("tables", x, shape=(3, 70), dtype="s8", clamp=(-20, 90), expression=scaled(70, 1)))


@case("tables")
def tables_of_long_rows():
    make, x = plain((2, 9000))
    return make.build(make.op("tables", x, shape=(2, 9000), expression=scaled(2, 0)))


@case("rescale")
def rescale_of_windows():
    make, x = plain((1, 8, 8, 6))
    y = make.op("reshape", x, shape=(1, 2, 4, 2, 4, 6))
    y = make.op("transpose", y, shape=(1, 2, 2, 4, 4, 6), permutation=(0, 1, 3, 2, 4, 5))
    y = make.op("reshape", y, shape=(4, 16, 6))
    return make.build(make.op("rescale", y, shape=(4, 16, 6), dtype="s16"))


@case("rescale")
def rescale_of_scalar():
    make, x = plain(())
    return make.build(make.op("rescale", x, shape=(), dtype="s8"))


def varying(axis, count, block=0, shape=None):
    shape = shape or (count,)
    scale = np.linspace(0.01, 0.2, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    return Quantization(scale=scale, zero_point=np.arange(scale.size).reshape(shape) + 3, axis=axis, block=block)


@case("quantize")
def quantize_of_tensor():
    make, x = plain((1, 3, 9, 7), "f32")
    return make.build(make.op("quantize", x, shape=(1, 3, 9, 7), dtype="u8"))


@case("quantize")
def quantize_per_channel():
    make, x = plain((2, 5, 6), "f32")
    return make.build(make.op("quantize", x, shape=(2, 5, 6), dtype="s8", quantization=varying(1, 5)))


@case("dequantize")
def dequantize_of_image():
    make, x = image()
    return make.build(make.op("dequantize", x, shape=(1, 16, 9, 7), dtype="f32"))


@case("dequantize")
def dequantize_per_column():
    make = Maker()
    x = make.input((6, 11), "u8", varying(1, 11))
    return make.build(make.op("dequantize", x, shape=(6, 11), dtype="f32"))


@case("dequantize")
def dequantize_by_blocks():
    make = Maker()
    x = make.input((3, 11), "u8", varying(1, 0, 4, (3, 3)))
    return make.build(make.op("dequantize", x, shape=(3, 11), dtype="f32"))


@case("cast")
def cast_to_s32():
    make, x = image()
    return make.build(make.op("cast", x, shape=(1, 16, 9, 7), dtype="s32"))


@case("cast")
def cast_to_s16():
    make, x = plain((5, 9), "s8")
    return make.build(make.op("cast", x, shape=(5, 9), dtype="s16"))


@case("cast")
def cast_to_s64():
    make, x = plain((5, 9), "s32")
    return make.build(make.op("cast", x, shape=(5, 9), dtype="s64"))


# ------------------------------------------------------------------------------------------------ pools and reductions


def pooled(make, x, op, kernel, strides, pads, shape, dilations=(1, 1), **more):
    return make.build(make.op(op, x, shape=shape, kernel=kernel, strides=strides, pads=pads, dilations=dilations,
                              **more))  # fmt: skip


@case("max_pool")
def max_pool_of_image():
    return pooled(*image(), "max_pool", (3, 3), (2, 2), (1, 1, 1, 1), (1, 16, 5, 4))


@case("max_pool")
def max_pool_of_two_images():
    return pooled(*plain((2, 5, 8, 6), "s16"), "max_pool", (2, 2), (2, 2), (0,) * 4, (2, 5, 4, 3))


@case("max_pool")
def max_pool_of_many_channels():
    return pooled(*plain((1, 300, 7, 9)), "max_pool", (5, 5), (1, 1), (2,) * 4, (1, 300, 7, 9))


@case("average_pool")
def average_pool_that_counts_padding():
    return pooled(*image(), "average_pool", (3, 3), (1, 1), (1,) * 4, (1, 16, 9, 7), count_padding=1)


@case("average_pool")
def average_pool_that_leaves_padding_out():
    return pooled(*image(), "average_pool", (5, 3), (2, 2), (2, 1, 2, 1), (1, 16, 5, 4), count_padding=0)


@case("average_pool")
def average_pool_beyond_its_padding():
    return pooled(*plain((2, 4, 8, 8)), "average_pool", (3, 3), (2, 2), (0, 0, 0, 0), (2, 4, 4, 4), count_padding=1)


@case("global_average_pool")
def global_average_pool_of_two_images():
    make, x = plain((2, 70, 5, 6))
    return make.build(make.op("global_average_pool", x, shape=(2, 70, 1, 1)))


@case("reduce_mean")
def mean_of_image():
    make, x = image()
    return make.build(make.op("reduce_mean", x, shape=(1, 16, 1, 1), axes=(2, 3), keepdims=1))


@case("reduce_mean")
def mean_of_tokens():
    make, x = plain((1, 50, 24))
    return make.build(make.op("reduce_mean", x, shape=(1, 24), axes=(1,), keepdims=0))


@case("reduce_mean")
def mean_of_image_channels():
    make, x = image()
    return make.build(make.op("reduce_mean", x, shape=(1, 1, 9, 7), axes=(1,), keepdims=1, clamp=(30, 200)))


@case("reduce_sum")
def sum_along_the_last_axis():
    make, x = plain((6, 40), "s8")
    return make.build(make.op("reduce_sum", x, shape=(6,), axes=(1,), keepdims=0, quantization=OTHER))


@case("reduce_sum")
def sum_of_axes_apart():
    make, x = image()
    y = Quantization(scale=np.float32(1.5), zero_point=128)
    return make.build(make.op("reduce_sum", x, shape=(1, 9), axes=(1, 3), keepdims=0, quantization=y))


@case("reduce_max")
def max_of_everything():
    make, x = plain((5, 6, 7), "s16")
    return make.build(make.op("reduce_max", x, shape=(), axes=(0, 1, 2), keepdims=0))


@case("reduce_max")
def max_of_columns_of_image():
    make, x = image()
    return make.build(make.op("reduce_max", x, shape=(1, 16, 9, 1), axes=(3,), keepdims=1))


@case("reduce_min")
def min_along_the_first_axis():
    make, x = plain((9, 300))
    return make.build(make.op("reduce_min", x, shape=(300,), axes=(0,), keepdims=0, dtype="s8"))


@case("arg_max")
def position_along_the_last_axis():
    make, x = plain((7, 50))
    return make.build(make.op("arg_max", x, shape=(7,), dtype="s64", axis=1, keepdims=0, select_last=0))


@case("arg_max")
def position_of_class_of_each_pixel():
    make, x = image()
    return make.build(make.op("arg_max", x, shape=(1, 1, 9, 7), dtype="s64", axis=1, keepdims=1, select_last=1))


@case("arg_min")
def position_along_the_middle_axis():
    make, x = plain((3, 20, 11), "s8")
    return make.build(make.op("arg_min", x, shape=(3, 11), dtype="s64", axis=1, keepdims=0, select_last=1))


@case("arg_min")
def position_as_s32():
    make, x = plain((3, 20))
    return make.build(make.op("arg_min", x, shape=(20,), dtype="s32", axis=0, keepdims=0, select_last=0))


@case("resize")
def resize_to_twice_the_size():
    make, x = image()
    rows, columns = tuple(k // 2 for k in range(18)), tuple(k // 2 for k in range(14))
    return make.build(make.op("resize", x, shape=(1, 16, 18, 14), mode="nearest", rows=rows, columns=columns))


@case("resize")
def resize_of_two_images_downwards():
    make, x = plain((2, 4, 9, 8), "s16")
    return make.build(make.op("resize", x, shape=(2, 4, 3, 2), mode="nearest", rows=(0, 4, 8), columns=(7, 2)))


@case("resize")
def resize_between_pixels():
    make, x = image()
    rows, columns = np.arange(20) * 0.42, np.arange(11) * 0.6
    tables = {}
    for name, weights, extent, at in (("rows", "row_weights", 9, rows), ("columns", "column_weights", 7, columns)):
        low = np.minimum(at.astype(int), extent - 1)
        tables[name] = tuple(map(int, low))
        tables[f"{name}_high"] = tuple(map(int, np.minimum(low + 1, extent - 1)))
        tables[weights] = tuple(float(w) for w in (at - low).astype(np.float32))
    return make.build(make.op("resize", x, shape=(1, 16, 20, 11), quantization=OTHER, mode="linear", **tables))


# ------------------------------------------------------------------------------------------------------- normalizations


def normalized(op, shape=(1, 20, 48), **attributes):
    make, x = plain(shape)
    arrays = [make.constant(make.random.normal(size=48).astype(np.float32)) for _ in range(attributes.pop("arrays", 0))]
    return make.build(make.op(op, x, *arrays, shape=shape, quantization=Quantization(
        scale=np.float32(0.05), zero_point=100), **attributes))  # fmt: skip


@case("layer_norm")
def layer_norm_of_tokens():
    return normalized("layer_norm", arrays=2, epsilon=1e-5)


@case("rms_norm")
def rms_norm_of_tokens():
    return normalized("rms_norm", arrays=1, epsilon=1e-5)


@case("softmax")
def softmax_of_rows():
    return normalized("softmax", (3, 10, 48))


@case("softmax")
def softmax_of_one_row():
    return normalized("softmax", (48,))
