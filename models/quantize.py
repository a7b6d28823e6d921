"""INT8 through onnxruntime's own static quantizer, so that a test needs no quantizer of ours to have a quantized model.

Used by the command and by tests. The choices: activations U8, asymmetric, one scale a tensor, ranges from the minima
and maxima over the calibration images; weights S8, symmetric, one scale an output channel; every operator the quantizer
knows is quantized. Probabilities (the output of Softmax) get scale 1/256, because onnxruntime's integer kernel
multiplies by the truncated reciprocal, which is exact only there.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from .errors import ModelError, nearest

FORMATS = {"u8s8": "QDQ", "u8s8-qoperator": "QOperator"}  # names of onnxruntime's QuantFormat
CALIBRATION_IMAGES = 8  # enough for the range of seeded weights, whose activations are much alike for every image


def images(shape: tuple[int, ...], *, seed: int, count: int) -> Iterator[npt.NDArray[np.float32]]:
    """Seeded random inputs that resemble normalized photographs: zero mean, unit variance, large shapes over detail.

    Octaves of noise are added up, each of twice the variance of the next finer one, so that neighbouring pixels are
    correlated by 0.97 as in photographs; channels are correlated, as colours are. Inputs that are no images are
    independent normal values.

    Args:
        shape: of one input, batch included.
        seed: of the first image; equal seeds give equal images.
        count: how many.
    """
    for index in range(count):
        stream = np.random.Generator(np.random.PCG64([seed, index]))
        field = stream.standard_normal(shape, dtype=np.float32)
        if len(shape) == 4:
            field = _octaves(stream, shape)
        yield field


def require_format(name: str) -> None:
    """Refuse what is no name of a format.

    Raises:
        ModelError: it is none of ``FORMATS``.
    """
    if name not in FORMATS:
        hint = nearest(name, FORMATS) or f"; known are {', '.join(FORMATS)}"
        raise ModelError(f"no quantized format is called {name!r}{hint}")


def quantize(
    model: onnx.ModelProto,
    format_: str = "u8s8",
    *,
    seed: int = 0,
    calibration: Iterable[npt.NDArray[np.float32]] | None = None,
) -> onnx.ModelProto:
    """A quantized copy of a float model.

    Args:
        model: with float32 inputs of static shape.
        format_: one of ``FORMATS``.
        seed: of the calibration images.
        calibration: inputs to use instead of ``images``, one batch each.

    Raises:
        ModelError: the format is unknown, or onnxruntime is not installed.
    """
    require_format(format_)
    try:
        from onnxruntime import quantization
    except ImportError as error:
        raise ModelError("--quantize needs onnxruntime, which is not installed") from error

    value = model.graph.input[0]
    if calibration is None:
        shape = tuple(dimension.dim_value for dimension in value.type.tensor_type.shape.dim)
        calibration = images(shape, seed=seed, count=CALIBRATION_IMAGES)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "quantized.onnx"
        quantization.quantize_static(
            # the quantizer changes the model it is given
            onnx.ModelProto.FromString(model.SerializeToString()),
            path,
            _Calibration(value.name, calibration),
            quant_format=quantization.QuantFormat[FORMATS[format_]],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            extra_options={"TensorQuantOverrides": _probabilities(model)},
        )
        quantized = onnx.load(path)
    return _renamed(quantized, model)


class _Calibration:
    """The images, one by one: what ``quantize_static`` expects of a CalibrationDataReader."""

    def __init__(self, name: str, batches: Iterable[npt.NDArray[np.float32]]) -> None:
        self._batches = ({name: batch} for batch in batches)

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        return next(self._batches, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantizer's advice off the terminal: our graphs need no pre-processing, a vector has no channel axis."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _octaves(stream: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    batch, channels, height, width = shape
    field = np.zeros(shape, dtype=np.float32)
    cell = 1
    while cell < max(height, width):
        coarse = (batch, channels + 1, -(-height // cell), -(-width // cell))
        noise = stream.standard_normal(coarse, dtype=np.float32)
        colours = 0.4 * noise[:, :channels] + 0.9 * noise[:, channels:]  # brightness varies more than hue
        field += np.float32(cell**0.5) * colours.repeat(cell, axis=2).repeat(cell, axis=3)[:, :, :height, :width]
        cell *= 2
    return (field - field.mean()) / field.std()


def _probabilities(model: onnx.ModelProto) -> dict[str, list[dict[str, Any]]]:
    """Fixed quantization parameters of every Softmax's output."""
    fixed = {"scale": np.array(1 / 256, dtype=np.float32), "zero_point": np.array(0, dtype=np.uint8)}
    return {node.output[0]: [fixed] for node in model.graph.node if node.op_type == "Softmax"}


def _renamed(quantized: onnx.ModelProto, model: onnx.ModelProto) -> onnx.ModelProto:
    """The quantized model with the name and the metadata of the float one."""
    quantized.graph.name = model.graph.name
    del quantized.metadata_props[:]
    quantized.metadata_props.extend(model.metadata_props)
    return quantized
