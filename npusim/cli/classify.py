"""``npusim classify``: the classes of an image by a built model, in the form of the board's sample.

The machine is deterministic, so one simulation stands for all repetitions; ``bench`` says why.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from npusim.cli.files import write_json
from npusim.cli.text import whole_number

RULE = "-" * 38


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    del name
    add = parser.add_argument
    add("-m", "--model", required=True, metavar="FILE", help="built model (.axmodel)")
    add("-i", "--image", required=True, metavar="FILE", help="image; it is prepared as the model was calibrated")
    add("--labels", metavar="FILE", help="names of the classes, one a line (ImageNet's for models with 1000 classes)")
    add("-r", "--repeat", default="1", metavar="N", help="repetitions (1); all take the same time")
    add("--json", metavar="FILE", help="write the result as JSON; - for standard output")
    parser.set_defaults(execute=_classify)


def _classify(arguments: argparse.Namespace) -> int:
    repeat = whole_number("-r", arguments.repeat, 1)
    image = Path(arguments.image).read_bytes()
    from npusim.session.classification import classify, preparation_of, top
    from npusim.session.inference import InferenceSession
    from npusim.session.labels import class_names
    from npusim.session.quantization import is_random

    session = InferenceSession(arguments.model)
    preparation_of(session)  # before anything takes time
    scores = classify(session, image, arguments.image)
    best = top(scores, class_names(len(scores), arguments.labels))
    latency = session.profile().latency_ms
    if arguments.json:
        record = {
            "model": session.model.name,
            "image": arguments.image,
            "top": [asdict(score) for score in best],
            "repeat": repeat,
            "avg_ms": latency,
            "max_ms": latency,
            "min_ms": latency,
        }
        write_json(arguments.json, record)
    if arguments.json != "-":
        print("\n".join(map(str, best)))
        print(RULE)
        times = f"avg time {latency:.2f} ms, max_time {latency:.2f} ms, min_time {latency:.2f} ms"
        print(f"Repeat {repeat} times, {times}")
        print(RULE)
    if is_random(session.model.config):
        print("npusim: the model was calibrated with random data: its scores mean nothing", file=sys.stderr)
    return 0
