"""Instructions of the conv units: convolutions and matrix products with a fused requantize.

All of them gather an exact accumulator and hand it to one epilogue. Accumulators are 32-bit two's complement for 8-bit
operands and 64-bit where an operand has 16 bits; a destination of that type receives them raw, which is how a product
is split along K: the next instruction adds them with ``accumulate``.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, ClassVar

import numpy as np

from .. import law
from ..dtypes import ACTIVATION_TYPES, BYTE_TYPES, DType
from ..field import OCM_ADDRESS_BITS, choice, element_type, extent, flag, ocm_address, unsigned
from ..instruction import CONV, Constraint, Instruction, instruction, operand_group
from ..memory import Memory
from ..region import Region, ceil_div, ocm
from . import parameters
from .parameters import BLOCK_BYTES, Parameters

WEIGHT_ALIGN = 64
"""Weights and tables begin at multiples of this many bytes."""

OC_BLOCK = 32
"""Output channels of one weight block."""
K_BLOCK = 4
"""Consecutive K entries that stand together in a weight block, as a dot-product unit reads them."""

MOST_ELEMENTS = 1 << OCM_ADDRESS_BITS
"""Elements of a tensor that can lie in OCM; also keeps products of four extents within 64 bits."""

WEIGHT_TYPES = (*BYTE_TYPES, DType.S16)
RESULT_TYPES = (*ACTIVATION_TYPES, DType.S32, DType.S64)


def is_short(dtype: Any) -> Any:
    """1 where the type has 16 bits, else 0; an int or an array."""
    return (dtype == DType.S16) * 1 | (dtype == DType.U16) * 1


def accumulator_type(*operands: Any) -> Any:
    """S32, or S64 where one of the operand types has 16 bits."""
    wide = sum(is_short(t) for t in operands) > 0
    return DType.S32 + (DType.S64 - DType.S32) * wide


def blocked_elements(n: Any, k: Any) -> Any:
    """Elements of a ``[ceil(n/32)][ceil(k/4)][32][4]`` weight block, padding included."""
    return ceil_div(n, OC_BLOCK) * ceil_div(k, K_BLOCK) * (OC_BLOCK * K_BLOCK)


def block_weights(matrix: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Arrange ``[n, k]`` as ``[ceil(n/32), ceil(k/4), 32, 4]``, zero padded."""
    n, k = matrix.shape
    padded = np.zeros((ceil_div(n, OC_BLOCK) * OC_BLOCK, ceil_div(k, K_BLOCK) * K_BLOCK), matrix.dtype)
    padded[:n, :k] = matrix
    split = padded.reshape(-1, OC_BLOCK, padded.shape[1] // K_BLOCK, K_BLOCK)
    return np.ascontiguousarray(split.transpose(0, 2, 1, 3))


def unblock_weights(blocked: np.ndarray[Any, Any], n: int, k: int) -> np.ndarray[Any, Any]:
    """The inverse of ``block_weights`` on a flat array: ``[n, k]``."""
    split = blocked.reshape(ceil_div(n, OC_BLOCK), ceil_div(k, K_BLOCK), OC_BLOCK, K_BLOCK)
    return split.transpose(0, 2, 1, 3).reshape(ceil_div(n, OC_BLOCK) * OC_BLOCK, -1)[:n, :k]


@operand_group
class Epilogue(Instruction):
    """What every matrix instruction does with its accumulators."""

    dst: int = ocm_address("destination")
    params: int = ocm_address("parameter block; arrays in order: bias s32, multiplier f32, weight zero point s32")
    partial: int = ocm_address("accumulators to continue from: dense, in the order of the destination", default=0)
    src_type: DType = element_type("element type of the source", ACTIVATION_TYPES, default=DType.U8)
    weight_type: DType = element_type("element type of the weights", WEIGHT_TYPES, default=DType.S8)
    dst_type: DType = element_type("element type of the destination; s32/s64: raw", RESULT_TYPES, default=DType.U8)
    has_bias: int = flag("the block holds one s32 bias per output channel", default=0)
    per_channel: int = flag("the block holds one multiplier per output channel instead of the head's", default=0)
    channel_zeros: int = flag(
        "the block holds one weight zero point per output channel instead of the head's", default=0
    )
    accumulate: int = flag("add the accumulators at `partial`", default=0)

    constraints: ClassVar[tuple[Constraint, ...]] = (
        Constraint(
            "a raw destination has the accumulator's type: s32 for 8-bit operands, s64 where one has 16 bits",
            lambda i: (
                ((i.dst_type != DType.S32) & (i.dst_type != DType.S64))
                | (i.dst_type == accumulator_type(i.src_type, i.weight_type))
            ),
        ),
    )

    def block(self, channels: Any) -> tuple[Region, ...]:
        """Head, bias, multipliers and zero points of the parameter block."""
        bias = self.params + BLOCK_BYTES
        multipliers = bias + 4 * channels * self.has_bias
        zeros = multipliers + 4 * channels * self.per_channel
        return (
            parameters.head(self.params),
            parameters.array(bias, DType.S32, channels * self.has_bias),
            parameters.array(multipliers, DType.F32, channels * self.per_channel),
            parameters.array(zeros, DType.S32, channels * self.channel_zeros),
        )

    def partial_region(self, elements: Any) -> Region:
        """The accumulators to continue from; empty without ``accumulate``."""
        return ocm(self.partial, elements * self.accumulate, accumulator_type(self.src_type, self.weight_type))

    def weight_zero(self, memory: Memory, head: Parameters, channels: int) -> Any:
        """The weights' zero point: one integer, or int64[channels]."""
        if not self.channel_zeros:
            return head.zero_b
        return memory.load(self.block(channels)[3]).astype(np.int64)

    def finish(self, memory: Memory, acc: Any, head: Parameters) -> None:
        """Add bias and partial accumulators, wrap to the accumulator's width, requantize, store.

        ``acc`` is int64 of the destination's shape, channels last.
        """
        channels = acc.shape[-1]
        (dst,) = self.writes()
        _, bias, multipliers, _ = self.block(channels)
        if self.has_bias:
            acc = acc + memory.load(bias).astype(np.int64)
        if self.accumulate:
            acc = acc + memory.load(self.partial_region(acc.size)).astype(np.int64).reshape(acc.shape)
        acc = acc.astype(DType(accumulator_type(self.src_type, self.weight_type)).numpy)
        if self.dst_type in (DType.S32, DType.S64):
            memory.store(dst, acc)
            return
        multiplier = head.factor_a
        if self.per_channel:
            multiplier = parameters.multipliers(memory.load(multipliers))
        memory.store(dst, law.requantize(acc, multiplier, head.zero, head.low, head.high))


@operand_group
class Window(Instruction):
    """A window that slides over an image stored as rows of pixels, channels innermost (NHWC)."""

    src: int = ocm_address("source image")
    in_height: int = extent(16, "source rows")
    in_width: int = extent(16, "source columns")
    in_channels: int = extent(16, "source channels")
    out_height: int = extent(16, "destination rows")
    out_width: int = extent(16, "destination columns")
    kernel_height: int = extent(8, "kernel rows", default=1)
    kernel_width: int = extent(8, "kernel columns", default=1)
    stride_height: int = extent(8, "row stride", default=1)
    stride_width: int = extent(8, "column stride", default=1)
    dilation_height: int = extent(8, "row dilation", default=1)
    dilation_width: int = extent(8, "column dilation", default=1)
    pad_top: int = unsigned(8, "rows of padding above; below, whatever the destination needs", default=0)
    pad_left: int = unsigned(8, "columns of padding on the left", default=0)
    src_row_stride: int = unsigned(22, "bytes from one source row to the next")
    src_pixel_stride: int = unsigned(16, "bytes from one source pixel to the next")
    dst_row_stride: int = unsigned(22, "bytes from one destination row to the next")
    dst_pixel_stride: int = unsigned(16, "bytes from one destination pixel to the next")

    def source(self, dtype: Any) -> Region:
        """The source image."""
        return ocm(
            self.src, self.in_channels, dtype,
            (self.in_height, self.in_width), (self.src_row_stride, self.src_pixel_stride),
        )  # fmt: skip

    def destination(self, address: Any, channels: Any, dtype: Any) -> Region:
        """An image of the destination's size and strides at ``address``."""
        return ocm(
            address, channels, dtype,
            (self.out_height, self.out_width), (self.dst_row_stride, self.dst_pixel_stride),
        )  # fmt: skip

    def taps(self, image: Any, padding: Any) -> Any:
        """For each kernel position in row-major order: the source pixels under it, ``[oh, ow, c]``."""
        height, width, channels = image.shape
        span_h = (self.out_height - 1) * self.stride_height + (self.kernel_height - 1) * self.dilation_height + 1
        span_w = (self.out_width - 1) * self.stride_width + (self.kernel_width - 1) * self.dilation_width + 1
        rows, columns = max(span_h, self.pad_top + height), max(span_w, self.pad_left + width)
        padded = np.full((rows, columns, channels), padding, dtype=image.dtype)
        padded[self.pad_top : self.pad_top + height, self.pad_left : self.pad_left + width] = image
        for i in range(self.kernel_height):
            for j in range(self.kernel_width):
                top, left = i * self.dilation_height, j * self.dilation_width
                yield padded[top:, left:][:: self.stride_height, :: self.stride_width][
                    : self.out_height, : self.out_width
                ]


@operand_group
class BlockedConv(Window, Epilogue):
    """A convolution with groups whose weights are blocked."""

    weights: int = ocm_address("blocked weights")
    out_channels: int = extent(16, "destination channels")
    groups: int = extent(16, "groups", default=1)

    constraints: ClassVar[tuple[Constraint, ...]] = (
        *Epilogue.constraints,
        Constraint("groups divide the source channels", lambda i: i.in_channels % i.groups == 0),
        Constraint("groups divide the destination channels", lambda i: i.out_channels % i.groups == 0),
    )
    may_alias: ClassVar[tuple[tuple[int, int], ...]] = ((2, 0),)

    def depth(self) -> Any:
        """K: products that meet in one accumulator."""
        return self.kernel_height * self.kernel_width * (self.in_channels // self.groups)

    def weight_region(self) -> Region:
        """All weight blocks."""
        elements = self.groups * blocked_elements(self.out_channels // self.groups, self.depth())
        return ocm(self.weights, elements, self.weight_type, align=WEIGHT_ALIGN)

    def reads(self) -> Sequence[Region]:
        return (
            self.source(self.src_type),
            self.weight_region(),
            self.partial_region(self.out_height * self.out_width * self.out_channels),
            *self.block(self.out_channels),
        )

    def writes(self) -> Sequence[Region]:
        return (self.destination(self.dst, self.out_channels, self.dst_type),)

    def kernel(self, memory: Memory, head: Parameters, group: int) -> Any:
        """One group's weights less their zero point: int64 ``[out channels of the group, depth]``."""
        out_group = self.out_channels // self.groups
        blocks = memory.load(self.weight_region()).astype(np.int64).reshape(self.groups, -1)
        zeros = np.broadcast_to(self.weight_zero(memory, head, self.out_channels), (self.out_channels,))
        return unblock_weights(blocks[group], out_group, self.depth()) - zeros[group * out_group :][:out_group, None]


@instruction(opcode=0x10, units=CONV)
class Conv(BlockedConv):
    """Convolve an image: any kernel, stride, padding, dilation and number of groups.

    A fully connected layer is a 1 x 1 convolution of a one-row image whose pixels are the tokens. Weights are stored as
    `[groups][ceil(n/32)][ceil(k/4)][32][4]` with n output channels a group and k over kernel row, kernel column, input
    channel of the group. A tap outside the source contributes nothing, as if it held the source zero point.
    """

    def macs(self) -> Any:
        return self.out_height * self.out_width * self.out_channels * self.depth()

    def operation(self, memory: Memory) -> None:
        head = parameters.read(memory, self.params, self.dst_type)
        image = memory.load(self.source(self.src_type)).astype(np.int64) - head.zero_a
        patches = np.stack(list(self.taps(image, 0)), axis=2)  # [oh, ow, taps, c]
        in_group, out_group = self.in_channels // self.groups, self.out_channels // self.groups
        acc = np.empty((self.out_height, self.out_width, self.out_channels), np.int64)
        for g in range(self.groups):
            columns = patches[..., g * in_group : (g + 1) * in_group].reshape(*acc.shape[:2], -1)
            acc[..., g * out_group : (g + 1) * out_group] = columns @ self.kernel(memory, head, g).T
        self.finish(memory, acc, head)


@instruction(opcode=0x11, units=CONV)
class DepthwiseConv(Window, Epilogue):
    """Convolve every channel with its own kernel: as many destination channels as source channels.

    Weights are stored as `[kernel rows][kernel columns][channels]`.
    """

    weights: int = ocm_address("weights")

    def weight_region(self) -> Region:
        """The kernels, channels innermost."""
        elements = self.kernel_height * self.kernel_width * self.in_channels
        return ocm(self.weights, elements, self.weight_type, align=WEIGHT_ALIGN)

    def reads(self) -> Sequence[Region]:
        return (
            self.source(self.src_type),
            self.weight_region(),
            self.partial_region(self.out_height * self.out_width * self.in_channels),
            *self.block(self.in_channels),
        )

    def writes(self) -> Sequence[Region]:
        return (self.destination(self.dst, self.in_channels, self.dst_type),)

    may_alias: ClassVar[tuple[tuple[int, int], ...]] = ((2, 0),)

    def macs(self) -> Any:
        return self.out_height * self.out_width * self.in_channels * self.kernel_height * self.kernel_width

    def operation(self, memory: Memory) -> None:
        head = parameters.read(memory, self.params, self.dst_type)
        image = memory.load(self.source(self.src_type)).astype(np.int64) - head.zero_a
        kernel = memory.load(self.weight_region()).astype(np.int64).reshape(-1, self.in_channels)
        kernel = kernel - self.weight_zero(memory, head, self.in_channels)
        acc = sum(pixels * kernel[tap] for tap, pixels in enumerate(self.taps(image, 0)))
        self.finish(memory, acc, head)


@instruction(opcode=0x12, units=CONV)
class ConvTranspose(BlockedConv):
    """Transposed convolution: each source pixel adds its kernel, scaled, to the destination.

    Source pixel (y, x) and kernel position (i, j) meet destination pixel
    (y * stride + i * dilation - pad_top, x * stride + j * dilation - pad_left); what falls outside is dropped. Weights
    are blocked as for `conv`.
    """

    def macs(self) -> Any:
        return self.in_height * self.in_width * self.out_channels * self.depth()

    def operation(self, memory: Memory) -> None:
        head = parameters.read(memory, self.params, self.dst_type)
        image = memory.load(self.source(self.src_type)).astype(np.int64) - head.zero_a
        in_group, out_group = self.in_channels // self.groups, self.out_channels // self.groups
        acc = np.zeros((self.out_height, self.out_width, self.out_channels), np.int64)
        for g in range(self.groups):
            here = acc[..., g * out_group : (g + 1) * out_group]
            taps = self.kernel(memory, head, g).reshape(out_group, self.kernel_height, self.kernel_width, in_group)
            pixels = image[..., g * in_group : (g + 1) * in_group]
            for i in range(self.kernel_height):
                for j in range(self.kernel_width):
                    products = pixels @ taps[:, i, j].T
                    rows = np.arange(self.in_height) * self.stride_height + i * self.dilation_height - self.pad_top
                    columns = np.arange(self.in_width) * self.stride_width + j * self.dilation_width - self.pad_left
                    y = (rows >= 0) & (rows < self.out_height)
                    x = (columns >= 0) & (columns < self.out_width)
                    here[np.ix_(rows[y], columns[x])] += products[np.ix_(y, x)]
        self.finish(memory, acc, head)


class MatrixLayout(IntEnum):
    """How the second operand of a matmul lies in memory."""

    ROW_MAJOR = 0
    TRANSPOSED = 1
    BLOCKED = 2

    def __str__(self) -> str:
        return self.name.lower()


@instruction(opcode=0x13, units=CONV)
class Matmul(Epilogue):
    """Batched matrix product: `dst[b0, b1, m, n] = sum over k of a[b0, b1, m, k] * b[b0, b1, k, n]`.

    Both operands may be live tensors, of any of the activation types. `a` is stored as `[m][k]`, or as `[k][m]` with
    `a_transposed`. `b` is stored `row_major` as `[k][n]`, `transposed` as `[n][k]`, or `blocked` as
    `[ceil(n/32)][ceil(k/4)][32][4]`, where `b_row_stride` is not used. A batch stride of 0 uses one matrix throughout.
    `a` is the source and `b` the weights of the shared fields; columns of b are the channels.
    """

    a: int = ocm_address("first operand")
    b: int = ocm_address("second operand")
    batch_outer: int = extent(16, "slow batch dimension b0", default=1)
    batch_inner: int = extent(16, "fast batch dimension b1", default=1)
    m: int = extent(16, "rows of a and of the destination")
    k: int = extent(16, "columns of a, rows of b")
    n: int = extent(16, "columns of b and of the destination")
    a_row_stride: int = unsigned(18, "bytes from one stored row of a to the next")
    b_row_stride: int = unsigned(18, "bytes from one stored row of b to the next", default=0)
    dst_row_stride: int = unsigned(18, "bytes from one destination row to the next")
    a_outer_stride: int = unsigned(22, "bytes between matrices of a along b0", default=0)
    a_inner_stride: int = unsigned(22, "bytes between matrices of a along b1", default=0)
    b_outer_stride: int = unsigned(22, "bytes between matrices of b along b0", default=0)
    b_inner_stride: int = unsigned(22, "bytes between matrices of b along b1", default=0)
    dst_outer_stride: int = unsigned(22, "bytes between destination matrices along b0", default=0)
    dst_inner_stride: int = unsigned(22, "bytes between destination matrices along b1", default=0)
    weight_type: DType = element_type("element type of b", ACTIVATION_TYPES, default=DType.S8)
    a_transposed: int = flag("a is stored as [k][m]", default=0)
    b_layout: MatrixLayout = choice(MatrixLayout, "how b is stored", default=MatrixLayout.ROW_MAJOR)

    constraints: ClassVar[tuple[Constraint, ...]] = (
        *Epilogue.constraints,
        Constraint(
            "a destination of several batches has its own place for each: batch strides are not 0",
            lambda i: (
                ((i.batch_outer == 1) | (i.dst_outer_stride > 0)) & ((i.batch_inner == 1) | (i.dst_inner_stride > 0))
            ),
        ),
        Constraint(
            f"the destination has at most {MOST_ELEMENTS} elements",
            lambda i: i.batch_outer * i.batch_inner <= MOST_ELEMENTS // (i.m * i.n),
        ),
    )
    may_alias: ClassVar[tuple[tuple[int, int], ...]] = ((2, 0),)

    def a_region(self) -> Region:
        """The first operand: ``[b0, b1, rows, columns]`` as stored."""
        rows = self.m + (self.k - self.m) * self.a_transposed
        columns = self.k + (self.m - self.k) * self.a_transposed
        return ocm(
            self.a, columns, self.src_type,
            (self.batch_outer, self.batch_inner, rows),
            (self.a_outer_stride, self.a_inner_stride, self.a_row_stride),
        )  # fmt: skip

    def b_region(self) -> Region:
        """The second operand: ``[b0, b1, rows, columns]`` as stored; a blocked one is a single row."""
        blocked = (self.b_layout == MatrixLayout.BLOCKED) * 1
        transposed = (self.b_layout == MatrixLayout.TRANSPOSED) * 1
        rows = self.k + (self.n - self.k) * transposed
        columns = self.n + (self.k - self.n) * transposed
        return ocm(
            self.b, columns + (blocked_elements(self.n, self.k) - columns) * blocked, self.weight_type,
            (self.batch_outer, self.batch_inner, rows + (1 - rows) * blocked),
            (self.b_outer_stride, self.b_inner_stride, self.b_row_stride),
        )  # fmt: skip

    def reads(self) -> Sequence[Region]:
        elements = self.batch_outer * self.batch_inner * self.m * self.n
        return (self.a_region(), self.b_region(), self.partial_region(elements), *self.block(self.n))

    def writes(self) -> Sequence[Region]:
        return (
            ocm(
                self.dst, self.n, self.dst_type,
                (self.batch_outer, self.batch_inner, self.m),
                (self.dst_outer_stride, self.dst_inner_stride, self.dst_row_stride),
            ),
        )  # fmt: skip

    def macs(self) -> Any:
        return self.batch_outer * self.batch_inner * self.m * self.n * self.k

    def operation(self, memory: Memory) -> None:
        head = parameters.read(memory, self.params, self.dst_type)
        a = memory.load(self.a_region()).astype(np.int64) - head.zero_a
        b = memory.load(self.b_region()).astype(np.int64)
        if self.a_transposed:
            a = a.swapaxes(2, 3)
        if self.b_layout == MatrixLayout.BLOCKED:
            flat = b.reshape(self.batch_outer * self.batch_inner, -1)
            b = np.stack([unblock_weights(block, self.n, self.k).T for block in flat])
            b = b.reshape(self.batch_outer, self.batch_inner, self.k, self.n)
        elif self.b_layout == MatrixLayout.TRANSPOSED:
            b = b.swapaxes(2, 3)
        self.finish(memory, a @ (b - self.weight_zero(memory, head, self.n)), head)
