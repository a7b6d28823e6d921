"""Layer norm, RMS norm and softmax on the vector unit: exact integer statistics of a row, then stated roundings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from .. import law
from ..dtypes import ACTIVATION_TYPES, DType
from ..errors import AccessError
from ..field import element_type, extent, flag, ocm_address, unsigned
from ..instruction import Constraint, Instruction, instruction, operand_group
from ..memory import Memory
from ..region import Region, ocm
from . import parameters
from .matrix import is_short
from .parameters import BLOCK_BYTES, Parameters
from .vector import TENG

MAX_LENGTH_BITS = 14
"""A row has at most 16,383 elements, so that n * sum(q^2) of 16-bit elements fits 64 bits."""

TABLE_ENTRIES = 256


def exponential_tables(table: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The tables of a softmax, uint32[1 or 2, 256]; ``table`` holds them as int32.

    Raises:
        AccessError: entry 0 of a table is not 2**31, so that a sum could be zero.
    """
    tables = table.view(np.uint32).reshape(-1, TABLE_ENTRIES)
    if (tables[:, 0] != 1 << law.EXP_TABLE_BITS).any():
        raise AccessError("softmax: entry 0 of an exponential table must be 2**31")
    return tables


@operand_group
class Normalization(Instruction):
    """Rows of ``length`` contiguous elements, each normalized on its own."""

    src: int = ocm_address("source")
    dst: int = ocm_address("destination; may equal the source where type and stride do")
    params: int = ocm_address("parameter block with the arrays named above")
    rows: int = extent(16, "rows", default=1)
    length: int = extent(MAX_LENGTH_BITS, "elements of a row")
    src_row_stride: int = unsigned(22, "bytes from one source row to the next", default=0)
    dst_row_stride: int = unsigned(22, "bytes from one destination row to the next", default=0)
    src_type: DType = element_type("element type of the source", ACTIVATION_TYPES, default=DType.U8)
    dst_type: DType = element_type("element type of the destination", ACTIVATION_TYPES, default=DType.U8)

    constraints: ClassVar[tuple[Constraint, ...]] = (
        Constraint(
            "each destination row has its own place: dst_row_stride is not 0",
            lambda i: (i.rows == 1) | (i.dst_row_stride > 0),
        ),
    )
    may_alias: ClassVar[tuple[tuple[int, int], ...]] = ((0, 0),)

    def source(self) -> Region:
        """``[rows, length]``."""
        return ocm(self.src, self.length, self.src_type, (self.rows,), (self.src_row_stride,))

    def writes(self) -> Sequence[Region]:
        return (ocm(self.dst, self.length, self.dst_type, (self.rows,), (self.dst_row_stride,)),)

    def read_block(self, memory: Memory) -> Parameters:
        """The head of the parameter block, refused where scale or epsilon is not positive."""
        return parameters.positive(parameters.read(memory, self.params, self.dst_type), self.layout.mnemonic)


@instruction(opcode=0x40, units=TENG)
class LayerNorm(Normalization):
    """Layer normalization over each row: exact integer moments, float64 from there, one rounding to the output.

    With n elements q of scale s: `d = n q - sum(q)`, `V = n sum(q^2) - sum(q)^2`, `r = 1 / sqrt(V + eps n^2 / s^2)`,
    `v = (d r) gain + offset`, gain and offset divided by the destination's scale. The block's factors are source scale,
    epsilon, destination scale; gain f32[length] and offset f32[length] follow.
    """

    def gain(self) -> Region:
        """Gain per element of a row."""
        return parameters.array(self.params + BLOCK_BYTES, DType.F32, self.length)

    def offset(self) -> Region:
        """Offset per element of a row."""
        return parameters.array(self.params + BLOCK_BYTES + 4 * self.length, DType.F32, self.length)

    def reads(self) -> Sequence[Region]:
        return self.source(), parameters.head(self.params), self.gain(), self.offset()

    def operation(self, memory: Memory) -> None:
        p, q = self.read_block(memory), memory.load(self.source()).astype(np.int64)
        gain = law.norm_coefficient(parameters.finite(memory.load(self.gain()), "the gain"), p.factor)
        offset = law.norm_coefficient(parameters.finite(memory.load(self.offset()), "the offset"), p.factor)
        total, squares = q.sum(axis=1), (q * q).sum(axis=1)
        epsilon = law.layer_norm_epsilon(p.factor_b, p.factor_a, self.length)
        factor = law.layer_norm_factor(total, squares, self.length, epsilon)
        deviation = self.length * q - total[:, None]
        memory.store(self.writes()[0], law.normalize(deviation, factor[:, None], gain, offset, p.zero, p.low, p.high))


@instruction(opcode=0x41, units=TENG)
class RmsNorm(Normalization):
    """RMS normalization over each row: exact integer sum of squares, float64 from there, one rounding.

    With n elements q of scale s: `d = q - zp`, `S = sum(d^2)`, `r = sqrt(n) / sqrt(S + eps n / s^2)`, `v = (d r) gain`.
    The block's factors are source scale, epsilon, destination scale; gain f32[length] follows.
    """

    def gain(self) -> Region:
        """Gain per element of a row."""
        return parameters.array(self.params + BLOCK_BYTES, DType.F32, self.length)

    def reads(self) -> Sequence[Region]:
        return self.source(), parameters.head(self.params), self.gain()

    def operation(self, memory: Memory) -> None:
        p, q = self.read_block(memory), memory.load(self.source()).astype(np.int64)
        gain = law.norm_coefficient(parameters.finite(memory.load(self.gain()), "the gain"), p.factor)
        deviation = q - p.zero_a
        squares = (deviation * deviation).sum(axis=1)
        epsilon = law.rms_norm_epsilon(p.factor_b, p.factor_a, self.length)
        factor = law.rms_norm_factor(squares, self.length, epsilon)[:, None]
        memory.store(self.writes()[0], law.normalize(deviation, factor, gain, np.float64(0), p.zero, p.low, p.high))


@instruction(opcode=0x42, units=TENG)
class Softmax(Normalization):
    """Softmax over each row: an integer exponential table, an integer sum, one float64 division.

    The entry of an element is `table[max - q]`, `rne(exp(-(max - q) s) 2^31)`. A 16-bit source uses two tables, of the
    low and of the high byte of `max - q`, multiplied and rounded to 31 fraction bits. After the head (zero points -, -,
    dst; clamp; factors -, -, destination scale) the block holds the table, u32[256], and for a 16-bit source the coarse
    table, u32[256]. Entry 0 is 2^31.
    """

    masked: int = flag(
        "only the first `valid` elements of a row take part; the others become the smallest value", default=0
    )
    valid: int = extent(MAX_LENGTH_BITS, "elements that take part, with `masked`", default=1)

    constraints: ClassVar[tuple[Constraint, ...]] = (
        *Normalization.constraints,
        Constraint("valid is at most length", lambda i: (i.masked == 0) | (i.valid <= i.length)),
    )

    def table(self) -> Region:
        """The exponential table, or both: u32 entries, typed s32 in memory."""
        entries = TABLE_ENTRIES * (1 + is_short(self.src_type))
        return parameters.array(self.params + BLOCK_BYTES, DType.S32, entries)

    def reads(self) -> Sequence[Region]:
        return self.source(), parameters.head(self.params), self.table()

    def read_tables(self, memory: Memory) -> np.ndarray[Any, Any]:
        """``exponential_tables`` of the instruction's own."""
        return exponential_tables(memory.load(self.table()))

    def operation(self, memory: Memory) -> None:
        p = parameters.read(memory, self.params, self.dst_type)
        tables = self.read_tables(memory)
        q = memory.load(self.source()).astype(np.int64)
        used = self.valid if self.masked else self.length
        q, result = q[:, :used], np.full(q.shape, p.low, np.int64)
        distance = q.max(axis=1, keepdims=True) - q
        numerator = tables[0][distance & 255].astype(np.uint64)
        if len(tables) == 2:
            numerator = law.softmax_numerator(numerator, tables[1][distance >> 8])
        total = numerator.sum(axis=1, keepdims=True, dtype=np.uint64)
        result[:, :used] = law.softmax(numerator, total, p.factor, p.zero, p.low, p.high)
        memory.store(self.writes()[0], result)
