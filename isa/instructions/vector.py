"""Elementwise instructions of the vector unit: arithmetic on two tensors, tables, and changes of type or scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from .. import law
from ..dtypes import ACTIVATION_TYPES, DType
from ..field import element_type, extent, flag, ocm_address, unsigned
from ..instruction import Constraint, Instruction, Unit, instruction, operand_group, stride_fields
from ..memory import Memory
from ..region import Region, ocm
from . import parameters
from .matrix import WEIGHT_ALIGN, is_short
from .parameters import BLOCK_BYTES, Parameters

TENG = (Unit.TENG,)


@operand_group
class Elementwise(Instruction):
    """Two sources, one destination, up to four dimensions; a stride of 0 broadcasts.

    The innermost dimension is contiguous in the destination and in each source that does not broadcast along it.
    """

    a: int = ocm_address("first source")
    b: int = ocm_address("second source")
    dst: int = ocm_address("destination; may equal a source of the same shape, type and strides")
    params: int = ocm_address("parameter block: zero points a, b, dst; clamp; scales a, b, dst")
    count: int = extent(24, "elements of the innermost dimension")
    count_1: int = extent(16, "second dimension", default=1)
    count_2: int = extent(16, "third dimension", default=1)
    count_3: int = extent(16, "slowest dimension", default=1)
    a_stride_1: int = unsigned(22, "bytes of a along the second dimension", default=0)
    a_stride_2: int = unsigned(22, "bytes of a along the third dimension", default=0)
    a_stride_3: int = unsigned(22, "bytes of a along the slowest dimension", default=0)
    b_stride_1: int = unsigned(22, "bytes of b along the second dimension", default=0)
    b_stride_2: int = unsigned(22, "bytes of b along the third dimension", default=0)
    b_stride_3: int = unsigned(22, "bytes of b along the slowest dimension", default=0)
    dst_stride_1: int = unsigned(22, "bytes of the destination along the second dimension", default=0)
    dst_stride_2: int = unsigned(22, "bytes of the destination along the third dimension", default=0)
    dst_stride_3: int = unsigned(22, "bytes of the destination along the slowest dimension", default=0)
    a_type: DType = element_type("element type of a", ACTIVATION_TYPES, default=DType.U8)
    b_type: DType = element_type("element type of b", ACTIVATION_TYPES, default=DType.U8)
    dst_type: DType = element_type("element type of the destination", ACTIVATION_TYPES, default=DType.U8)
    a_broadcast: int = flag("a holds one element along the innermost dimension", default=0)
    b_broadcast: int = flag("b holds one element along the innermost dimension", default=0)

    constraints: ClassVar[tuple[Constraint, ...]] = (
        Constraint(
            "each destination element has its own place: strides of dimensions longer than 1 are not 0",
            lambda i: (
                ((i.count_1 == 1) | (i.dst_stride_1 > 0))
                & ((i.count_2 == 1) | (i.dst_stride_2 > 0))
                & ((i.count_3 == 1) | (i.dst_stride_3 > 0))
            ),
        ),
    )
    may_alias: ClassVar[tuple[tuple[int, int], ...]] = ((0, 0), (1, 0))

    def operand(self, name: str, broadcast: Any = 0) -> Region:
        """The region of ``a``, ``b`` or ``dst``, ``[c3, c2, c1, count]``."""
        return ocm(
            getattr(self, name),
            self.count + (1 - self.count) * broadcast,
            getattr(self, f"{name}_type"),
            (self.count_3, self.count_2, self.count_1),
            stride_fields(name, 3)(self),
        )

    def reads(self) -> Sequence[Region]:
        return (
            self.operand("a", self.a_broadcast),
            self.operand("b", self.b_broadcast),
            parameters.head(self.params),
        )

    def writes(self) -> Sequence[Region]:
        return (self.operand("dst"),)

    def load(self, memory: Memory) -> tuple[Any, Any, Parameters]:
        """Raw a and b, and the parameters."""
        a, b, _ = self.reads()
        return memory.load(a), memory.load(b), parameters.read(memory, self.params, self.dst_type)

    def is_wide(self) -> bool:
        """Whether an operand has 16 bits, in which case the float64 path is the law."""
        return any(is_short(t) for t in (self.a_type, self.b_type, self.dst_type))

    def through_reals(self, memory: Memory, function: Any) -> None:
        """Dequantize, ``function`` in float64, round correctly through QuantizeLinear, store."""
        a, b, p = self.load(memory)
        x = np.float64(law.dequantize(a, p.factor_a, p.zero_a))
        y = np.float64(law.dequantize(b, p.factor_b, p.zero_b))
        with np.errstate(all="ignore"):
            result = law.quantize_real(function(x, y), p.factor, p.zero, p.low, p.high)
        memory.store(self.writes()[0], result)


@instruction(opcode=0x20, units=TENG)
class Add(Elementwise):
    """Add two quantized tensors; 8-bit operands by two binary32 fused multiply-adds, 16-bit ones through float64."""

    def operation(self, memory: Memory) -> None:
        if self.is_wide():
            self.through_reals(memory, np.add)
            return
        a, b, p = self.load(memory)
        a_ratio, b_ratio = p.factor_a / p.factor, p.factor_b / p.factor
        offset = law.add_offset(a_ratio, p.zero_a, b_ratio, p.zero_b, p.zero)
        memory.store(self.writes()[0], law.add(a, b, a_ratio, b_ratio, offset, p.low, p.high))


@instruction(opcode=0x21, units=TENG)
class Mul(Elementwise):
    """Multiply two quantized tensors; 8-bit operands by one binary32 multiply, 16-bit ones through float64."""

    def operation(self, memory: Memory) -> None:
        if self.is_wide():
            self.through_reals(memory, np.multiply)
            return
        a, b, p = self.load(memory)
        ratio = law.mul_ratio(p.factor_a, p.factor_b, p.factor)
        with np.errstate(over="ignore"):  # 2**34 * 2**112 is infinite in float32, and saturates like any large value
            result = law.mul(a, p.zero_a, b, p.zero_b, ratio, p.zero, p.low, p.high)
        memory.store(self.writes()[0], result)


@instruction(opcode=0x22, units=TENG)
class Sub(Elementwise):
    """Subtract b from a: dequantize, float64, one correct rounding."""

    def operation(self, memory: Memory) -> None:
        self.through_reals(memory, np.subtract)


@instruction(opcode=0x23, units=TENG)
class Div(Elementwise):
    """Divide a by b: dequantize, float64, one correct rounding; 0/0 gives the smallest value, x/0 saturates."""

    def operation(self, memory: Memory) -> None:
        self.through_reals(memory, np.divide)


@instruction(opcode=0x24, units=TENG)
class Min(Elementwise):
    """The smaller real value of a and b, requantized."""

    def operation(self, memory: Memory) -> None:
        self.through_reals(memory, np.minimum)


@instruction(opcode=0x25, units=TENG)
class Max(Elementwise):
    """The larger real value of a and b, requantized."""

    def operation(self, memory: Memory) -> None:
        self.through_reals(memory, np.maximum)


@operand_group
class Rows(Instruction):
    """One source and one destination of ``rows`` rows of ``count`` contiguous elements."""

    src: int = ocm_address("source")
    dst: int = ocm_address("destination; may equal the source where type and strides do")
    count: int = extent(24, "elements of a row")
    rows: int = extent(16, "rows", default=1)
    src_row_stride: int = unsigned(24, "bytes from one source row to the next", default=0)
    dst_row_stride: int = unsigned(24, "bytes from one destination row to the next", default=0)

    constraints: ClassVar[tuple[Constraint, ...]] = (
        Constraint(
            "each destination row has its own place: dst_row_stride is not 0",
            lambda i: (i.rows == 1) | (i.dst_row_stride > 0),
        ),
    )
    may_alias: ClassVar[tuple[tuple[int, int], ...]] = ((0, 0),)

    def source(self, dtype: Any) -> Region:
        """The source rows."""
        return ocm(self.src, self.count, dtype, (self.rows,), (self.src_row_stride,))

    def destination(self, dtype: Any) -> Region:
        """The destination rows."""
        return ocm(self.dst, self.count, dtype, (self.rows,), (self.dst_row_stride,))


@instruction(opcode=0x28, units=TENG)
class Lookup(Rows):
    """Replace each element by a table entry: any function of one variable, exactly.

    A table has 256 entries for an 8-bit source and 65,536 for a 16-bit one. Entry order follows the unsigned reading of
    the source element; the entries have the destination's type.
    """

    table: int = ocm_address("table")
    src_type: DType = element_type("element type of the source", ACTIVATION_TYPES, default=DType.U8)
    dst_type: DType = element_type(
        "element type of the destination and of the table", ACTIVATION_TYPES, default=DType.U8
    )

    def entries(self) -> Any:
        """Entries of the table: 256, or 65,536 for a 16-bit source."""
        return 256 + (65536 - 256) * is_short(self.src_type)

    def reads(self) -> Sequence[Region]:
        return self.source(self.src_type), ocm(self.table, self.entries(), self.dst_type, align=WEIGHT_ALIGN)

    def writes(self) -> Sequence[Region]:
        return (self.destination(self.dst_type),)

    def operation(self, memory: Memory) -> None:
        src, table = self.reads()
        values = memory.load(src)
        index = values.view(np.dtype(f"u{values.itemsize}"))
        memory.store(self.writes()[0], memory.load(table)[index])


INTEGER_TYPES = (DType.S8, DType.U8, DType.S16, DType.U16, DType.S32, DType.S64)


@instruction(opcode=0x29, units=TENG)
class Requantize(Rows):
    """Bring integers to another scale as the conv epilogue does: `rne(f32(q - zp) * multiplier) + zp`, clamped.

    With multiplier 1 and zero points 0 it is a saturating cast. An s32 or s64 destination takes the 64-bit value
    `q - zp` saturated, without a multiply.
    """

    params: int = ocm_address("parameter block: zero points src, -, dst; clamp; multiplier; then multipliers f32")
    src_type: DType = element_type("element type of the source", INTEGER_TYPES, default=DType.S32)
    dst_type: DType = element_type("element type of the destination", INTEGER_TYPES, default=DType.U8)
    per_channel: int = flag("the block holds one multiplier per element of a row", default=0)

    def multipliers(self) -> Region:
        """The per-channel multipliers; empty without ``per_channel``."""
        return parameters.array(self.params + BLOCK_BYTES, DType.F32, self.count * self.per_channel)

    def reads(self) -> Sequence[Region]:
        return self.source(self.src_type), parameters.head(self.params), self.multipliers()

    def writes(self) -> Sequence[Region]:
        return (self.destination(self.dst_type),)

    def operation(self, memory: Memory) -> None:
        p = parameters.read(memory, self.params, self.dst_type)
        values = memory.load(self.source(self.src_type)).astype(np.int64) - p.zero_a
        if self.dst_type in (DType.S32, DType.S64):
            low, high = DType(self.dst_type).range
            memory.store(self.writes()[0], np.clip(values, low, high))
            return
        multiplier = p.factor_a
        if self.per_channel:
            multiplier = parameters.multipliers(memory.load(self.multipliers()))
        memory.store(self.writes()[0], law.requantize(values, multiplier, p.zero, p.low, p.high))


@instruction(opcode=0x2A, units=TENG)
class Rescale(Rows):
    """Dequantize and quantize again: what a DequantizeLinear followed by a QuantizeLinear computes, to the bit."""

    params: int = ocm_address("parameter block: zero points src, -, dst; clamp; scales src, -, dst")
    src_type: DType = element_type("element type of the source", ACTIVATION_TYPES, default=DType.U8)
    dst_type: DType = element_type("element type of the destination", ACTIVATION_TYPES, default=DType.U8)

    def reads(self) -> Sequence[Region]:
        return self.source(self.src_type), parameters.head(self.params)

    def writes(self) -> Sequence[Region]:
        return (self.destination(self.dst_type),)

    def operation(self, memory: Memory) -> None:
        p = parameters.read(memory, self.params, self.dst_type)
        real = law.dequantize(memory.load(self.source(self.src_type)), p.factor_a, p.zero_a)
        memory.store(self.writes()[0], law.quantize(real, p.factor, p.zero, p.low, p.high))


@instruction(opcode=0x2B, units=TENG)
class Quantize(Rows):
    """QuantizeLinear: f32 values to integers. NaN gives the smallest value, infinities saturate."""

    params: int = ocm_address("parameter block: zero point dst; clamp; scale dst")
    dst_type: DType = element_type("element type of the destination", ACTIVATION_TYPES, default=DType.U8)

    may_alias: ClassVar[tuple[tuple[int, int], ...]] = ()

    def reads(self) -> Sequence[Region]:
        return self.source(DType.F32), parameters.head(self.params)

    def writes(self) -> Sequence[Region]:
        return (self.destination(self.dst_type),)

    def operation(self, memory: Memory) -> None:
        p = parameters.read(memory, self.params, self.dst_type)
        real = memory.load(self.source(DType.F32))
        with np.errstate(all="ignore"):
            memory.store(self.writes()[0], law.quantize(real, p.factor, p.zero, p.low, p.high))


@instruction(opcode=0x2C, units=TENG)
class Dequantize(Rows):
    """DequantizeLinear: integers to f32 values, `f32(q - zp) * scale`."""

    params: int = ocm_address("parameter block: zero point src; scale src")
    src_type: DType = element_type("element type of the source", (*ACTIVATION_TYPES, DType.S32), default=DType.U8)

    may_alias: ClassVar[tuple[tuple[int, int], ...]] = ()

    def reads(self) -> Sequence[Region]:
        return self.source(self.src_type), parameters.head(self.params)

    def writes(self) -> Sequence[Region]:
        return (self.destination(DType.F32),)

    def operation(self, memory: Memory) -> None:
        p = parameters.read(memory, self.params, DType.F32)
        values = memory.load(self.source(self.src_type))
        memory.store(self.writes()[0], law.dequantize(values, p.factor_a, p.zero_a))
