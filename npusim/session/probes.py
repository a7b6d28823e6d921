"""Built models that show their inner tensors: what ``agreement`` compares with onnxruntime.

A built model shows its outputs only. Its other tensors are seen by compiling the graph once more, into the same plan
with every store kept, and running that program with the parameters of the file under test in the place of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from isa.program import Program, SegmentKind, segment_name
from npusim.axmodel import Axmodel, CpuPart, NpuPart, Part, Port
from npusim.config import Hardware
from npusim.graph import Graph
from npusim.session.parts import PartProbe, compile_observed_parts

if TYPE_CHECKING:
    from npusim.compiler.observe import Place

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A model that shows inner tensors.

    Attributes:
        model: to run with the inputs of the file under test.
        readers: by tensor, how to find it in the model's outputs (bytes by name).
        own: whether it runs with the parameters of the file under test.
    """

    model: Axmodel
    readers: dict[str, Reader]
    own: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Finds a tensor in the outputs of a probe.

    Attributes:
        port: name of the output.
        place: where in it; None where it is the whole output.
    """

    port: str
    place: Place | None = None

    def read(self, values: Mapping[str, Array]) -> Array:
        """The tensor, or its bytes."""
        data = values[self.port]
        return data if self.place is None else self.place.read(data)


def make_probes(graph: Graph, hardware: Hardware, built: Axmodel, inner: Sequence[str]) -> Iterator[Probe]:
    """Models that together show the tensors ``inner``; most models need one."""
    if not inner:
        return
    observed = compile_observed_parts(graph, hardware, built.cores, inner)
    fresh = [each.part for each in observed]
    for shown in zip_longest(*(each.probes for each in observed)):
        parts = [each.part if probe is None else probe.part for each, probe in zip(observed, shown, strict=True)]
        own = _with_parameters(built.parts, fresh, parts)
        ports = {port.name: port for part in parts for port in (*part.inputs, *part.outputs)}
        readers: dict[str, Reader] = {}
        for probe in filter(None, shown):
            readers |= _readers(probe, inner)
        model = replace(built, parts=own or tuple(parts), outputs=_joined(built.outputs, ports))
        yield Probe(model=model, readers=readers, own=own is not None)


def _readers(probe: PartProbe, inner: Collection[str]) -> dict[str, Reader]:
    """Where a part shows tensors: on the CPU as outputs, on the NPU in segments, which are outputs as well."""
    part = probe.part
    if isinstance(part, CpuPart):
        return {port.name: Reader(port=port.name) for port in part.outputs if port.name in inner}
    ports = {segment_name(port.name): port.name for port in (*part.inputs, *part.outputs)}
    return {name: Reader(port=ports[place.segment], place=place) for name, place in probe.places.items()}


def _joined(outputs: Sequence[Port], ports: Mapping[str, Port]) -> tuple[Port, ...]:
    return tuple({**{port.name: port for port in outputs}, **ports}.values())


def _with_parameters(given: Sequence[Part], fresh: Sequence[Part], probes: Sequence[Part]) -> tuple[Part, ...] | None:
    """The probes with the parameters of the parts under test, where that is possible for all of them."""
    if not len(given) == len(fresh) == len(probes):
        return None
    found: list[Part] = []
    for mine, usual, probe in zip(given, fresh, probes, strict=True):
        if isinstance(mine, NpuPart) and isinstance(usual, NpuPart) and isinstance(probe, NpuPart):
            if not _same_work(mine.program, usual.program):
                return None
            found.append(replace(probe, program=_transplant(mine.program, probe.program)))
        elif isinstance(mine, CpuPart) and isinstance(usual, CpuPart) and mine.model == usual.model:
            found.append(probe)
        else:
            return None
    return tuple(found)


def _same_work(one: Program, other: Program) -> bool:
    """Whether two programs have the same instructions and segments, whatever their parameters are."""
    shapes = [[(s.name, s.kind, s.size_bytes) for s in program.segments] for program in (one, other)]
    return (
        shapes[0] == shapes[1]
        and one.streams.keys() == other.streams.keys()
        and all(np.array_equal(words, other.streams[unit]) for unit, words in one.streams.items())
    )


def _transplant(program: Program, probe: Program) -> Program:
    """The probe with the parameters of a program under test, which lie where its own do."""
    mine = {s.name: s.data for s in program.segments if s.kind is SegmentKind.PARAMETERS}
    segments = tuple(
        replace(segment, data=mine[segment.name]) if segment.kind is SegmentKind.PARAMETERS else segment
        for segment in probe.segments
    )
    return replace(probe, segments=segments, stamp="")
