"""``build``: an ONNX model, float or quantized, becomes a proven program in an ``.axmodel``, in a list of stages.

Called by users and by ``npusim build`` and ``compare``. Import, compiler, verifier and container do the work.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from isa.files import write_bytes
from isa.program import ISA_MAJOR, ISA_MINOR, Program
from npusim import __version__, axmodel
from npusim.axmodel import Axmodel, LayerName, Part
from npusim.config import Hardware
from npusim.errors import UsageError
from npusim.session.call import call
from npusim.session.configuration import Configuration, load
from npusim.session.machine import cores_of, find_hardware
from npusim.session.parts import compile_parts, port_of, prove_parts
from npusim.session.preprocessing import RECORD as PREPROCESSING
from npusim.session.quantization import FILES, QUANTIZED, UNNAMED, Prepared, prepare, write_quantized
from npusim.session.stages import Progress, Report, Stages
from npusim.session.summaries import summary_of

if TYPE_CHECKING:
    from npusim.graph import Graph
    from npusim.quant.mixed import CyclesOf
    from npusim.quant.settings import Samples
    from npusim.report.summary import Summary
    from npusim.session.configuration.schema import BuildConfig
    from npusim.session.inference import InferenceSession

CONTEXT_NAME = "build_context.json"
TRACE_NAME = "compiler/debug/subgraph_npu_0/b1/trace.json"
"""Where the vendor's toolchain puts the trace of every instruction."""

STAGES = ("import", "compile", "verify", "simulate", "write")
"""What a build goes through, in order; those of quantization come before them where the model is a float one."""

ON_CPU_KEY = "on_cpu"
"""In the configuration of a build with CPU fallback: the nodes that the compiler refused, and why."""

Shapes = Mapping[str, Sequence[int]] | str | None
Config = str | os.PathLike[str] | Mapping[str, Any] | Configuration | None
Source = str | os.PathLike[str] | bytes | onnx.ModelProto

PATH_KEYS = ("input", "output_dir", "output_name", "work_dir")
"""Keys that a built model does not hold, so that equal models are equal files wherever they were built."""


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
        prepared: the quantized model it was compiled from, and how it came about.
        written: all files that were written.
    """

    axmodel: Axmodel
    graph: Graph
    hardware: Hardware
    summary: Summary
    seconds: Mapping[str, float]
    path: Path | None
    prepared: Prepared
    written: tuple[Path, ...] = ()

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
    model: Source | Graph | Prepared | None = None,
    *,
    npu_mode: str | None = None,
    hardware: str | Path | Hardware | None = None,
    model_type: str | None = None,
    input_shapes: Shapes = None,
    config: Config = None,
    calibration: Samples | None = None,
    constants: Mapping[str, np.ndarray[Any, Any]] | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    output_name: str | None = None,
    cpu_fallback: bool | None = None,
    report: Report | None = None,
    progress: Progress | None = None,
) -> Built:
    """Build a model for a number of cores; a float one is quantized first.

    Args:
        model: path, content or parsed form of an ONNX file, a graph that ``npusim.graph.load`` made, or what
            ``prepare_model`` made; by default the configuration's ``input``.
        npu_mode: ``NPU1``, ``NPU2``, ...: how many cores.
        hardware: built-in name, TOML file, or a machine.
        model_type: ``ONNX`` for a float model, ``QuantONNX`` for a quantized one; by default what the model is.
        input_shapes: extents of inputs that the model leaves open, by name or as ``"a:1x3x224x224;b:1x8"``.
        constants: inputs that become constants, by name, such as scales that a quantized model takes as inputs.
        config: a configuration file, or its content; the arguments here win over it. By default that which the model
            was prepared with, but for its ``output_dir``.
        calibration: samples for a float model, such as a list of dictionaries of arrays (the configuration's).
        output_dir: where to write the file, ``build_context.json`` and the quantized model; nothing is written where
            neither this nor the configuration says where.
        output_name: of the file.
        cpu_fallback: whether what has no integer operation may run on the CPU; it is priced and shown as such.
        report: told about every stage.
        progress: told how much of a long stage is done.

    Raises:
        UsageError: a value that makes no sense, or calibration data are missing.
        ConfigError: no such machine, or a configuration that does not fit the model.
        DatasetError, QuantizationError: calibration data that cannot be read or do not fit the model.
        ModelError: the file is damaged.
        UnsupportedError, LoweringError: a part of the model cannot be lowered and may not run on the CPU; the message
            names the node.
    """
    if config is None and isinstance(model, Prepared):
        config = model.configuration.overridden({"output_dir": ""})  # nobody asked to write over that build's files
    configuration = configure(
        config, npu_mode=npu_mode, model_type=model_type, input_shapes=_shapes_text(input_shapes),
        output_dir=None if output_dir is None else Path(output_dir), output_name=output_name, cpu_fallback=cpu_fallback,
        target_hardware=hardware.machine.name if isinstance(hardware, Hardware) else hardware,
    )  # fmt: skip
    asked = configuration.build
    machine = find_hardware(hardware if isinstance(hardware, Hardware) else asked.target_hardware)
    cores = cores_of(asked.npu_mode, machine)
    _keep_source(model if isinstance(model, str | os.PathLike) else asked.input, asked)
    stage = Stages(report, progress)

    def cycles_of(quantized: onnx.ModelProto) -> int:
        return build(
            quantized, npu_mode=asked.npu_mode, hardware=machine, model_type=QUANTIZED, cpu_fallback=asked.cpu_fallback
        ).cycles

    with stage.several() as tell:  # a float model is quantized
        prepared = prepare_model(model, configuration, calibration=calibration, report=tell, cycles_of=cycles_of)
    with stage("import"):  # ONNX to integer operations
        load_again = partial(
            load_graph, prepared.model, prepared.open_shapes, constants=constants, cpu_fallback=asked.cpu_fallback
        )
        graph = load_again()
    barred: dict[str, str] = {}
    with stage("compile"):  # integer operations to instructions, one program for each part on the NPU
        if asked.cpu_fallback:
            graph, parts, barred = _compile_with_fallback(graph, load_again, machine, cores)
        else:
            parts = compile_parts(graph, machine, cores)
    with stage("verify"):  # no deadlock, no race, no access out of bounds
        parts = prove_parts(parts, machine)
    merged = configuration.record() | {"model_type": prepared.model_type, "target_hardware": machine.machine.name}
    merged |= {PREPROCESSING: dict(prepared.preprocessing)} | ({ON_CPU_KEY: barred} if asked.cpu_fallback else {})
    kept = {key: value for key, value in merged.items() if key not in PATH_KEYS}
    content = _axmodel(graph, parts, machine, asked.npu_mode, kept)
    with stage("simulate"):  # cycles of one call; they do not depend on the values
        summary = _time(content, machine)
    path: Path | None = None
    written: tuple[Path, ...] = ()
    with stage("write"):
        if asked.output_dir:
            path = Path(asked.output_dir) / asked.output_name
            path.parent.mkdir(parents=True, exist_ok=True)
            quantized = write_quantized(prepared, path.parent)
            axmodel.save(content, path)
            _write_context(path.parent / CONTEXT_NAME, content, summary, merged)
            traces = _write_trace(content, machine, path.parent) if asked.compiler.npu_perf else ()
            written = (*quantized, path, path.parent / CONTEXT_NAME, *traces)
    return Built(
        axmodel=content, graph=graph, hardware=machine, summary=summary, seconds=stage.seconds, path=path,
        prepared=prepared, written=written,
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- arguments


def configure(config: Config, **overrides: str | Path | bool | None) -> Configuration:
    """The configuration, with the arguments that were given in place of its values.

    Raises:
        ConfigError: an unknown key, or a value that does not fit.
    """
    given = {k: v if isinstance(v, bool) else str(v) for k, v in overrides.items() if v is not None}
    return config.overridden(given) if isinstance(config, Configuration) else load(config, overrides=given)


def _keep_source(source: str | os.PathLike[str], asked: BuildConfig) -> None:
    """Refuse to build a model into a folder where the build would write over it, or remove it."""
    files = [Path(asked.output_dir) / name for name in (*FILES, CONTEXT_NAME, asked.output_name)]
    if asked.output_dir and source and Path(source).resolve() in [path.resolve() for path in files]:
        raise UsageError(
            f"a build into {asked.output_dir} would replace its own model {source}: name another output_dir"
        )


def _shapes_text(shapes: Shapes) -> str | None:
    if shapes is None or isinstance(shapes, str):
        return shapes
    return ";".join(f"{name}:{'x'.join(map(str, extents))}" for name, extents in shapes.items())


def prepare_model(
    model: Source | Graph | Prepared | None,
    configuration: Configuration,
    *,
    calibration: Samples | None = None,
    report: Progress | None = None,
    cycles_of: CyclesOf | None = None,
) -> Prepared:
    """What is compiled: the quantized model of a float one, for several builds of it.

    Args:
        model: as ``build`` takes it.
        configuration: says how.
        calibration: samples to use instead of the configuration's.
        report: told about each stage of quantization and the share of it that is done.
        cycles_of: asked by automatic mixed precision what its choice costs.

    Raises:
        NpusimError: as ``build``.
    """
    from npusim.graph import Graph

    if isinstance(model, Prepared):
        return model
    if model is None:
        if not configuration.build.input:
            raise UsageError("there is nothing to build: name the ONNX model (input)")
        model = configuration.build.input
    shapes = parse_shapes(configuration.build.input_shapes)
    if isinstance(model, Graph):
        return Prepared(model=model, model_type=QUANTIZED, open_shapes=shapes, configuration=configuration)
    return prepare(model, configuration, shapes, calibration=calibration, report=report, cycles_of=cycles_of)


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
        if not name or not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", extents):
            raise UsageError(
                f"input_shapes takes name:1x3x224x224, from 1 on, and ; between several, not {entry.strip()!r}"
            )
        if name in parsed:
            raise UsageError(f"input_shapes names {name!r} twice")
        parsed[name] = tuple(int(extent) for extent in extents.split("x"))
    return parsed


def load_graph(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto | Graph,
    shapes: Mapping[str, Sequence[int]] | None = None,
    *,
    constants: Mapping[str, np.ndarray[Any, Any]] | None = None,
    cpu_fallback: bool = False,
    on_cpu: Mapping[str, str] | None = None,
) -> Graph:
    """The integer graph of a model, named after its file where the model has no name of its own.

    A graph that is one already is only checked, and none of its nodes moves.

    Args:
        model: the ONNX file, or its graph.
        shapes: extents of inputs that the model leaves open.
        constants: inputs that become constants, by name.
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
        loaded = admit(graph.load(source, input_shapes=shapes, constants=constants, on_cpu=on_cpu))
    except graph.UnsupportedError as error:
        if error.op == axmodel.OPERATOR:
            raise UsageError("this is a built model already; build takes the ONNX file it came from") from error
        raise
    if isinstance(source, Path) and loaded.name in UNNAMED:
        loaded = replace(loaded, name=source.stem)
    return loaded


# -------------------------------------------------------------------------------------------------------------- stages


def _compile_with_fallback(
    graph: Graph, load: Callable[..., Graph], hardware: Hardware, cores: int
) -> tuple[Graph, tuple[Part, ...], dict[str, str]]:
    """The parts of a model; a node that the compiler refuses moves to the CPU, until nothing is left to refuse.

    Args:
        graph: the model, all nodes where they want to be.
        load: makes it again, with some nodes on the CPU.
        hardware: the machine.
        cores: how many.

    Returns:
        The graph, its parts, and the nodes of the model that moved with the compiler's reasons.

    Raises:
        LoweringError: a node that cannot move.
    """
    from npusim.compiler.context import LoweringError

    barred: dict[str, str] = {}
    while True:
        try:
            return graph, compile_parts(graph, hardware, cores), barred
        except LoweringError as error:
            node = next((node for node in graph.nodes if node.name == error.node), None)
            moved = set(node.source if node is not None else ()) - barred.keys()
            if not moved:
                raise
            barred |= dict.fromkeys(sorted(moved), str(error))
        graph = load(on_cpu=barred)


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


def _write_context(path: Path, model: Axmodel, summary: Summary, config: Mapping[str, Any]) -> None:
    context = {
        "model": model.name,
        "config": dict(config),
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
    write_bytes(path, (json.dumps(context, indent=2) + "\n").encode())


def _write_trace(model: Axmodel, hardware: Hardware, folder: Path) -> tuple[Path, ...]:
    from npusim.report.chrome import trace_bytes
    from npusim.session.profiles import profile_model

    path = folder / TRACE_NAME
    write_bytes(path, trace_bytes(profile_model(model, hardware), compressed=False))
    return (path,)
