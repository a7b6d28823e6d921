"""Float models and calibration samples for the tests of quantization; how far a quantized model is from its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from models.quantize import images
from npusim.quant.runtime import Runner

TRAINED = Path(__file__).parents[2] / "models" / "trained"

Feeds = Mapping[str, np.ndarray[Any, Any]]


@dataclass
class SeededImages:
    """Seeded images for a model of one input."""

    model: onnx.ModelProto
    count: int = 4
    seed: int = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Feeds]:
        (value,) = self.model.graph.input
        shape = tuple(extent.dim_value for extent in value.type.tensor_type.shape.dim)
        for image in images(shape, seed=self.seed, count=self.count):
            yield {value.name: image}


class DigitImages:
    """The calibration images of the digits models."""

    def __init__(self, count: int = 32) -> None:
        from models.digits import normalized

        with np.load(TRAINED / "digits.npz") as data:
            self.images = [normalized(image[None]) for image in data["calibration_images"][:count]]

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Feeds]:
        for image in self.images:
            yield {"image": image}


def signal_to_noise(float_model: onnx.ModelProto, quantized: onnx.ModelProto, samples: Any) -> float:
    """Decibels, over all outputs and samples; the quantized model computes in float32 between its roundings.

    That is the file's own meaning: onnxruntime's integer kernels saturate on processors without VNNI.
    """
    names = [value.name for value in float_model.graph.output]
    exact, rounded = Runner(float_model, names), Runner(quantized, names, plain=True)
    signal = noise = 0.0
    for feeds in samples:
        for expected, found in zip(exact.run(feeds).values(), rounded.run(feeds).values(), strict=True):
            signal += float(np.sum(np.square(expected, dtype=np.float64)))
            noise += float(np.sum(np.square(np.float64(expected) - found)))
    return float(10 * np.log10(signal / noise))
