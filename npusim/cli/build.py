"""``npusim build``: an ONNX model, float or quantized, becomes an ``.axmodel``."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

from npusim.cli.options import add_options, given_options
from npusim.cli.progress import Progress
from npusim.cli.results import cpu_table
from npusim.cli.text import count, table
from npusim.errors import UsageError

if TYPE_CHECKING:
    from npusim.quant.mixed import Mixed
    from npusim.quant.precision import Analysis
    from npusim.session.builder import Built
    from npusim.session.quantization import Prepared

STARTS = {"optimize": 0.0, "equalize": 0.02, "smooth": 0.03, "calibrate": 0.05, "quantize": 0.3, "mix": 0.32,
          "correct": 0.4, "analyze": 0.45, "import": 0.5, "compile": 0.55, "verify": 0.85,
          "simulate": 0.95, "write": 0.99}  # fmt: skip
"""How much of a build is done when a stage begins; typical, for the bar only."""


WORST = 5
"""Layers of a precision analysis that are printed."""


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    del name
    parser.usage = "npusim build --input FILE --output_dir DIR [--config FILE] [--KEY VALUE ...]"
    parser.epilog = "Every key can stand in a configuration file too; flags win over the file."
    parser.add_argument("--config", metavar="FILE", help="configuration: .json (with comments), .yaml or .toml")
    add_options(parser)
    parser.set_defaults(execute=_build)


def _build(arguments: argparse.Namespace) -> int:
    from npusim.session.builder import build
    from npusim.session.configuration import load

    configuration = load(arguments.config, given_options(arguments))
    for key in ("input", "output_dir"):
        if not getattr(configuration.build, key):
            raise UsageError(f"npusim build needs --{key}, or {key} in its configuration")
    log = BuildLog(configuration.build.input)
    try:
        built = build(config=configuration, report=log.stage, progress=log.share)
    finally:
        log.progress.done()
    _print(built, log)
    for note in built.prepared.notes:
        print(f"npusim: {note}", file=sys.stderr)
    for path in built.written:
        print(f"written {path} ({path.stat().st_size:,} bytes)")
    return 0


class BuildLog:
    """The stages of a build: a bar while they last, a line each when they are done."""

    def __init__(self, title: str) -> None:
        self.progress = Progress(title)
        self.seconds: dict[str, float] = {}

    def stage(self, name: str, seconds: float) -> None:
        """Take note of a stage that begins (0 seconds) or is done."""
        if seconds:
            self.seconds[name] = seconds
        else:
            self.share(name, 0.0)

    def share(self, name: str, share: float) -> None:
        """Show how much of a stage is done."""
        names = list(STARTS)
        begin = STARTS.get(name, STARTS["quantize"])
        end = STARTS[names[names.index(name) + 1]] if name in names[:-1] else begin
        self.progress.step(begin + share * (end - begin), name)


def _print(built: Built, log: BuildLog) -> None:
    model, summary, hardware = built.axmodel, built.summary, built.hardware
    parameters = sum(s.size_bytes for program in model.programs for s in program.segments if s.data is not None)
    units = len({unit for program in model.programs for unit in program.streams})
    parts = f" in {count(len(model.programs), 'program')}" if model.cpu_parts else ""
    details = {
        "optimize": "folded and fused, checked against the model on a sample",
        "calibrate": count(built.prepared.samples, "sample"),
        "import": f"{count(len(built.graph.nodes), 'operation')}, {count(len(model.inputs), 'input')}, "
        f"{count(len(model.outputs), 'output')}",
        "compile": f"{count(built.instructions, 'instruction')}{parts} on {count(units, 'unit')} of "
        f"{count(model.cores, 'core')}, {parameters:,} bytes of parameters",
        "verify": "no deadlock, no race, no access out of bounds",
        "simulate": f"{summary.cycles:,} cycles",
    }
    print(f"{model.name}: {model.npu_mode} of {model.hardware}")
    for name, seconds in log.seconds.items():
        print(f"  {name:<9}{seconds:8.3f} s  {details.get(name, '')}".rstrip())
    _print_quantization(built.prepared)
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


def _print_quantization(prepared: Prepared) -> None:
    """How many layers of each operator got which types; every single one stands in the table that is written."""
    if prepared.quantized is None:
        return
    kinds = Counter(
        ("+".join(op.rpartition(".")[2] for op in row.ops), row.data_type, row.weight_type, row.observer)
        for row in prepared.quantized.table
    )
    rows = [(ops, amount, *types) for (ops, *types), amount in sorted(kinds.items())]
    print()
    print(table(("operators", "layers", "type", "weights", "observer"), rows, "<><<<"))
    if prepared.quantized.rescaled:
        print(f"\nchannels made even in {count(len(prepared.quantized.rescaled), 'tensor')}")
    if prepared.quantized.mixed is not None:
        _print_mixed(prepared.quantized.mixed)
    if prepared.quantized.analysis is not None:
        _print_analysis(prepared.quantized.analysis)
    print()


def _print_mixed(mixed: Mixed) -> None:
    """Which layers got 16 bits, what it did for the outputs, and what it cost."""
    metric = mixed.target.metric
    print(f"\nauto_mix_precision {mixed.target}: 16 bit for {count(len(mixed.layers), 'layer')}")
    for layer in mixed.layers:
        print(f"  {layer}")
    print(f"  {metric} of the outputs {mixed.before:.6g} -> {mixed.after:.6g}")
    if mixed.cycles_before is not None and mixed.cycles_after is not None:
        change = mixed.cycles_after / mixed.cycles_before - 1 if mixed.cycles_before else 0.0
        print(f"  cycles {mixed.cycles_before:,} -> {mixed.cycles_after:,} ({change:+.1%})")


def _print_analysis(analysis: Analysis) -> None:
    """The layers that lose most; the whole table is written."""
    worst = sorted(analysis.layers, key=lambda layer: layer.snr_db)[:WORST]
    rows = [(layer.layer, layer.op, layer.dtype, f"{layer.cosine:.6f}", f"{layer.snr_db:.2f}") for layer in worst]
    print(
        f"\nprecision analysis, {analysis.method}, {count(analysis.samples, 'sample')}: lowest signal-to-noise ratios\n"
    )
    print(table(("layer", "operator", "type", "cosine", "SNR dB"), rows, "<<<"))
    for output in analysis.outputs:
        print(f"output {output.layer}: cosine {output.cosine:.6f}, SNR {output.snr_db:.2f} dB")
