"""The command line: ``npusim COMMAND ...``.

Each command lives in a module of this package and imports what it needs when it runs, so that a command that needs no
kernel starts at once. Results go to standard output, notes to standard error; an error is one line and exit code 2.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from npusim import __version__
from npusim.errors import NpusimError, UsageError, did_you_mean


def _assembly() -> ModuleType:
    from npusim.cli import assembly

    return assembly


def _run() -> ModuleType:
    from npusim.cli import run

    return run


def _info() -> ModuleType:
    from npusim.cli import info

    return info


def _build() -> ModuleType:
    from npusim.cli import build

    return build


def _classify() -> ModuleType:
    from npusim.cli import classify

    return classify


def _bench() -> ModuleType:
    from npusim.cli import bench

    return bench


def _compare() -> ModuleType:
    from npusim.cli import compare

    return compare


def _profile() -> ModuleType:
    from npusim.cli import profile

    return profile


def _check() -> ModuleType:
    from npusim.cli import check

    return check


# What each command is called, how its module is loaded, and what it does.
COMMANDS: dict[str, tuple[Callable[[], ModuleType], str]] = {
    "build": (_build, "build an ONNX model, float or quantized, for one, two or three cores"),
    "run": (_run, "run models and programs: exact integers and cycles"),
    "bench": (_bench, "latency of a built model, as the board's tool prints it"),
    "classify": (_classify, "the classes of an image by a built model, as the board's sample prints them"),
    "compare": (_compare, "build a model for several core allocations or machines and compare them"),
    "profile": (_profile, "see where the cycles go: a report in one HTML file, and a trace for Perfetto"),
    "check": (_check, "find the first tensor of a built model that differs from onnxruntime's"),
    "asm": (_assembly, "assemble a program"),
    "disasm": (_assembly, "print a program as assembly text"),
    "verify": (_assembly, "prove a program free of deadlocks, races and bad accesses"),
    "info": (_info, "describe a machine, a model or a program, or list the supported operators"),
}

EXIT_ERROR = 2

RESULTS = ("output", "trace", "json", "csv")
"""Arguments that name a file to write, in every command that takes them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 where a check found something, 2 for an error."""
    words = sys.argv[1:] if argv is None else argv
    try:
        parser, command = _parser(words)
        arguments, unknown = parser.parse_known_args(words)
        if unknown:
            raise _unknown_argument(unknown[0], command)
        _keep_inputs(vars(arguments))
        return int(arguments.execute(arguments))
    except BrokenPipeError:
        # the reader of our output went away (`npusim disasm x | head`): that is no error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("npusim: interrupted", file=sys.stderr)
        return 130
    except Exception as error:  # noqa: BLE001 - the outermost frame: an error becomes a line and an exit code
        if "--traceback" in words or not _is_expected(error):
            traceback.print_exc()
        else:
            print(f"npusim: {_one_line(error)}", file=sys.stderr)
        return EXIT_ERROR


def _is_expected(error: Exception) -> bool:
    from isa.errors import IsaError

    return isinstance(error, NpusimError | IsaError | OSError | MemoryError)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        return f"not enough memory: {str(error) or 'the model or its inputs are too large'}"
    return " ".join(str(error).split("\n"))


def _unknown_argument(word: str, command: argparse.ArgumentParser) -> UsageError:
    options = [option for action in command._actions for option in action.option_strings]
    name = word.partition("=")[0]
    return UsageError(f"{command.prog} takes no {name!r}", did_you_mean(name, options))


def _keep_inputs(named: dict[str, object]) -> None:
    """Refuse to write a result over a file that the command reads, or two results into one file."""
    from npusim.cli.files import is_same_file

    written = {name: path for name in RESULTS if isinstance(path := named.get(name), str)}
    others = [value for name, value in named.items() if name not in written]
    read = [path for value in others for path in (value if isinstance(value, list) else [value])]
    files = [path for path in read if isinstance(path, str) and Path(path).is_file()]
    for name, path in written.items():
        if any(is_same_file(path, other) for other in files):
            raise UsageError(f"--{name} {path} would overwrite a file that the command reads: name another file")
        if any(is_same_file(path, other) for key, other in written.items() if key != name):
            raise UsageError(f"--{name} {path}: another result goes there as well: name another file")


class _Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line, like every other error, and names the help."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message.removeprefix('argument ')}; see {self.prog} --help")


def _parser(words: Sequence[str]) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """The parser of the program, and that of the command that is called.

    Raises:
        UsageError: no such command.
    """
    parser = _Parser(
        prog="npusim",
        description="Cycle-accurate simulator of a three-core INT8 NPU: bit-exact outputs and cycle counts in one run.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"npusim {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    chosen = next((word for word in words if not word.startswith("-")), None)
    if chosen is not None and chosen not in COMMANDS:
        raise UsageError(f"no command {chosen!r}, only {', '.join(COMMANDS)}", did_you_mean(chosen, COMMANDS))
    called = parser
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
        )
        command.add_argument("--traceback", action="store_true", help="show where an error comes from")
        if name == chosen:  # only the chosen command's module is imported
            module().configure(name, command)
            called = command
    return parser, called
