"""Classification end to end: an image file, prepared as the model says, and the classes with the highest scores.

Used by ``npusim classify`` and by people's scripts. Names of classes live in ``labels``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from npusim.axmodel import Port
from npusim.errors import UsageError
from npusim.quant.dataset import Preparation
from npusim.session.call import numpy_type
from npusim.session.preprocessing import stored_preparation

if TYPE_CHECKING:
    from npusim.session.inference import InferenceSession

TOP = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One class of an image.

    Attributes:
        score: the model's output, as a real number.
        index: of the class.
        label: its name; "" where none is known.
    """

    score: float
    index: int
    label: str = ""

    def __str__(self) -> str:
        return f"{self.score:.4f}, {self.index} {self.label}".rstrip()


def classify(session: InferenceSession, image: bytes, name: str = "") -> np.ndarray[Any, Any]:
    """The scores of an image's classes, float64.

    Args:
        session: of a model with one input, which takes an image.
        image: content of an image file.
        name: of the file, for messages.

    Raises:
        UsageError: the model takes no image, or does not say how one becomes its input.
        DatasetError: no image.
    """
    port = _image_port(session)
    prepared = preparation_of(session).apply(image, name)
    outputs = session.run(None, {port.name: _quantized(prepared, port)})
    return _real(outputs[0], session.model.outputs[0]).ravel()


def top(scores: np.ndarray[Any, Any], labels: Sequence[str] = (), count: int = TOP) -> tuple[Score, ...]:
    """The highest scores, the highest first; equal ones by index.

    >>> [str(score) for score in top(np.array([0.5, 2, 0.5]), ["a", "b", "c"], 2)]
    ['2.0000, 1 b', '0.5000, 0 a']
    """
    order = np.argsort(-scores, kind="stable")[:count]
    return tuple(
        Score(score=float(scores[index]), index=int(index), label=labels[index] if len(labels) else "")
        for index in order
    )


def preparation_of(session: InferenceSession) -> Preparation:
    """How an image becomes the model's input.

    Raises:
        UsageError: the model does not say.
    """
    port = _image_port(session)
    found = stored_preparation(session.model.config, port.name)
    if found is None:
        raise UsageError(
            f"{session.model.name} does not say how an image becomes {port}: build it with "
            "quant.input_configs (calibration_mean, calibration_std)"
        )
    return found


def _image_port(session: InferenceSession) -> Port:
    ports = session.model.inputs
    if len(ports) != 1:
        raise UsageError(f"{session.model.name} has {len(ports)} inputs; classification takes models with one")
    return ports[0]


def _quantized(prepared: np.ndarray[Any, Any], port: Port) -> np.ndarray[Any, Any]:
    """What the input takes: the same, or integers where the model begins with them."""
    dtype = numpy_type(port)
    if prepared.dtype == dtype or port.scale is None:
        return prepared
    info = np.iinfo(dtype)
    steps = np.rint(prepared / np.float32(port.scale)) + (port.zero_point or 0)
    return np.clip(steps, info.min, info.max).astype(dtype)


def _real(output: np.ndarray[Any, Any], port: Port) -> np.ndarray[Any, Any]:
    real = output.astype(np.float64)
    return real if port.scale is None or output.dtype.kind == "f" else (real - (port.zero_point or 0)) * port.scale
