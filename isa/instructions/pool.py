"""Pooling, reductions and resizing on the vector unit: many source elements make one."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, ClassVar

import numpy as np

from .. import law
from ..dtypes import ACTIVATION_TYPES, DType
from ..errors import AccessError
from ..field import choice, element_type, extent, flag, ocm_address, unsigned
from ..instruction import Constraint, Instruction, instruction, operand_group
from ..memory import Memory
from ..region import Region, ocm
from . import parameters
from .matrix import Window, is_short
from .vector import TENG


@instruction(opcode=0x30, units=TENG)
class MaxPool(Window):
    """The largest integer under each window position; padding never wins. Source and destination share their type."""

    dst: int = ocm_address("destination image")
    data_type: DType = element_type("element type of source and destination", ACTIVATION_TYPES, default=DType.U8)

    def reads(self) -> Sequence[Region]:
        return (self.source(self.data_type),)

    def writes(self) -> Sequence[Region]:
        return (self.destination(self.dst, self.in_channels, self.data_type),)

    def operation(self, memory: Memory) -> None:
        least, _ = DType(self.data_type).range
        taps = list(self.taps(memory.load(self.reads()[0]), least))
        memory.store(self.writes()[0], np.max(taps, axis=0))


@instruction(opcode=0x31, units=TENG)
class AveragePool(Window):
    """The average under each window position.

    8-bit operands: float32 sum of the dequantized values in row-major order, one float32 division by their number,
    rounding with the zero point added first. 16-bit operands: float64 and one correct rounding. Padding counts as zeros
    with `count_padding`, as far as `pad_bottom` and `pad_right` say, and is left out otherwise.
    """

    dst: int = ocm_address("destination image")
    params: int = ocm_address("parameter block: zero points src, -, dst; clamp; scales src, -, dst")
    src_type: DType = element_type("element type of the source", ACTIVATION_TYPES, default=DType.U8)
    dst_type: DType = element_type("element type of the destination", ACTIVATION_TYPES, default=DType.U8)
    count_padding: int = flag("padding counts as zeros", default=0)
    pad_bottom: int = unsigned(8, "rows of padding below that count", default=0)
    pad_right: int = unsigned(8, "columns of padding on the right that count", default=0)

    constraints: ClassVar[tuple[Constraint, ...]] = (
        Constraint(
            "every window position counts at least one element",
            lambda i: (
                (i.pad_top < (i.kernel_height - 1) * i.dilation_height + 1)
                & (i.pad_left < (i.kernel_width - 1) * i.dilation_width + 1)
                & ((i.out_height - 1) * i.stride_height < i.in_height + i.pad_top)
                & ((i.out_width - 1) * i.stride_width < i.in_width + i.pad_left)
                & ((i.dilation_height == 1) | (i.in_height >= i.dilation_height))
                & ((i.dilation_width == 1) | (i.in_width >= i.dilation_width))
            ),
        ),
    )

    def reads(self) -> Sequence[Region]:
        return self.source(self.src_type), parameters.head(self.params)

    def writes(self) -> Sequence[Region]:
        return (self.destination(self.dst, self.in_channels, self.dst_type),)

    def window_counts(self) -> np.ndarray[Any, Any]:
        """How many elements each window position counts: int64[out_height, out_width]."""
        counted = np.full((self.in_height + self.pad_top, self.in_width + self.pad_left), self.count_padding, np.int64)
        counted = np.pad(counted, ((0, self.pad_bottom), (0, self.pad_right)), constant_values=self.count_padding)
        counted[self.pad_top :, self.pad_left :][: self.in_height, : self.in_width] = 1
        rows = np.arange(self.out_height)[:, None] * self.stride_height
        rows = rows + np.arange(self.kernel_height) * self.dilation_height
        columns = np.arange(self.out_width)[:, None] * self.stride_width
        columns = columns + np.arange(self.kernel_width) * self.dilation_width
        beyond = np.pad(counted, ((0, int(rows.max()) + 1), (0, int(columns.max()) + 1)))
        return beyond[rows][:, :, columns].sum(axis=(1, 3))

    def operation(self, memory: Memory) -> None:
        p = parameters.read(memory, self.params, self.dst_type)
        real = law.dequantize(memory.load(self.reads()[0]), p.factor_a, p.zero_a)
        counts = self.window_counts()[..., None]
        if is_short(self.src_type) or is_short(self.dst_type):
            mean = sum(np.float64(tap) for tap in self.taps(real, 0)) / counts
            memory.store(self.writes()[0], law.quantize_real(mean, p.factor, p.zero, p.low, p.high))
            return
        total = np.zeros((self.out_height, self.out_width, self.in_channels), np.float32)
        for tap in self.taps(real, 0):
            total = total + tap
        memory.store(self.writes()[0], law.average(total, counts, p.factor, p.zero, p.low, p.high))


@instruction(opcode=0x32, units=TENG)
class GlobalAveragePool(Instruction):
    """Average each channel over a whole image: exact integer sum, then the requantize of a convolution.

    The multiplier is `f32(src scale / f32(dst scale * positions))`.
    """

    src: int = ocm_address("source image")
    dst: int = ocm_address("destination: one element per channel")
    params: int = ocm_address("parameter block: zero points src, -, dst; clamp; multiplier")
    height: int = extent(16, "source rows")
    width: int = extent(16, "source columns")
    channels: int = extent(16, "channels")
    src_row_stride: int = unsigned(22, "bytes from one source row to the next")
    src_pixel_stride: int = unsigned(16, "bytes from one source pixel to the next")
    src_type: DType = element_type("element type of the source", ACTIVATION_TYPES, default=DType.U8)
    dst_type: DType = element_type("element type of the destination", ACTIVATION_TYPES, default=DType.U8)

    def reads(self) -> Sequence[Region]:
        image = ocm(
            self.src, self.channels, self.src_type,
            (self.height, self.width), (self.src_row_stride, self.src_pixel_stride),
        )  # fmt: skip
        return image, parameters.head(self.params)

    def writes(self) -> Sequence[Region]:
        return (ocm(self.dst, self.channels, self.dst_type),)

    def operation(self, memory: Memory) -> None:
        p = parameters.read(memory, self.params, self.dst_type)
        image = memory.load(self.reads()[0]).astype(np.int64) - p.zero_a
        total = image.sum(axis=(0, 1))
        memory.store(self.writes()[0], law.requantize(total, p.factor_a, p.zero, p.low, p.high))


@operand_group
class Reduction(Instruction):
    """Reduce the middle one of three dimensions: `[outer][length][inner]` becomes `[outer][inner]`."""

    src: int = ocm_address("source")
    dst: int = ocm_address("destination, dense")
    outer: int = extent(16, "slow dimension that stays", default=1)
    length: int = extent(16, "dimension that is reduced")
    inner: int = extent(16, "contiguous dimension that stays", default=1)
    src_outer_stride: int = unsigned(22, "bytes of the source along the slow dimension", default=0)
    src_stride: int = unsigned(22, "bytes of the source along the reduced dimension")
    src_type: DType = element_type("element type of the source", ACTIVATION_TYPES, default=DType.U8)

    def source(self) -> Region:
        """``[outer, length, inner]``."""
        return ocm(
            self.src, self.inner, self.src_type, (self.outer, self.length), (self.src_outer_stride, self.src_stride)
        )


@operand_group
class RealReduction(Reduction):
    """A reduction of the dequantized values in float64, rounded correctly through QuantizeLinear."""

    params: int = ocm_address("parameter block: zero points src, -, dst; clamp; scales src, -, dst")
    dst_type: DType = element_type("element type of the destination", ACTIVATION_TYPES, default=DType.U8)

    def reads(self) -> Sequence[Region]:
        return self.source(), parameters.head(self.params)

    def writes(self) -> Sequence[Region]:
        return (ocm(self.dst, self.outer * self.inner, self.dst_type),)

    def reduce(self, memory: Memory, function: Any) -> None:
        """Dequantize, reduce the middle axis in float64 in ascending order, quantize, store."""
        p = parameters.read(memory, self.params, self.dst_type)
        real: Any = np.float64(law.dequantize(memory.load(self.source()), p.factor_a, p.zero_a))
        total = real[:, 0]
        for index in range(1, self.length):
            total = function(total, real[:, index])
        memory.store(self.writes()[0], self.quantized(total, p).ravel())

    def quantized(self, total: Any, p: parameters.Parameters) -> Any:
        """The reduced float64 values as integers."""
        return law.quantize_real(total, p.factor, p.zero, p.low, p.high)


@instruction(opcode=0x34, units=TENG)
class ReduceSum(RealReduction):
    """Sum over the middle dimension, in float64 in ascending order (exact for 8-bit sources)."""

    def operation(self, memory: Memory) -> None:
        self.reduce(memory, np.add)


@instruction(opcode=0x35, units=TENG)
class ReduceMean(RealReduction):
    """Mean over the middle dimension: the sum of `reduce_sum` divided by the length, in float64."""

    def operation(self, memory: Memory) -> None:
        self.reduce(memory, np.add)

    def quantized(self, total: Any, p: parameters.Parameters) -> Any:
        return law.quantize_real(total / self.length, p.factor, p.zero, p.low, p.high)


@instruction(opcode=0x36, units=TENG)
class ReduceMax(RealReduction):
    """Largest real value over the middle dimension."""

    def operation(self, memory: Memory) -> None:
        self.reduce(memory, np.maximum)


@instruction(opcode=0x37, units=TENG)
class ReduceMin(RealReduction):
    """Smallest real value over the middle dimension."""

    def operation(self, memory: Memory) -> None:
        self.reduce(memory, np.minimum)


@operand_group
class ArgReduction(Reduction):
    """The position of an extreme integer along the middle dimension, as s32."""

    select_last: int = flag("among equals take the last position instead of the first", default=0)

    def reads(self) -> Sequence[Region]:
        return (self.source(),)

    def writes(self) -> Sequence[Region]:
        return (ocm(self.dst, self.outer * self.inner, DType.S32),)

    def locate(self, memory: Memory, function: Any) -> None:
        """Store the first (or last) index that ``function`` (np.argmax or np.argmin) finds."""
        values = memory.load(self.source())
        if self.select_last:
            index = self.length - 1 - function(values[:, ::-1], axis=1)
        else:
            index = function(values, axis=1)
        memory.store(self.writes()[0], index.ravel())


@instruction(opcode=0x38, units=TENG)
class ArgMax(ArgReduction):
    """Position of the largest integer along the middle dimension, as s32."""

    def operation(self, memory: Memory) -> None:
        self.locate(memory, np.argmax)


@instruction(opcode=0x39, units=TENG)
class ArgMin(ArgReduction):
    """Position of the smallest integer along the middle dimension, as s32."""

    def operation(self, memory: Memory) -> None:
        self.locate(memory, np.argmin)


class Interpolation(IntEnum):
    """How ``resize`` finds a value between source pixels."""

    NEAREST = 0
    LINEAR = 1

    def __str__(self) -> str:
        return self.name.lower()


@instruction(opcode=0x3C, units=TENG)
class Resize(Instruction):
    """Resample an image at source positions given by tables, which the compiler derives from the model's rules.

    The tables hold, for every destination row and then for every destination column, the source index: s32 `low`. For
    `linear` they hold `low` s32, `high` s32 and the weight of `high` f32, each for all rows, then for all columns;
    the value is interpolated along columns, then along rows, in float64, and rounded correctly once. Indices are
    checked when the instruction runs.
    """

    src: int = ocm_address("source image")
    dst: int = ocm_address("destination image")
    params: int = ocm_address("parameter block: zero points src, -, dst; clamp; scales src, -, dst")
    tables: int = ocm_address("position tables")
    in_height: int = extent(16, "source rows")
    in_width: int = extent(16, "source columns")
    out_height: int = extent(16, "destination rows")
    out_width: int = extent(16, "destination columns")
    channels: int = extent(16, "channels")
    src_row_stride: int = unsigned(22, "bytes from one source row to the next")
    src_pixel_stride: int = unsigned(16, "bytes from one source pixel to the next")
    dst_row_stride: int = unsigned(22, "bytes from one destination row to the next")
    dst_pixel_stride: int = unsigned(16, "bytes from one destination pixel to the next")
    src_type: DType = element_type("element type of the source", ACTIVATION_TYPES, default=DType.U8)
    dst_type: DType = element_type("element type of the destination", ACTIVATION_TYPES, default=DType.U8)
    interpolation: Interpolation = choice(Interpolation, "how to resample", default=Interpolation.NEAREST)

    def table_region(self) -> Region:
        """Position tables: one 4-byte column per entry for nearest, three for linear."""
        columns = 1 + 2 * self.interpolation
        return ocm(self.tables, columns * (self.out_height + self.out_width), DType.S32)

    def reads(self) -> Sequence[Region]:
        image = ocm(
            self.src, self.channels, self.src_type,
            (self.in_height, self.in_width), (self.src_row_stride, self.src_pixel_stride),
        )  # fmt: skip
        return image, parameters.head(self.params), self.table_region()

    def writes(self) -> Sequence[Region]:
        return (
            ocm(
                self.dst, self.channels, self.dst_type,
                (self.out_height, self.out_width), (self.dst_row_stride, self.dst_pixel_stride),
            ),
        )  # fmt: skip

    def positions(self, memory: Memory) -> list[tuple[Any, Any, Any]]:
        """``resize_positions`` of the instruction's own table."""
        return resize_positions(self, memory.load(self.table_region()))

    def operation(self, memory: Memory) -> None:
        p = parameters.read(memory, self.params, self.dst_type)
        (top, bottom, down), (left, right, across) = self.positions(memory)
        real: Any = np.float64(law.dequantize(memory.load(self.reads()[0]), p.factor_a, p.zero_a))
        down, across = down[:, None, None], across[None, :, None]
        upper = real[top][:, left] * (1 - across) + real[top][:, right] * across
        lower = real[bottom][:, left] * (1 - across) + real[bottom][:, right] * across
        values = upper * (1 - down) + lower * down
        memory.store(self.writes()[0], law.quantize_real(values, p.factor, p.zero, p.low, p.high))


def resize_positions(instruction: Any, table: np.ndarray[Any, Any]) -> list[tuple[Any, Any, Any]]:
    """(low, high, weight) along rows and along columns.

    Args:
        instruction: the fields of a ``Resize``.
        table: int32, the bytes of its ``table_region()``.

    Raises:
        AccessError: an index outside the source, or a weight outside [0, 1].
    """
    i, result, cursor = instruction, [], 0
    for length, size in ((i.out_height, i.in_height), (i.out_width, i.in_width)):
        low = high = table[cursor : cursor + length]
        weight = np.zeros(length, np.float32)
        cursor += length
        if i.interpolation == Interpolation.LINEAR:
            high = table[cursor : cursor + length]
            weight = table[cursor + length : cursor + 2 * length].view(np.float32)
            cursor += 2 * length
        if min(low.min(), high.min()) < 0 or max(low.max(), high.max()) >= size:
            raise AccessError(f"resize: a position lies outside the {size} source rows or columns")
        if not ((weight >= 0) & (weight <= 1)).all():
            raise AccessError("resize: a weight lies outside [0, 1]")
        result.append((low, high, np.float64(weight)))
    return result
