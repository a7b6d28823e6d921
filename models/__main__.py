"""The command ``python -m models``: list the recipes, or write one as an ONNX file.

Output goes to standard output, an error is one line and exit code 2. Nothing here builds anything itself.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import onnx

from . import count
from .errors import ModelError, nearest
from .quantize import FORMATS, quantize, require_format
from .recipe import build, find, recipes

EXIT_ERROR = 2
CHECKPOINT = "microsoft/swin-tiny-patch4-window7-224"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 for an error."""
    parser = _parser()
    arguments, unknown = parser.parse_known_intermixed_args(argv)
    if unknown:
        option = unknown[0].partition("=")[0]
        options = [word for action in parser._actions for word in action.option_strings]
        parser.error(f"no option is called {option!r}{nearest(option, options)}")
    try:
        if arguments.model == "list":
            _list()
        else:
            _write(arguments)
    except ModelError as error:
        print(f"models: {error}", file=sys.stderr)
        return EXIT_ERROR
    except OSError as error:
        print(f"models: {error.filename}: {error.strerror}" if error.filename else f"models: {error}", file=sys.stderr)
        return EXIT_ERROR
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models",
        description="Write a model with seeded weights as an ONNX file.",
        allow_abbrev=False,
    )
    parser.add_argument("model", help="name of a recipe, or `list`")
    parser.add_argument("parameters", nargs="*", metavar="key=value", help="parameters of the recipe")
    parser.add_argument("-o", "--output", type=Path, help="file to write; <model>.onnx where left out")
    parser.add_argument("--quantize", metavar="FORMAT", help=f"quantize with onnxruntime: {', '.join(FORMATS)}")
    parser.add_argument("--seed", type=int, default=0, help="of weights and calibration data (default: 0)")
    parser.add_argument("--opset", type=int, default=17, help="of the model, 11 to 24 (default: 17)")
    parser.add_argument("--input_shape", type=_shape, metavar="N,C,H,W", help="instead of the recipe's own")
    parser.add_argument("--keep_bn", action="store_true", help="leave batch normalization unfolded")
    pretrained = parser.add_argument_group("pretrained weights, which need torch and transformers")
    pretrained.add_argument("--pretrained", metavar="CHECKPOINT", help=f"folder or name, such as {CHECKPOINT}")
    pretrained.add_argument("--download", action="store_true", help="fetch a checkpoint that is not in the cache")
    pretrained.add_argument("--labels", type=Path, help="file to write the names of the classes to, one a line")
    return parser


def _shape(text: str) -> tuple[int, ...]:
    """A shape as it is typed: ``1,3,224,224`` or ``1x3x224x224``."""
    try:
        return tuple(int(word) for word in text.replace("x", ",").split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no shape: write 1,3,224,224") from None


def _list() -> None:
    for item in recipes():
        parameters = " ".join(f"{key}={value}" for key, value in item.parameters.items())
        print(f"{item.name:<20}{item.summary}" + (f"  [{parameters}]" if parameters else ""))


def _write(arguments: argparse.Namespace) -> None:
    if arguments.quantize:
        require_format(arguments.quantize)
    model = _pretrained(arguments) if arguments.pretrained else _seeded(arguments)
    parameters, multiplications = count.parameters(model), count.macs(model)
    if arguments.quantize:
        model = quantize(model, arguments.quantize, seed=arguments.seed)
    output = arguments.output or Path(f"{find(arguments.model).name}.onnx")
    onnx.save(model, output)
    size = output.stat().st_size
    counts = f"{parameters / 1e6:.2f} M parameters, {multiplications / 1e9:.3f} GMAC"
    print(f"{output}: {len(model.graph.node)} nodes, {counts}, {size / 1e6:.1f} MB")


def _seeded(arguments: argparse.Namespace) -> onnx.ModelProto:
    words = [word.partition("=") for word in arguments.parameters]
    for key, equals, _ in words:
        if not equals:
            raise ModelError(f"{key!r} is no parameter: write key=value")
        if key in vars(arguments):
            raise ModelError(f"{key!r} is an option: write --{key}")
    return build(
        arguments.model,
        seed=arguments.seed,
        opset=arguments.opset,
        input_shape=arguments.input_shape,
        fold_bn=not arguments.keep_bn,
        **{key: value for key, _, value in words},
    )


def _pretrained(arguments: argparse.Namespace) -> onnx.ModelProto:
    from .pretrained import export, load

    if not find(arguments.model).name.startswith("swin"):
        raise ModelError(f"--pretrained knows swin models only, not {arguments.model}")
    if arguments.parameters or arguments.input_shape:
        raise ModelError("--pretrained takes shape and parameters from the checkpoint")
    weights, config = load(arguments.pretrained, download=arguments.download)
    if arguments.labels:
        arguments.labels.write_text("".join(f"{config.id2label[at]}\n" for at in range(config.num_labels)))
    return export(weights, config, name=arguments.model, opset=arguments.opset)


if __name__ == "__main__":
    sys.exit(main())
