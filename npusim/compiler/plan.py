"""The plan: what every unit does, in one sequential order, with OCM places but without waits.

Cores add to it. Executed one after the other its steps are correct by construction; ``order`` and ``waits`` let the
units run apart again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from isa.dtypes import DType
from isa.instruction import Instruction, Unit
from isa.program import SegmentKind

from .view import Factor


@dataclass(slots=True, eq=False)
class Storage:
    """Bytes in DRAM that hold one tensor, densely.

    Attributes:
        name: unique.
        dtype: element type.
        elements: how many.
        kind: which segment it goes to.
        data: the bytes of constants.
    """

    name: str
    dtype: DType
    elements: int
    kind: SegmentKind
    data: np.ndarray[Any, Any] | None = None

    @property
    def item_bytes(self) -> int:
        """Bytes of one element."""
        return self.dtype.numpy.itemsize

    @property
    def size_bytes(self) -> int:
        """Bytes in all."""
        return self.elements * self.item_bytes


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor, or a part of one, in OCM.

    Attributes:
        address: byte address of index 0.
        axes: factors of each logical axis, strides in elements.
        dtype: element type.
    """

    address: int
    axes: tuple[tuple[Factor, ...], ...]
    dtype: DType

    @property
    def item_bytes(self) -> int:
        """Bytes of one element."""
        return self.dtype.numpy.itemsize

    def at(self, elements: int) -> Operand:
        """The same operand further on."""
        return Operand(self.address + elements * self.item_bytes, self.axes, self.dtype)


@dataclass(frozen=True, slots=True)
class Compute:
    """An instruction on a unit of a core."""

    core: int
    unit: Unit
    instruction: Instruction
    origin: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """A load, store or multicast between a storage and OCM; element offsets and strides of the storage in bytes."""

    core: int
    load: bool
    storage: str
    offset: int
    ocm: int
    run: int
    dims: tuple[tuple[int, int, int], ...]  # (count, storage stride, OCM stride), slowest first, at most three
    origin: int
    cores: int = 0  # mask of a multicast


Step = Compute | Transfer


@dataclass(slots=True, eq=False)
class Plan:
    """Steps in sequential order, and the storages they name."""

    steps: list[Step] = field(default_factory=list)
    storages: dict[str, Storage] = field(default_factory=dict)
    origin_names: list[str] = field(default_factory=list)
    origin: int = -1

    def begin(self, name: str) -> None:
        """What follows is done for ``name``."""
        self.origin = len(self.origin_names)
        self.origin_names.append(name)

    def add_storage(self, storage: Storage) -> Storage:
        """Enter a storage."""
        assert storage.name not in self.storages, f"storage {storage.name} exists"
        self.storages[storage.name] = storage
        return storage

    def constant(self, data: bytes) -> str:
        """The storage of a constant's bytes; equal bytes share one."""
        name = "c" + hashlib.sha256(data).hexdigest()[:24]
        if name not in self.storages:
            array = np.frombuffer(data, np.uint8)
            self.storages[name] = Storage(name, DType.U8, len(data), SegmentKind.PARAMETERS, array)
        return name
