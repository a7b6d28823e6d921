"""``npusim build``: a quantized ONNX model becomes an ``.axmodel``."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from npusim.cli.progress import Progress
from npusim.cli.results import cpu_table
from npusim.cli.text import count

if TYPE_CHECKING:
    from npusim.session.builder import Built

SHARES = {"import": 0.0, "compile": 0.1, "verify": 0.7, "simulate": 0.9, "write": 0.99}
"""How much of a build is done when a stage begins; typical, for the bar only."""


CPU_FALLBACK_HELP = "let the CPU run what the NPU cannot: priced, and listed in every report"


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    del name
    add = parser.add_argument
    add("--input", required=True, metavar="FILE", help="quantized ONNX model (QDQ or QOperator)")
    add("--output_dir", required=True, help="folder for the built model and build_context.json")
    add("--output_name", default="compiled.axmodel", help="file name of the built model (compiled.axmodel)")
    add("--model_type", default="QuantONNX", help="QuantONNX; ONNX, a float model, has to be quantized first")
    add("--target_hardware", default="ax650n", help="built-in name or TOML file (ax650n, alias AX650)")
    add("--npu_mode", default="NPU1", help="cores to build for: NPU1, NPU2 or NPU3 (NPU1)")
    add("--input_shapes", default="", help="shapes of inputs the model leaves open: a:1x3x224x224;b:1x8")
    add("--cpu_fallback", action="store_true", help=CPU_FALLBACK_HELP)
    parser.set_defaults(execute=_build)


def _build(arguments: argparse.Namespace) -> int:
    from npusim.session.builder import CONTEXT_NAME, build

    log = BuildLog(arguments.input)
    try:
        built = build(
            arguments.input,
            npu_mode=arguments.npu_mode,
            hardware=arguments.target_hardware,
            model_type=arguments.model_type,
            input_shapes=arguments.input_shapes,
            output_dir=arguments.output_dir,
            output_name=arguments.output_name,
            cpu_fallback=arguments.cpu_fallback,
            report=log.stage,
        )
    finally:
        log.progress.done()
    _print(built, log)
    assert built.path is not None
    print(f"written {built.path} ({len(built.data):,} bytes)")
    print(f"written {built.path.with_name(CONTEXT_NAME)}")
    return 0


class BuildLog:
    """The stages of a build: a bar while they last, a line each when they are done."""

    def __init__(self, title: str) -> None:
        self.progress = Progress(title)
        self.lines: list[str] = []

    def stage(self, name: str, seconds: float) -> None:
        """Take note of a stage that begins (0 seconds) or is done."""
        if seconds:
            self.lines.append(f"{name:<9}{seconds:8.3f} s")
        else:
            self.progress.step(SHARES[name], name)


def _print(built: Built, log: BuildLog) -> None:
    model, summary, hardware = built.axmodel, built.summary, built.hardware
    parameters = sum(s.size_bytes for program in model.programs for s in program.segments if s.data is not None)
    units = len({unit for program in model.programs for unit in program.streams})
    parts = f" in {count(len(model.programs), 'program')}" if model.cpu_parts else ""
    details = {
        "import": f"{count(len(built.graph.nodes), 'operation')}, {count(len(model.inputs), 'input')}, "
        f"{count(len(model.outputs), 'output')}",
        "compile": f"{count(built.instructions, 'instruction')}{parts} on {count(units, 'unit')} of "
        f"{count(model.cores, 'core')}, {parameters:,} bytes of parameters",
        "verify": "no deadlock, no race, no access out of bounds",
        "simulate": f"{summary.cycles:,} cycles",
    }
    print(f"{model.name}: {model.npu_mode} of {model.hardware}")
    for line in log.lines:
        print(f"  {line}  {details.get(line.split()[0], '')}".rstrip())
    host = f", {summary.host_ms:.3f} ms of it CPU parts and the launches behind them" if summary.cpu_parts else ""
    print(f"max_cycle = {summary.cycles:,}")
    print(
        f"latency   = {summary.latency_ms:.3f} ms at {hardware.machine.clock_hz / 1e6:,.0f} MHz, "
        f"{hardware.machine.launch_ms} ms of it the call itself{host}; {summary.fps:,.1f} fps"
    )
    print(f"MACs      = {summary.macs:,}, {summary.mac_utilization:.1%} of the peak of its cores")
    print(f"DRAM      = {summary.dram_bytes:,} bytes")
    if summary.cpu_parts:
        print(cpu_table([asdict(work) for work in summary.cpu_parts]))
