"""Instructions of the DMA unit (sdma): between DRAM and OCM, and between the cores' OCMs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ..dtypes import DType
from ..field import dram_offset, extent, ocm_address, segment, unsigned
from ..instruction import Constraint, Instruction, Unit, instruction, operand_group, stride_fields
from ..memory import Memory
from ..region import Region, dram, ocm

SDMA = (Unit.SDMA,)

MULTICAST_CORES = 16
"""Cores a multicast can name: the width of its mask."""


@operand_group
class DramTransfer(Instruction):
    """Runs of bytes in up to four dimensions, strided on both sides."""

    ocm: int = ocm_address("address in OCM")
    segment: int = segment("DRAM segment")
    offset: int = dram_offset("offset in the segment", default=0)
    run: int = extent(24, "contiguous bytes")
    count_1: int = extent(16, "second dimension", default=1)
    count_2: int = extent(16, "third dimension", default=1)
    count_3: int = extent(16, "slowest dimension", default=1)
    ocm_stride_1: int = unsigned(22, "OCM bytes along the second dimension", default=0)
    ocm_stride_2: int = unsigned(22, "OCM bytes along the third dimension", default=0)
    ocm_stride_3: int = unsigned(22, "OCM bytes along the slowest dimension", default=0)
    dram_stride_1: int = unsigned(30, "DRAM bytes along the second dimension", default=0)
    dram_stride_2: int = unsigned(30, "DRAM bytes along the third dimension", default=0)
    dram_stride_3: int = unsigned(30, "DRAM bytes along the slowest dimension", default=0)

    def counts(self) -> tuple[Any, ...]:
        """Outer dimensions, slowest first."""
        return self.count_3, self.count_2, self.count_1

    def dram_region(self) -> Region:
        """The DRAM side."""
        strides = (self.dram_stride_3, self.dram_stride_2, self.dram_stride_1)
        return dram(self.segment, self.offset, self.run, self.counts(), strides)

    def ocm_region(self, **place: Any) -> Region:
        """The OCM side."""
        strides = (self.ocm_stride_3, self.ocm_stride_2, self.ocm_stride_1)
        return ocm(self.ocm, self.run, DType.U8, self.counts(), strides, **place)


def _distinct(side: str) -> Constraint:
    """The rule that a destination's dimensions do not fold onto one another."""
    return Constraint(
        f"each destination run has its own place: {side} strides of dimensions longer than 1 are not 0",
        lambda i: (
            ((i.count_1 == 1) | (getattr(i, f"{side}_stride_1") > 0))
            & ((i.count_2 == 1) | (getattr(i, f"{side}_stride_2") > 0))
            & ((i.count_3 == 1) | (getattr(i, f"{side}_stride_3") > 0))
        ),
    )


@instruction(opcode=0x60, units=SDMA)
class Load(DramTransfer):
    """Copy from DRAM to the core's own OCM."""

    constraints: ClassVar[tuple[Constraint, ...]] = (_distinct("ocm"),)

    def reads(self) -> Sequence[Region]:
        return (self.dram_region(),)

    def writes(self) -> Sequence[Region]:
        return (self.ocm_region(),)

    def operation(self, memory: Memory) -> None:
        memory.copy(self.ocm_region(), self.dram_region())


@instruction(opcode=0x61, units=SDMA)
class Store(DramTransfer):
    """Copy from the core's own OCM to DRAM."""

    constraints: ClassVar[tuple[Constraint, ...]] = (_distinct("dram"),)

    def reads(self) -> Sequence[Region]:
        return (self.ocm_region(),)

    def writes(self) -> Sequence[Region]:
        return (self.dram_region(),)

    def operation(self, memory: Memory) -> None:
        memory.copy(self.dram_region(), self.ocm_region())


@instruction(opcode=0x62, units=SDMA)
class Multicast(DramTransfer):
    """Copy from DRAM to the same address in the OCM of several cores; the DRAM is read once."""

    cores: int = unsigned(MULTICAST_CORES, "mask of the logical cores that receive", minimum=1)

    constraints: ClassVar[tuple[Constraint, ...]] = (_distinct("ocm"),)

    def reads(self) -> Sequence[Region]:
        return (self.dram_region(),)

    def writes(self) -> Sequence[Region]:
        # one region per mask bit: those of the cores left out are empty
        return tuple(self._target(core) for core in range(MULTICAST_CORES))

    def _target(self, core: int) -> Region:
        whole = self.ocm_region(place=core)
        member = (self.cores >> core) & 1
        return ocm(whole.base * member, whole.run * member, whole.dtype, whole.counts, whole.strides, place=core)

    def operation(self, memory: Memory) -> None:
        source = self.dram_region()
        for core in range(MULTICAST_CORES):
            if self.cores >> core & 1:
                memory.copy(self.ocm_region(place=core), source)


@instruction(opcode=0x63, units=SDMA)
class Send(Instruction):
    """Copy from the core's own OCM to another core's, over the path between the cores."""

    src: int = ocm_address("address in the own OCM")
    dst_core: int = unsigned(6, "logical core that receives")
    dst: int = ocm_address("address in that core's OCM")
    run: int = extent(24, "contiguous bytes")
    count_1: int = extent(16, "second dimension", default=1)
    count_2: int = extent(16, "third dimension", default=1)
    count_3: int = extent(16, "slowest dimension", default=1)
    src_stride_1: int = unsigned(22, "source bytes along the second dimension", default=0)
    src_stride_2: int = unsigned(22, "source bytes along the third dimension", default=0)
    src_stride_3: int = unsigned(22, "source bytes along the slowest dimension", default=0)
    dst_stride_1: int = unsigned(22, "destination bytes along the second dimension", default=0)
    dst_stride_2: int = unsigned(22, "destination bytes along the third dimension", default=0)
    dst_stride_3: int = unsigned(22, "destination bytes along the slowest dimension", default=0)

    constraints: ClassVar[tuple[Constraint, ...]] = (_distinct("dst"),)

    def operand(self, name: str, **place: Any) -> Region:
        """``[c3, c2, c1, run]`` of ``src`` or ``dst``."""
        counts = (self.count_3, self.count_2, self.count_1)
        return ocm(getattr(self, name), self.run, DType.U8, counts, stride_fields(name, 3)(self), **place)

    def reads(self) -> Sequence[Region]:
        return (self.operand("src"),)

    def writes(self) -> Sequence[Region]:
        return (self.operand("dst", place=self.dst_core),)

    def operation(self, memory: Memory) -> None:
        memory.copy(self.writes()[0], self.reads()[0])
