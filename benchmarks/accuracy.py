"""What INT8 costs in accuracy: ``python -m benchmarks.accuracy [--json F] [--part digits|stress|zoo]``.

The trained digits models over five folds, against onnxruntime's own static quantization; a stress set with outlier
channels; and the signal-to-noise ratio of whole networks with seeded weights. Writes the tables of docs/accuracy.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import models
from models.digits import build_digits, normalized
from models.quantize import images
from models.quantize import quantize as onnxruntime_quantize
from npusim.quant import quantize
from npusim.quant.precision import compare_outputs, decibels
from npusim.quant.runtime import Runner
from npusim.quant.settings import CALIBRATION_METHODS, Feeds, QuantSettings

Array = np.ndarray[Any, Any]
Weights = dict[str, Array]

TRAINED = Path(models.__file__).parent / "trained"
FOLDS = 5
CALIBRATION = 32
SIMULATED = 8  # images of each model that the simulated session answers as well
LARGEST = 100.0  # factor of an outlier channel
OUTLIERS = 4  # one channel in so many
MIX_TARGET = "snr:20"
ZOO = ("swin_t", "deit_t", "resnet50", "mobilenet_v2")
ZOO_IMAGES = 4
ZOO_METHODS = ("MinMax", "MSE")
PARTS = ("digits", "stress", "zoo")


@dataclass(frozen=True)
class Calibration:
    """Inputs of a model, one call each."""

    feeds: tuple[Feeds, ...]

    def __len__(self) -> int:
        return len(self.feeds)

    def __iter__(self) -> Iterator[Feeds]:
        return iter(self.feeds)


@dataclass(frozen=True)
class Fold:
    """One training of a model, and the images it never saw.

    Attributes:
        weights: float32 by parameter name.
        calibration: some of the images it learned from.
        images: held out, uint8.
        labels: their digits.
    """

    weights: Weights
    calibration: Calibration
    images: Array
    labels: Array


def folds(name: str) -> Iterator[Fold]:
    with np.load(TRAINED / "folds.npz") as data:
        pixels, labels, held_out = data["images"], data["labels"], data["held_out"]
    with np.load(TRAINED / f"{name}_folds.npz") as data:
        stored = {key: data[key].astype(np.float32) for key in data.files}
    for fold in range(FOLDS):
        seen = np.flatnonzero(held_out != fold)
        chosen = np.random.default_rng(fold).choice(seen, CALIBRATION, replace=False)
        prefix = f"{fold}/"
        yield Fold(
            weights={key[len(prefix) :]: value for key, value in stored.items() if key.startswith(prefix)},
            calibration=Calibration(tuple({"image": normalized(pixels[index][None])} for index in chosen)),
            images=pixels[held_out == fold],
            labels=labels[held_out == fold],
        )


def logits(model: onnx.ModelProto, fold: Fold) -> Array:
    """What a model says of every held-out image."""
    runner = Runner(model, ["logits"])
    return np.concatenate([runner.run({"image": normalized(image[None])})["logits"] for image in fold.images])


def simulated_differs(model: onnx.ModelProto, fold: Fold) -> int:
    """How many of the first images give a logit in the simulated machine that onnxruntime does not compute."""
    import npusim

    session, runner = npusim.build(model).session(), Runner(model, ["logits"])
    feeds = [{"image": normalized(image[None])} for image in fold.images[:SIMULATED]]
    return sum(not np.array_equal(session.run(None, item)[0], runner.run(item)["logits"]) for item in feeds)


def digits() -> list[dict[str, Any]]:
    rows = []
    for name in ("digits_cnn", "digits_swin"):
        columns: Columns = {}
        different = 0
        for fold in folds(name):
            model = build_digits(name, dict(fold.weights))
            wanted = _enter(columns, "float", model, fold)
            for method in CALIBRATION_METHODS:
                quantized = quantize(model, fold.calibration, QuantSettings(calibration_method=method)).model
                _enter(columns, method, quantized, fold, wanted)
                if method == CALIBRATION_METHODS[0]:
                    different += simulated_differs(quantized, fold)
            theirs = onnxruntime_quantize(model, calibration=[feeds["image"] for feeds in fold.calibration])
            _enter(columns, "onnxruntime", theirs, fold, wanted)
        rows += [{"model": name, "quantized": kind} | _summary(columns, kind) for kind in columns]
        rows[-len(columns)]["simulated_differs"] = different
    _print_accuracy(rows)
    wrong = sum(row.get("simulated_differs", 0) for row in rows)
    print(f"\nsimulated machine: {wrong} of {2 * FOLDS * SIMULATED} images with another logit than in onnxruntime\n")
    return rows


def stress() -> list[dict[str, Any]]:
    columns: Columns = {}
    promoted = []
    for index, fold in enumerate(folds("digits_swin")):
        model = build_digits("digits_swin", stressed(fold.weights, index))
        wanted = _enter(columns, "float", model, fold)
        settings = {
            "MinMax": QuantSettings(),
            "SmoothQuant": QuantSettings(enable_smooth_quant=True),
            f"mixed {MIX_TARGET}": QuantSettings(auto_mix_precision=MIX_TARGET),
        }
        for kind, asked in settings.items():
            quantized = quantize(model, fold.calibration, asked)
            _enter(columns, kind, quantized.model, fold, wanted)
            if quantized.mixed is not None:
                promoted.append(len(quantized.mixed.layers))
        theirs = onnxruntime_quantize(model, calibration=[feeds["image"] for feeds in fold.calibration])
        _enter(columns, "onnxruntime", theirs, fold, wanted)
    rows = [{"model": "digits_swin, outliers", "quantized": kind} | _summary(columns, kind) for kind in columns]
    _print_accuracy(rows)
    print(f"\nlayers promoted to 16 bits: {', '.join(map(str, promoted))}\n")
    return rows


def stressed(weights: Weights, seed: int) -> Weights:
    """The same function with outlier channels: norms grow, and the layers behind them shrink, by the same factors."""
    rng = np.random.default_rng(seed)
    changed = dict(weights)
    for name in weights:
        norm, _, kind = name.rpartition(".")
        follower = _FOLLOWERS.get(norm.rpartition(".")[2])
        if kind != "weight" or follower is None or norm == "patch_embed.norm":
            continue
        channels = weights[name].size
        factors = np.where(rng.permutation(channels) < channels // OUTLIERS, LARGEST, 1.0).astype(np.float32)
        behind = f"{norm.rpartition('.')[0]}.{follower}" if "." in norm else "head.weight"
        for gain in (f"{norm}.weight", f"{norm}.bias"):
            changed[gain] = weights[gain] * factors
        changed[behind] = weights[behind] / factors
    return changed


_FOLLOWERS = {"norm1": "attn.qkv.weight", "norm2": "mlp.fc1.weight", "norm": "reduction.weight"}


def zoo() -> list[dict[str, Any]]:
    rows = []
    kinds = (*ZOO_METHODS, "onnxruntime")
    print(f"| model | {' | '.join(f'{kind}, SNR dB' for kind in kinds)} |")
    print(f"| --- {'| --- ' * len(kinds)}|")
    for name in ZOO:
        model = models.build(name)
        (value,) = model.graph.input
        shape = tuple(extent.dim_value for extent in value.type.tensor_type.shape.dim)
        calibration = Calibration(tuple({value.name: image} for image in images(shape, seed=0, count=2 * ZOO_IMAGES)))
        unseen = Calibration(tuple({value.name: image} for image in images(shape, seed=1, count=ZOO_IMAGES)))
        made = {}
        for method in ZOO_METHODS:
            made[method] = quantize(model, calibration, QuantSettings(calibration_method=method)).model
        made["onnxruntime"] = onnxruntime_quantize(model, calibration=[feeds[value.name] for feeds in calibration])
        found = {kind: compare_outputs(model, item, unseen)[0].snr_db for kind, item in made.items()}
        rows.append({"model": name, "snr_db": found})
        print(f"| {name} | {' | '.join(f'{found[kind]:.2f}' for kind in kinds)} |", flush=True)
    return rows


@dataclass(frozen=True)
class Result:
    """One model on the held-out images of one fold.

    Attributes:
        accuracy: per cent of the images that are known.
        changed: how many answers are others than the float model's, right or wrong.
        snr_db: of the logits against the float model's; infinite for the float model itself.
    """

    accuracy: float
    changed: int
    snr_db: float


Columns = dict[str, list[Result]]


def _enter(columns: Columns, kind: str, model: onnx.ModelProto, fold: Fold, wanted: Array | None = None) -> Array:
    """Put a model's result into its column; its logits."""
    found = logits(model, fold)
    expected = found if wanted is None else wanted
    columns.setdefault(kind, []).append(
        Result(
            accuracy=100.0 * float(np.mean(found.argmax(axis=1) == fold.labels)),
            changed=int(np.sum(found.argmax(axis=1) != expected.argmax(axis=1))),
            snr_db=decibels(float(np.sum(expected**2)), float(np.sum((found - expected) ** 2))),
        )
    )
    return found


def _summary(columns: Columns, kind: str) -> dict[str, Any]:
    """Mean accuracy, mean drop against float and its standard error over the folds."""
    results = columns[kind]
    drops = [before.accuracy - after.accuracy for before, after in zip(columns["float"], results, strict=True)]
    return {
        "accuracy": statistics.mean(result.accuracy for result in results),
        "drop": statistics.mean(drops),
        "standard_error": statistics.stdev(drops) / FOLDS**0.5,
        "changed": sum(result.changed for result in results),
        "snr_db": None if kind == "float" else statistics.mean(result.snr_db for result in results),
        "folds": [result.accuracy for result in results],
    }


def _print_accuracy(rows: Sequence[dict[str, Any]]) -> None:
    print("| model | quantized | accuracy % | drop, points | standard error | answers changed | logits' SNR, dB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        ratio = "" if row["snr_db"] is None else f"{row['snr_db']:.1f}"
        cells = f"{row['accuracy']:.2f} | {row['drop']:.2f} | {row['standard_error']:.2f} | {row['changed']} | {ratio}"
        print(f"| {row['model']} | {row['quantized']} | {cells} |", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--part", choices=PARTS, help="one part only")
    arguments = parser.parse_args(argv)
    parts = {"digits": digits, "stress": stress, "zoo": zoo}
    found = {name: part() for name, part in parts.items() if arguments.part in (None, name)}
    if arguments.json:
        rows = [{"part": name, **row} for name, part in found.items() for row in part]
        Path(arguments.json).write_text(json.dumps({"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
