"""What a user may ask of quantization, as frozen records; the configuration's keys have the same names.

Made by the build configuration or by hand, read by every stage of ``quantize``. Defaults are those a user gets who asks
for nothing. No defaults live anywhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

CALIBRATION_METHODS = ("MinMax", "Percentile", "MSE", "KL")
"""Observers of activations; weights always take their extremes, per output channel and symmetric."""

DATA_TYPES = ("U8", "S8", "U16", "S16", "FP32")
"""What a layer's activations may be; FP32 leaves the layer to the CPU."""

WEIGHT_DATA_TYPES = ("S8", "S16")

ANALYSIS_METHODS = ("PerLayer", "EndToEnd")

Feeds = Mapping[str, np.ndarray[Any, Any]]
"""One call's inputs by name, as the float model takes them."""


class Samples(Protocol):
    """Calibration data: it can be gone through any number of times, and holds one call's inputs in memory at a time."""

    def __len__(self) -> int:
        """How many calls."""
        ...

    def __iter__(self) -> Iterator[Feeds]:
        """The calls' inputs, from the first, in the same order every time."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerConfig:
    """Another type for some layers: those of the names, those of the operators, or those between tensors.

    Exactly one of the three ways to select is used.

    Attributes:
        layer_names: names of ONNX nodes of the float model.
        op_types: ONNX operators.
        start_tensor_names: where the selected part of the graph begins.
        end_tensor_names: where it ends.
        data_type: one of ``DATA_TYPES``.
        weight_data_type: one of ``WEIGHT_DATA_TYPES``; "" leaves it to the activations' type.
    """

    layer_names: tuple[str, ...] = ()
    op_types: tuple[str, ...] = ()
    start_tensor_names: tuple[str, ...] = ()
    end_tensor_names: tuple[str, ...] = ()
    data_type: str = "U8"
    weight_data_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantSettings:
    """How to quantize.

    Attributes:
        calibration_method: one of ``CALIBRATION_METHODS``.
        layer_configs: exceptions, the last one that selects a layer wins.
        highest_mix_precision: all layers with 16-bit activations that have integer operations for them.
        enable_fusion: join operators of the float graph first: batch normalization, layer normalization, GELU, factors.
        enable_smooth_quant: move outliers of activations into the following weights (SmoothQuant, arXiv 2211.10438).
        smooth_quant_threshold: smallest share of the gain at which a layer is smoothed, 0..1.
        smooth_quant_strength: exponent of the activations' range, 0..1.
        transformer_opt_level: 0, 1 or 2; from 1 on operands of products between activations are symmetric where that
            is no worse, and 2 smooths as well.
        enable_bias_correction: take the mean error of each product out of its bias.
        enable_equalization: cross-layer equalization of convolutions (arXiv 1906.04721).
        precision_analysis: compare the quantized model with the float one, layer by layer.
        precision_analysis_method: one of ``ANALYSIS_METHODS``: each layer fed with float values, or all in one run.
        auto_mix_precision: the target of automatic mixed precision, ``cosine:0.999`` or ``snr:30`` (dB); "" for none.
    """

    calibration_method: str = "MinMax"
    layer_configs: tuple[LayerConfig, ...] = ()
    highest_mix_precision: bool = False
    enable_fusion: bool = True
    enable_smooth_quant: bool = False
    smooth_quant_threshold: float = 0.2
    smooth_quant_strength: float = 0.6
    transformer_opt_level: int = 0
    enable_bias_correction: bool = False
    enable_equalization: bool = False
    precision_analysis: bool = False
    precision_analysis_method: str = "PerLayer"
    auto_mix_precision: str = ""


DEFAULT_SETTINGS = QuantSettings()
"""What a user gets who asks for nothing."""
