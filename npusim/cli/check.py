"""``npusim check``: the first tensor, if any, in which a built model differs from onnxruntime."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from npusim.cli.files import file_name, write_json
from npusim.cli.programs import read_model
from npusim.cli.progress import Progress
from npusim.cli.text import count, whole_number
from npusim.errors import UsageError

if TYPE_CHECKING:
    from npusim.axmodel import Axmodel
    from npusim.session.agreement import Agreement


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    del name
    add = parser.add_argument
    add("--model", required=True, metavar="FILE", help="the quantized ONNX model it was built from")
    add("-m", "--axmodel", required=True, metavar="FILE", help="the built model")
    add("--input_dir", help="folder of <input>.bin files; seeded random values otherwise")
    add("--seed", default="0", metavar="N", help="of the random values (0)")
    add("--json", metavar="FILE", help="write the findings as JSON; - for standard output")
    parser.set_defaults(execute=_check)


def _check(arguments: argparse.Namespace) -> int:
    from npusim.session.agreement import check

    seed = whole_number("--seed", arguments.seed, 0)
    built = read_model(arguments.axmodel)
    feeds = read_feeds(built, arguments.input_dir) if arguments.input_dir else None
    progress = Progress(built.name)
    try:
        found = check(arguments.model, built, feeds, seed=seed, report=progress.step)
    finally:
        progress.done()
    if arguments.json:
        write_json(arguments.json, _record(built, found))
    if arguments.json != "-":
        _print(built, found)
    return 0 if found.agrees else 1


def read_feeds(model: Axmodel, folder: str) -> dict[str, np.ndarray[Any, Any]]:
    """A model's inputs from ``<folder>/<input>.bin``.

    Raises:
        UsageError: a file of the wrong size.
        OSError: a file cannot be read.
    """
    from npusim.session.call import numpy_type

    feeds = {}
    for port in model.inputs:
        path = Path(folder) / file_name(port.name)
        data = path.read_bytes()
        if len(data) != port.size_bytes:
            raise UsageError(f"{path} has {len(data)} bytes; {port} takes {port.size_bytes}")
        feeds[port.name] = np.frombuffer(data, dtype=numpy_type(port)).reshape(port.shape)
    return feeds


def _record(built: Axmodel, found: Agreement) -> dict[str, Any]:
    return {
        "model": built.name,
        "npu_mode": built.npu_mode,
        "hardware": built.hardware,
        "agrees": found.agrees,
        "tensors": found.compared,
        "elements": found.elements,
        "first": asdict(found.first) if found.first else None,
        "outputs": [asdict(output) for output in found.outputs],
        "note": found.note,
    }


def _print(built: Axmodel, found: Agreement) -> None:
    print(
        f"{built.name}, {built.npu_mode} of {built.hardware}, against onnxruntime on the quantized ONNX, free running"
    )
    if found.first is None:
        print(f"agrees: {count(found.compared, 'tensor')}, {found.elements:,} elements, every one equal")
    else:
        print(f"first difference: {found.first}")
        for output in found.outputs:
            if output != found.first:
                print(f"output: {output}")
    if found.note:
        print(f"note: {found.note}")
