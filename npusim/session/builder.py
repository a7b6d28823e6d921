"""``build``: a quantized ONNX model becomes a proven program in an ``.axmodel``, in a list of stages.

Called by users and by ``npusim build`` and ``compare``. Import, compiler, verifier and container do the work.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from isa.program import ISA_MAJOR, ISA_MINOR, Program
from npusim import __version__, axmodel
from npusim.axmodel import Axmodel, LayerName, Part
from npusim.config import Hardware
from npusim.errors import UsageError, did_you_mean
from npusim.session.call import call
from npusim.session.machine import cores_of, find_hardware
from npusim.session.parts import compile_parts, port_of, prove_parts
from npusim.session.summaries import summary_of

if TYPE_CHECKING:
    from npusim.graph import Graph
    from npusim.report.summary import Summary
    from npusim.session.inference import InferenceSession

MODEL_TYPES = ("QuantONNX", "ONNX")
AXMODEL_NAME = "compiled.axmodel"
CONTEXT_NAME = "build_context.json"

STAGES = ("import", "compile", "verify", "simulate", "write")
"""What a build goes through, in order."""

ON_CPU_KEY = "on_cpu"
"""In the configuration of a build with CPU fallback: the nodes that the compiler refused, and why."""

Shapes = Mapping[str, Sequence[int]] | str | None
Report = Callable[[str, float], None]
"""Called with a stage's name and its seconds so far: 0.0 when it begins, more than that when it is done."""

_UNNAMED = ("", "model", "graph", "main_graph", "main", "torch_jit", "torch-jit-export")
"""Names that exporters give every graph: the file's name says more."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Built:
    """A built model and what is known about it.

    Attributes:
        axmodel: what the file holds.
        graph: the integer graph it was compiled from.
        hardware: the machine it was built for.
        summary: cycles and traffic of one call, alone on the machine.
        seconds: of each stage.
        path: the file; None where none was asked for.
    """

    axmodel: Axmodel
    graph: Graph
    hardware: Hardware
    summary: Summary
    seconds: Mapping[str, float]
    path: Path | None

    @cached_property
    def data(self) -> bytes:
        """The bytes of the file."""
        return axmodel.wrap(self.axmodel)

    @property
    def program(self) -> Program:
        """The program.

        Raises:
            AxmodelError: the model has CPU parts; ``axmodel.programs`` has those between them.
        """
        return self.axmodel.program

    @property
    def instructions(self) -> int:
        """Instructions of all programs."""
        return sum(map(len, self.axmodel.programs))

    @property
    def cycles(self) -> int:
        """Cycles of one call, alone on the machine."""
        return self.summary.cycles

    def session(self) -> InferenceSession:
        """A session on this model."""
        from npusim.session.inference import InferenceSession

        return InferenceSession(self)

    def __repr__(self) -> str:
        return (
            f"<Built {self.axmodel.name} for {self.axmodel.npu_mode} of {self.hardware.machine.name}: "
            f"{self.cycles:,} cycles, {self.summary.latency_ms:.3f} ms, {self.instructions:,} instructions>"
        )

    def _repr_html_(self) -> str:
        from npusim.session.notebook import html_of

        return html_of(repr(self), self.summary)


def build(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto | Graph,
    *,
    npu_mode: str = "NPU1",
    hardware: str | Path | Hardware = "ax650n",
    model_type: str = "QuantONNX",
    input_shapes: Shapes = None,
    output_dir: str | os.PathLike[str] | None = None,
    output_name: str = AXMODEL_NAME,
    cpu_fallback: bool = False,
    report: Report | None = None,
) -> Built:
    """Build a quantized model for a number of cores.

    Args:
        model: path, content or parsed form of an ONNX file, or a graph that ``npusim.graph.load`` made.
        npu_mode: ``NPU1``, ``NPU2``, ...: how many cores.
        hardware: built-in name, TOML file, or a machine.
        model_type: ``QuantONNX``.
        input_shapes: extents of inputs that the model leaves open, by name or as ``"a:1x3x224x224;b:1x8"``.
        output_dir: where to write the file and ``build_context.json``; nothing is written by default.
        output_name: of the file.
        cpu_fallback: whether what has no integer operation may run on the CPU; it is priced and shown as such.
        report: told about every stage.

    Raises:
        UsageError: a value that makes no sense.
        ConfigError: no such machine.
        ModelError: the file is damaged.
        UnsupportedError, LoweringError: a part of the model cannot be lowered and may not run on the CPU; the message
            names the node.
    """
    check_model_type(model_type)
    _check_name(output_name)
    machine = find_hardware(hardware)
    cores = cores_of(npu_mode, machine)
    shapes = parse_shapes(input_shapes)
    stage = _Stages(report)
    with stage("import"):  # ONNX to integer operations
        graph = load_graph(model, shapes, cpu_fallback=cpu_fallback)
    barred: dict[str, str] = {}
    with stage("compile"):  # integer operations to instructions, one program for each part on the NPU
        if cpu_fallback:
            graph, parts, barred = _compile_with_fallback(graph, model, shapes, machine, cores)
        else:
            parts = compile_parts(graph, machine, cores)
    with stage("verify"):  # no deadlock, no race, no access out of bounds
        parts = prove_parts(parts, machine)
    config: dict[str, Any] = {
        "model_type": model_type,
        "npu_mode": npu_mode,
        "target_hardware": machine.machine.name,
        "input_shapes": {name: list(shape) for name, shape in shapes.items()},
    }
    if cpu_fallback:
        config |= {"cpu_fallback": True, ON_CPU_KEY: barred}
    content = _axmodel(graph, parts, machine, npu_mode, config)
    with stage("simulate"):  # cycles of one call; they do not depend on the values
        summary = _time(content, machine)
    path = None
    with stage("write"):
        if output_dir is not None:
            path = Path(output_dir) / output_name
            path.parent.mkdir(parents=True, exist_ok=True)
            axmodel.save(content, path)
            _write_context(path.parent / CONTEXT_NAME, content, summary)
    return Built(axmodel=content, graph=graph, hardware=machine, summary=summary, seconds=stage.seconds, path=path)


# ----------------------------------------------------------------------------------------------------------- arguments


def check_model_type(model_type: str) -> None:
    """Refuse what cannot be built.

    Raises:
        UsageError: a float model, or no such type.
    """
    if model_type == "ONNX":
        raise UsageError(
            "model_type ONNX is a float model, which build does not quantize yet: quantize it first (onnxruntime's "
            "quantize_static writes QDQ files), then build the result with model_type QuantONNX"
        )
    if model_type not in MODEL_TYPES:
        known = ", ".join(MODEL_TYPES)
        raise UsageError(f"there is no model_type {model_type!r}, only {known}", did_you_mean(model_type, MODEL_TYPES))


def parse_shapes(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Extents by input name.

    Raises:
        UsageError: text that is not ``name:1x3x224x224;...``.

    >>> parse_shapes("a:1x3x8x8;b:4")
    {'a': (1, 3, 8, 8), 'b': (4,)}
    """
    if shapes is None or shapes == "":
        return {}
    if not isinstance(shapes, str):
        return {name: tuple(int(extent) for extent in shape) for name, shape in shapes.items()}
    parsed = {}
    for entry in filter(None, shapes.split(";")):
        name, _, extents = entry.strip().rpartition(":")
        if not name or not re.fullmatch(r"\d+(x\d+)*", extents):
            raise UsageError(f"input_shapes takes name:1x3x224x224 and ; between several, not {entry.strip()!r}")
        if name in parsed:
            raise UsageError(f"input_shapes names {name!r} twice")
        parsed[name] = tuple(int(extent) for extent in extents.split("x"))
    return parsed


def load_graph(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto | Graph,
    shapes: Mapping[str, Sequence[int]] | None = None,
    *,
    cpu_fallback: bool = False,
    on_cpu: Mapping[str, str] | None = None,
) -> Graph:
    """The integer graph of a model, named after its file where the model has no name of its own.

    A graph that is one already is only checked.

    Args:
        model: the ONNX file, or its graph.
        shapes: extents of inputs that the model leaves open.
        cpu_fallback: whether the graph may have CPU nodes.
        on_cpu: ONNX nodes that stay on the CPU, with the reason for each.

    Raises:
        ModelError: the file is damaged.
        UnsupportedError: a part of the model has no integer operation and may not stay on the CPU.
        UsageError: ``shapes`` do not fit.
    """
    from npusim import graph

    admit = (lambda found: found) if cpu_fallback else graph.require_integer
    if isinstance(model, graph.Graph):
        return admit(model)
    source = model if isinstance(model, bytes | onnx.ModelProto) else Path(model)
    try:
        loaded = admit(graph.load(source, input_shapes=shapes, on_cpu=on_cpu))
    except graph.UnsupportedError as error:
        if error.op == axmodel.OPERATOR:
            raise UsageError("this is a built model already; build takes the ONNX file it came from") from error
        raise
    if isinstance(source, Path) and loaded.name in _UNNAMED:
        loaded = replace(loaded, name=source.stem)
    return loaded


def _check_name(output_name: str) -> None:
    if not output_name or Path(output_name).name != output_name:
        raise UsageError(f"output_name is a file name in output_dir, not {output_name!r}")


# -------------------------------------------------------------------------------------------------------------- stages


class _Stages:
    """Times stages and tells the caller about them."""

    def __init__(self, report: Report | None) -> None:
        self.report = report
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        self._tell(stage, 0.0)
        begin = time.perf_counter()
        yield
        self.seconds[stage] = max(time.perf_counter() - begin, 1e-9)
        self._tell(stage, self.seconds[stage])

    def _tell(self, stage: str, seconds: float) -> None:
        if self.report is not None:
            self.report(stage, seconds)


def _compile_with_fallback(
    graph: Graph, model: Any, shapes: Mapping[str, Sequence[int]], hardware: Hardware, cores: int
) -> tuple[Graph, tuple[Part, ...], dict[str, str]]:
    """The parts of a model; a node that the compiler refuses moves to the CPU, until nothing is left to refuse.

    Returns:
        The graph, its parts, and the nodes of the model that moved with the compiler's reasons.

    Raises:
        LoweringError: a node that cannot move, because its model is not known or it is the machine's own work.
    """
    from npusim.compiler.context import LoweringError
    from npusim.graph import Graph

    barred: dict[str, str] = {}
    while True:
        try:
            return graph, compile_parts(graph, hardware, cores), barred
        except LoweringError as error:
            node = next((node for node in graph.nodes if node.name == error.node), None)
            moved = set(node.source if node is not None else ()) - barred.keys()
            if not moved or isinstance(model, Graph):
                raise
            barred |= dict.fromkeys(sorted(moved), str(error))
        graph = load_graph(model, shapes, cpu_fallback=True, on_cpu=barred)


def _time(model: Axmodel, hardware: Hardware) -> Summary:
    from npusim.sim import Mode

    return summary_of(call(model, hardware, {}, Mode.TIME), model, hardware)


def _axmodel(
    graph: Graph, parts: tuple[Part, ...], hardware: Hardware, npu_mode: str, config: Mapping[str, Any]
) -> Axmodel:
    return Axmodel(
        name=graph.name or "model",
        parts=parts,
        inputs=tuple(port_of(graph, name) for name in graph.inputs),
        outputs=tuple(port_of(graph, name) for name in graph.outputs),
        npu_mode=npu_mode,
        hardware=hardware.machine.name,
        hardware_fingerprint=hardware.fingerprint(),
        hardware_values=hardware.values(),
        layers=tuple(
            LayerName(name=node.name, op=node.op, source=node.source) for node in graph.nodes if node.op != "cpu"
        ),
        versions={"npusim": __version__, "numpy": np.__version__, "onnx": onnx.__version__},
        config=config,
    )


def _write_context(path: Path, model: Axmodel, summary: Summary) -> None:
    context = {
        "model": model.name,
        "config": dict(model.config),
        "hardware": model.hardware,
        "hardware_fingerprint": model.hardware_fingerprint,
        "isa_version": f"{ISA_MAJOR}.{ISA_MINOR}",
        "versions": dict(model.versions),
        "macs": summary.macs,
        "max_cycle": summary.cycles,
        "instructions": sum(map(len, model.programs)),
        "cpu_parts": [asdict(work) for work in summary.cpu_parts],
        "inputs": [str(port) for port in model.inputs],
        "outputs": [str(port) for port in model.outputs],
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(context, indent=2) + "\n", encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
