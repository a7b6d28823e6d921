"""``npusim profile``: where the cycles of built models and programs go, as one HTML file and as a trace file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from isa.files import write_bytes
from npusim import __version__
from npusim.cli.programs import Runnable, read_runnable
from npusim.cli.progress import Progress
from npusim.cli.text import count
from npusim.config import Hardware, load
from npusim.errors import UsageError

if TYPE_CHECKING:
    from npusim.report.precision import LayerPrecision
    from npusim.report.profile import Profile

DEFAULT_HARDWARE = "ax650n"


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    del name
    add = parser.add_argument
    add(
        "-m",
        "--model",
        required=True,
        action="append",
        metavar="FILE",
        help="built model, program file or assembly source; several are compared",
    )
    add("-o", "--output", required=True, metavar="FILE", help="report to write (HTML, needs nothing but itself)")
    add("--trace", metavar="FILE", help="write a Perfetto or Chrome trace as well; compressed where it ends in .gz")
    add("--target_hardware", help="built-in name or TOML file (the one each model was built for)")
    parser.set_defaults(execute=_profile)


def _profile(arguments: argparse.Namespace) -> int:
    from npusim.report.page import page

    if arguments.trace and len(arguments.model) > 1:
        raise UsageError(f"--trace writes the timeline of one model; -m names {len(arguments.model)}")
    machine = load(arguments.target_hardware) if arguments.target_hardware else None
    subjects = [read_runnable(path) for path in arguments.model]
    progress = Progress("profile")
    profiles = []
    try:
        for index, subject in enumerate(subjects):
            progress.step(index / len(subjects), subject.path)
            profiles.append(_profile_of(subject, machine))
    finally:
        progress.done()
    write_bytes(arguments.output, page(profiles, __version__).encode())
    for made in profiles:
        figures = made.summary
        bound = max(figures.critical_cycles, key=figures.critical_cycles.__getitem__)
        share = figures.critical_cycles[bound] / max(figures.cycles, 1)
        print(f"{made.title}: {figures.cycles:,} cycles, {figures.latency_ms:.3f} ms")
        print(f"  {share:.0%} of the critical path is {bound}")
    print(f"written {arguments.output}: {count(len(profiles), 'run')}")
    if arguments.trace:
        from npusim.report.chrome import GZIP_SUFFIX, trace_bytes

        write_bytes(arguments.trace, trace_bytes(profiles[0], compressed=arguments.trace.endswith(GZIP_SUFFIX)))
        print(f"written {arguments.trace}: open it in ui.perfetto.dev or chrome://tracing")
    return 0


def _profile_of(subject: Runnable, machine: Hardware | None) -> Profile:
    if subject.model is not None:
        from npusim.session.profiles import profile_model

        return profile_model(subject.model, machine, precision=_precision_beside(subject.path))
    from npusim.session.profiles import profile_program

    return profile_program(subject.program, machine or load(DEFAULT_HARDWARE))


def _precision_beside(path: str) -> tuple[LayerPrecision, ...]:
    """What the build found of the model's precision, where it was asked for."""
    from npusim.report.precision import PRECISION_FILE, read_precision

    found = Path(path).parent / PRECISION_FILE
    return read_precision(found.read_text(encoding="utf-8"), str(found)) if found.is_file() else ()
