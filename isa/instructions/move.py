"""Instructions of the data mover (cv): copies between strided shapes inside one core's OCM."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, ClassVar

import numpy as np

from ..dtypes import DType
from ..errors import AccessError
from ..field import choice, element_type, extent, ocm_address, unsigned
from ..instruction import Constraint, Instruction, Unit, instruction, stride_fields
from ..memory import Memory
from ..region import Region, ocm

CV = (Unit.CV,)

MOVE_TYPES = (DType.U8, DType.U16, DType.S32)
"""Elements of 1, 2 and 4 bytes; a move does not care about signs."""


@instruction(opcode=0x50, units=CV)
class Copy(Instruction):
    """Copy runs of bytes between two strided shapes of up to five dimensions.

    Window partition and reverse, roll, slicing, concatenation, and any transpose whose innermost dimension stays, are
    copies.
    """

    src: int = ocm_address("source")
    dst: int = ocm_address("destination")
    run: int = extent(24, "contiguous bytes")
    count_1: int = extent(16, "second dimension", default=1)
    count_2: int = extent(16, "third dimension", default=1)
    count_3: int = extent(16, "fourth dimension", default=1)
    count_4: int = extent(16, "slowest dimension", default=1)
    src_stride_1: int = unsigned(22, "source bytes along the second dimension", default=0)
    src_stride_2: int = unsigned(22, "source bytes along the third dimension", default=0)
    src_stride_3: int = unsigned(22, "source bytes along the fourth dimension", default=0)
    src_stride_4: int = unsigned(22, "source bytes along the slowest dimension", default=0)
    dst_stride_1: int = unsigned(22, "destination bytes along the second dimension", default=0)
    dst_stride_2: int = unsigned(22, "destination bytes along the third dimension", default=0)
    dst_stride_3: int = unsigned(22, "destination bytes along the fourth dimension", default=0)
    dst_stride_4: int = unsigned(22, "destination bytes along the slowest dimension", default=0)

    constraints: ClassVar[tuple[Constraint, ...]] = (
        Constraint(
            "each destination run has its own place: strides of dimensions longer than 1 are not 0",
            lambda i: (
                ((i.count_1 == 1) | (i.dst_stride_1 > 0))
                & ((i.count_2 == 1) | (i.dst_stride_2 > 0))
                & ((i.count_3 == 1) | (i.dst_stride_3 > 0))
                & ((i.count_4 == 1) | (i.dst_stride_4 > 0))
            ),
        ),
    )

    def operand(self, name: str) -> Region:
        """``[c4, c3, c2, c1, run]`` of ``src`` or ``dst``."""
        counts = (self.count_4, self.count_3, self.count_2, self.count_1)
        return ocm(getattr(self, name), self.run, DType.U8, counts, stride_fields(name, 4)(self))

    def reads(self) -> Sequence[Region]:
        return (self.operand("src"),)

    def writes(self) -> Sequence[Region]:
        return (self.operand("dst"),)

    def operation(self, memory: Memory) -> None:
        memory.copy(self.operand("dst"), self.operand("src"))


@instruction(opcode=0x51, units=CV)
class Transpose(Instruction):
    """Exchange rows and columns of a batch of matrices: `[batch][rows][columns]` becomes `[batch][columns][rows]`."""

    src: int = ocm_address("source")
    dst: int = ocm_address("destination")
    batch: int = extent(16, "matrices", default=1)
    rows: int = extent(16, "source rows")
    columns: int = extent(16, "source columns")
    src_batch_stride: int = unsigned(22, "bytes between source matrices", default=0)
    src_row_stride: int = unsigned(22, "bytes from one source row to the next")
    dst_batch_stride: int = unsigned(22, "bytes between destination matrices", default=0)
    dst_row_stride: int = unsigned(22, "bytes from one destination row to the next")
    data_type: DType = element_type("element: u8, u16 or s32 for 1, 2 or 4 bytes", MOVE_TYPES, default=DType.U8)

    constraints: ClassVar[tuple[Constraint, ...]] = (
        Constraint(
            "each destination row has its own place: strides of dimensions longer than 1 are not 0",
            lambda i: ((i.columns == 1) | (i.dst_row_stride > 0)) & ((i.batch == 1) | (i.dst_batch_stride > 0)),
        ),
    )

    def reads(self) -> Sequence[Region]:
        strides = (self.src_batch_stride, self.src_row_stride)
        return (ocm(self.src, self.columns, self.data_type, (self.batch, self.rows), strides),)

    def writes(self) -> Sequence[Region]:
        strides = (self.dst_batch_stride, self.dst_row_stride)
        return (ocm(self.dst, self.rows, self.data_type, (self.batch, self.columns), strides),)

    def operation(self, memory: Memory) -> None:
        memory.store(self.writes()[0], memory.load(self.reads()[0]).swapaxes(1, 2))


class Padding(IntEnum):
    """What stands in the border that ``pad`` makes."""

    CONSTANT = 0
    EDGE = 1
    REFLECT = 2

    def __str__(self) -> str:
        return self.name.lower()


@instruction(opcode=0x52, units=CV)
class Pad(Instruction):
    """Copy an image into the middle of a larger one and fill the border: a constant, the edge, or its reflection."""

    src: int = ocm_address("source image")
    dst: int = ocm_address("destination image")
    height: int = extent(16, "source rows")
    width: int = extent(16, "source columns")
    channels: int = extent(16, "channels")
    top: int = unsigned(12, "border rows above", default=0)
    bottom: int = unsigned(12, "border rows below", default=0)
    left: int = unsigned(12, "border columns on the left", default=0)
    right: int = unsigned(12, "border columns on the right", default=0)
    src_row_stride: int = unsigned(22, "bytes from one source row to the next")
    src_pixel_stride: int = unsigned(18, "bytes from one source pixel to the next")
    dst_row_stride: int = unsigned(22, "bytes from one destination row to the next")
    dst_pixel_stride: int = unsigned(18, "bytes from one destination pixel to the next")
    value: int = unsigned(32, "border element of `constant`, as the element's unsigned bits", default=0)
    data_type: DType = element_type("element: u8, u16 or s32 for 1, 2 or 4 bytes", MOVE_TYPES, default=DType.U8)
    mode: Padding = choice(Padding, "what fills the border", default=Padding.CONSTANT)

    constraints: ClassVar[tuple[Constraint, ...]] = (
        Constraint(
            "a reflected border is smaller than the image",
            lambda i: (
                (i.mode != Padding.REFLECT)
                | ((i.top < i.height) & (i.bottom < i.height) & (i.left < i.width) & (i.right < i.width))
            ),
        ),
        Constraint(
            "each destination pixel has its own place: strides are not 0",
            lambda i: (i.dst_row_stride > 0) & (i.dst_pixel_stride > 0),
        ),
    )

    def reads(self) -> Sequence[Region]:
        strides = (self.src_row_stride, self.src_pixel_stride)
        return (ocm(self.src, self.channels, self.data_type, (self.height, self.width), strides),)

    def writes(self) -> Sequence[Region]:
        counts = (self.top + self.height + self.bottom, self.left + self.width + self.right)
        strides = (self.dst_row_stride, self.dst_pixel_stride)
        return (ocm(self.dst, self.channels, self.data_type, counts, strides),)

    def operation(self, memory: Memory) -> None:
        image = memory.load(self.reads()[0])
        border = ((self.top, self.bottom), (self.left, self.right), (0, 0))
        if self.mode == Padding.CONSTANT:
            unsigned_bits = np.array(self.value).astype(f"<u{image.itemsize}")
            padded = np.pad(image, border, constant_values=unsigned_bits.view(image.dtype))
        else:
            padded = np.pad(image, border, mode="edge" if self.mode == Padding.EDGE else "reflect")
        memory.store(self.writes()[0], padded)


@instruction(opcode=0x53, units=CV)
class Gather(Instruction):
    """Copy the table rows that indices name: `dst[i] = table[index[i]]`.

    Indices are s32; one outside the table stops the machine with an error. The whole declared table counts as read.
    """

    table: int = ocm_address("table")
    indices: int = ocm_address("s32 indices")
    dst: int = ocm_address("destination")
    table_rows: int = extent(24, "rows of the table")
    count: int = extent(24, "indices")
    run: int = extent(24, "bytes of a row")
    table_row_stride: int = unsigned(22, "bytes from one table row to the next")
    dst_row_stride: int = unsigned(22, "bytes from one destination row to the next", default=0)

    constraints: ClassVar[tuple[Constraint, ...]] = (
        Constraint(
            "each destination row has its own place: dst_row_stride is not 0",
            lambda i: (i.count == 1) | (i.dst_row_stride > 0),
        ),
    )

    def reads(self) -> Sequence[Region]:
        rows = ocm(self.table, self.run, DType.U8, (self.table_rows,), (self.table_row_stride,))
        return rows, ocm(self.indices, self.count, DType.S32)

    def writes(self) -> Sequence[Region]:
        return (ocm(self.dst, self.run, DType.U8, (self.count,), (self.dst_row_stride,)),)

    def operation(self, memory: Memory) -> None:
        rows, indices = self.reads()
        index = memory.load(indices)
        if index.min() < 0 or index.max() >= self.table_rows:
            bad = int(index[(index < 0) | (index >= self.table_rows)][0])
            raise AccessError(f"gather: index {bad} is outside the table of {self.table_rows} rows")
        memory.store(self.writes()[0], memory.view(rows)[index])


@instruction(opcode=0x54, units=(Unit.CV, Unit.SDMA))
class Fill(Instruction):
    """Fill a strided shape of up to four dimensions with one element."""

    dst: int = ocm_address("destination")
    run: int = extent(24, "contiguous elements")
    count_1: int = extent(16, "second dimension", default=1)
    count_2: int = extent(16, "third dimension", default=1)
    count_3: int = extent(16, "slowest dimension", default=1)
    dst_stride_1: int = unsigned(22, "bytes along the second dimension", default=0)
    dst_stride_2: int = unsigned(22, "bytes along the third dimension", default=0)
    dst_stride_3: int = unsigned(22, "bytes along the slowest dimension", default=0)
    value: int = unsigned(32, "the element, as its unsigned bits", default=0)
    data_type: DType = element_type("element: u8, u16 or s32 for 1, 2 or 4 bytes", MOVE_TYPES, default=DType.U8)

    def writes(self) -> Sequence[Region]:
        counts = (self.count_3, self.count_2, self.count_1)
        strides = (self.dst_stride_3, self.dst_stride_2, self.dst_stride_1)
        return (ocm(self.dst, self.run, self.data_type, counts, strides),)

    def operation(self, memory: Memory) -> None:
        dtype: np.dtype[Any] = DType(self.data_type).numpy
        value = np.array(self.value, np.uint64).astype(f"<u{dtype.itemsize}").view(dtype)
        memory.store(self.writes()[0], value)
