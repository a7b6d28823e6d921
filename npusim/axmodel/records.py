"""What an ``.axmodel`` holds, as records.

Made by ``session`` and by ``reading``. Bytes and protobufs are the business of ``layout``, ``writing`` and ``reading``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from isa.program import ISA_MAJOR, ISA_MINOR, Program
from npusim import markup
from npusim.errors import NpusimError

OPERATOR = "neu mode"
"""Operator of a node that stands for a part on the NPU, as the vendor's toolchain calls it."""

ELEMENT_TYPES = {
    "s8": TensorProto.INT8,
    "u8": TensorProto.UINT8,
    "s16": TensorProto.INT16,
    "u16": TensorProto.UINT16,
    "s32": TensorProto.INT32,
    "u32": TensorProto.UINT32,
    "s64": TensorProto.INT64,
    "u64": TensorProto.UINT64,
    "f16": TensorProto.FLOAT16,
    "f32": TensorProto.FLOAT,
    "f64": TensorProto.DOUBLE,
    "bool": TensorProto.BOOL,
}
"""Element types by the name a port has."""


class AxmodelError(NpusimError, ValueError):
    """A file is no ``.axmodel`` that can be run: foreign, damaged, or of another version.

    Attributes:
        source: the file's name as the user gave it, or an empty string.
    """

    def __init__(self, message: str, source: str = "") -> None:
        super().__init__(f"{source}: {message}" if source else message)
        self.source = source


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or an output.

    Attributes:
        name: as in the model.
        dtype: a key of ``ELEMENT_TYPES``; "" for a type that it lacks (in a vendor's file only).
        shape: extents, outermost first; -1 where a vendor's file leaves one open.
        scale: of a quantized tensor with one scale; None for others.
        zero_point: of the same.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float | None = None
    zero_point: int | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of the dense tensor."""
        size = helper.tensor_dtype_to_np_dtype(ELEMENT_TYPES[self.dtype]).itemsize
        for extent in self.shape:
            size *= extent
        return int(size)

    def __str__(self) -> str:
        label = f" q({np.float32(self.scale)!s}, {self.zero_point})" if self.scale is not None else ""
        return f"{self.name}: {self.dtype or '?'}[{','.join(map(str, self.shape))}]{label}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerName:
    """A layer: what instructions name as their origin.

    Attributes:
        name: the origin.
        op: its operation.
        source: ONNX nodes it came from.
    """

    name: str
    op: str
    source: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a part runs on the CPU.

    Attributes:
        node: the ONNX node that has no integer operation.
        op: its operator.
        constraint: what it would have needed.
    """

    node: str
    op: str
    constraint: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NpuPart:
    """A part of a model that is a program.

    Attributes:
        name: ``subgraph_npu_0``, unique in the model.
        program: whose input and output segments are those of the ports (``isa.program.segment_name``) and hold dense
            row-major tensors.
        inputs: what it reads: inputs of the model, and outputs of parts before it.
        outputs: what others read.
    """

    name: str
    program: Program
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CpuPart:
    """A part of a model that an ONNX runtime computes on the host.

    Attributes:
        name: ``cpu_0``, unique in the model.
        model: the ONNX file whose inputs and outputs are the ports.
        inputs: what it reads: inputs of the model, and outputs of parts before it.
        outputs: what others read.
        reasons: why it is not on the NPU.
    """

    name: str
    model: bytes
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    reasons: tuple[Reason, ...] = ()


Part = NpuPart | CpuPart


def ports_html(inputs: Sequence[Port], outputs: Sequence[Port]) -> str:
    """Inputs and outputs as a table for notebooks."""
    kinds = [("input", port) for port in inputs] + [("output", port) for port in outputs]
    rows = [
        (kind, port.name, port.dtype or "?", "x".join(map(str, port.shape)) or "scalar",
         "" if port.scale is None else f"{port.scale:.6g}", "" if port.zero_point is None else str(port.zero_point))
        for kind, port in kinds
    ]  # fmt: skip
    return markup.table(("", "tensor", "type", "shape", "scale", "zero point"), rows)


@dataclass(frozen=True, kw_only=True, eq=False)
class Axmodel:
    """A built model.

    Attributes:
        name: the model's.
        parts: what runs, in this order.
        inputs: in the model's order.
        outputs: in the model's order; each is the output of a part or an input of the model.
        npu_mode: ``NPU1``: how many cores it was built for.
        hardware: name of the machine it was built for.
        hardware_fingerprint: of that machine's values.
        hardware_values: that machine, by dotted key.
        layers: in the order of the programs.
        versions: of what built it, by name.
        config: what it was built with, by dotted key.
        isa_version: of the instruction set.
    """

    name: str
    parts: tuple[Part, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    npu_mode: str
    hardware: str
    hardware_fingerprint: str
    hardware_values: Mapping[str, Any] = field(default_factory=dict)
    layers: tuple[LayerName, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    isa_version: str = f"{ISA_MAJOR}.{ISA_MINOR}"

    @property
    def programs(self) -> tuple[Program, ...]:
        """The programs of its parts on the NPU."""
        return tuple(part.program for part in self.parts if isinstance(part, NpuPart))

    @property
    def cpu_parts(self) -> tuple[CpuPart, ...]:
        """Its parts on the CPU."""
        return tuple(part for part in self.parts if isinstance(part, CpuPart))

    @property
    def is_one_program(self) -> bool:
        """Whether a program computes all of it."""
        if len(self.parts) != 1 or self.cpu_parts:
            return False
        return self.parts[0].inputs == self.inputs and self.parts[0].outputs == self.outputs

    @property
    def program(self) -> Program:
        """The program that computes all of it.

        Raises:
            AxmodelError: the model has parts on the CPU, or results that are inputs.
        """
        if not self.is_one_program:
            parts = ", ".join(part.name for part in self.parts) or "nothing"
            raise AxmodelError(f"{self.name} is not one program but {parts}: run it alone, by run, bench or a session")
        return self.programs[0]

    @property
    def cores(self) -> int:
        """How many cores it was built for."""
        return int(self.npu_mode.removeprefix("NPU"))

    def __repr__(self) -> str:
        parts = ", ".join(part.name for part in self.parts)
        return f"<Axmodel {self.name} for {self.npu_mode} of {self.hardware}: {parts}>"

    def _repr_html_(self) -> str:
        size = sum(len(program) for program in self.programs)
        built = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        heading = markup.heading(repr(self).strip("<>"), f"{size:,} instructions, {len(self.layers):,} layers", built)
        return heading + ports_html(self.inputs, self.outputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What can be said of a file without running it, ours or a vendor's.

    Attributes:
        name: of the graph.
        producer: who wrote it.
        inputs: in the file's order.
        outputs: in the file's order.
        npu_mode: where the file's metadata say it, or "".
        nodes: names of its NPU subgraphs.
        runnable: whether it was written by npusim; ``read`` takes it unless it is damaged.
    """

    name: str
    producer: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    npu_mode: str
    nodes: tuple[str, ...]
    runnable: bool
