"""From an integer graph to the parts of a built model: programs for the NPU, ONNX models for the CPU.

Used by ``builder`` and ``probes``. How a graph is cut is ``npusim.graph.parts``'s business, how one is compiled the
compiler's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from isa.program import Program
from npusim.axmodel import CpuPart, NpuPart, Part, Port, Reason
from npusim.config import Hardware
from npusim.errors import UnverifiedProgramError
from npusim.graph import Graph, UnsupportedError
from npusim.graph.parts import Part as GraphPart
from npusim.graph.parts import cpu_model, split
from npusim.session.call import host_session

if TYPE_CHECKING:
    from npusim.compiler.observe import Place


def compile_parts(graph: Graph, hardware: Hardware, cores: int) -> tuple[Part, ...]:
    """The parts of a graph, in the order in which they run; the programs are not proven yet.

    Raises:
        LoweringError: a node that the compiler cannot lower.
        UnsupportedError: a part that onnxruntime cannot run either.
    """
    parts: list[Part] = []
    for part in split(graph):
        number = sum(isinstance(made, CpuPart) is part.on_cpu for made in parts)
        parts.append(_cpu_part(part, number) if part.on_cpu else _npu_part(part, number, hardware, cores))
    return tuple(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartProbe:
    """A part that shows inner tensors.

    Attributes:
        part: with an output more, where the tensors need one.
        places: where a tensor is in the segments of its program, by the tensor's name.
    """

    part: Part
    places: Mapping[str, Place]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedPart:
    """A part as it is built, and others that do the same and show inner tensors.

    Attributes:
        part: as ``compile_parts`` makes it.
        probes: each shows some of the tensors; none where the part computes none of them.
    """

    part: Part
    probes: Iterator[PartProbe]


def compile_observed_parts(
    graph: Graph, hardware: Hardware, cores: int, names: Collection[str]
) -> tuple[ObservedPart, ...]:
    """What ``compile_parts`` makes, with programs that show the tensors ``names``.

    A part on the CPU shows them as outputs.

    Raises:
        LoweringError, UnsupportedError: as ``compile_parts``.
    """
    on_host = [name for node in graph.cpu_nodes for name in node.outputs if name in names]
    shown = split(replace(graph, outputs=(*graph.outputs, *on_host)))
    made: list[ObservedPart] = []
    for part, open_part in zip(split(graph), shown, strict=True):
        number = sum(isinstance(each.part, CpuPart) is part.on_cpu for each in made)
        if part.on_cpu:
            probes = iter([PartProbe(part=_cpu_part(open_part, number), places={})])
            made.append(ObservedPart(part=_cpu_part(part, number), probes=probes))
        else:
            made.append(_observed(part, number, hardware, cores, names))
    return tuple(made)


def _observed(part: GraphPart, number: int, hardware: Hardware, cores: int, names: Collection[str]) -> ObservedPart:
    from npusim.compiler.build import compile_observed

    inputs, outputs = _ports(part.graph)
    label = _free(f"observed:{number}", part.graph)
    inner = [name for node in part.graph.nodes for name in node.outputs if name in names]
    program, probes = compile_observed(part.graph, hardware, cores, inner, label, partial(_cycles, hardware))
    plain = NpuPart(name=f"subgraph_npu_{number}", program=program, inputs=inputs, outputs=outputs)

    def shown() -> Iterator[PartProbe]:
        for probe in probes:
            port = Port(name=label, dtype="u8", shape=(probe.size_bytes,))
            more = (*outputs, port) if probe.size_bytes else outputs
            yield PartProbe(part=replace(plain, program=probe.program, outputs=more), places=probe.places)

    return ObservedPart(part=plain, probes=shown())


def _free(name: str, graph: Graph) -> str:
    """``name``, or the like where a tensor is called so."""
    while name in graph.tensors:
        name = f"{name}:"
    return name


def prove_parts(parts: tuple[Part, ...], hardware: Hardware) -> tuple[Part, ...]:
    """The same parts with their programs proven.

    Raises:
        UnverifiedProgramError: a program has a race, a deadlock or an access out of bounds.
    """
    return tuple(
        replace(part, program=_prove(part.program, hardware)) if isinstance(part, NpuPart) else part for part in parts
    )


def port_of(graph: Graph, name: str) -> Port:
    """A tensor of a graph as an input or output."""
    tensor = graph.tensor(name)
    quantization = tensor.quantization
    if quantization is None or not quantization.per_tensor:
        return Port(name=name, dtype=tensor.dtype, shape=tensor.shape)
    scale, zero = float(quantization.scale), int(quantization.zero_point)
    return Port(name=name, dtype=tensor.dtype, shape=tensor.shape, scale=scale, zero_point=zero)


def _ports(graph: Graph) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    inputs, outputs = (tuple(port_of(graph, name) for name in names) for names in (graph.inputs, graph.outputs))
    return inputs, outputs


def _npu_part(part: GraphPart, number: int, hardware: Hardware, cores: int) -> NpuPart:
    from npusim.compiler.build import compile_graph

    inputs, outputs = _ports(part.graph)
    program = compile_graph(part.graph, hardware, cores, partial(_cycles, hardware))
    return NpuPart(name=f"subgraph_npu_{number}", program=program, inputs=inputs, outputs=outputs)


def _cycles(hardware: Hardware, program: Program) -> int:
    """What a program takes when it runs alone."""
    from npusim.sim import Job, Mode, simulate

    return simulate(hardware, Job(program=program), mode=Mode.TIME, allow_unverified=True, trace=False).cycles


def _cpu_part(part: GraphPart, number: int) -> CpuPart:
    inputs, outputs = _ports(part.graph)
    reasons = [
        Reason(node=node.attributes["blame"], op=node.attributes["blame_op"], constraint=node.attributes["reason"])
        for node in part.graph.nodes
    ]
    model = cpu_model(part.graph)
    try:
        host_session(model)
    except Exception as error:  # onnxruntime's own, which share no other base
        first = reasons[0]
        constraint = f"{first.constraint}; onnxruntime cannot run it either ({str(error).splitlines()[0]})"
        way_out = "use an operator that one of them has"
        raise UnsupportedError(node=first.node, op=first.op, constraint=constraint, way_out=way_out) from error
    return CpuPart(
        name=f"cpu_{number}",
        model=model,
        inputs=inputs,
        outputs=outputs,
        reasons=tuple(dict.fromkeys(reasons)),
    )


def _prove(program: Program, hardware: Hardware) -> Program:
    from isa.verify import verify
    from npusim.sim import limits_of

    report = verify(program, limits_of(hardware))
    if report.violations:
        raise UnverifiedProgramError(violation.message for violation in report.violations)
    return program.with_stamp(report.stamp)
