"""Automatic mixed precision: the most sensitive layers get 16-bit activations until the outputs are good enough.

Run by ``quantize`` for ``auto_mix_precision``. It asks its caller for a quantized model per choice of layers, and
through a callback for cycles; how either comes about is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx

from npusim.errors import UsageError, did_you_mean

from .calibrate import Progress
from .errors import QuantizationError
from .precision import Precision, analyze, compare_outputs
from .settings import LayerConfig, Samples

METRICS = ("cosine", "snr")

CyclesOf = Callable[[onnx.ModelProto], int]
"""Cycles of one call of a quantized model, alone on the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the outputs have to reach over the calibration samples; the worst output counts.

    Attributes:
        metric: one of ``METRICS``.
        value: smallest cosine, or smallest SNR in dB.
    """

    metric: str
    value: float

    def of(self, outputs: Sequence[Precision]) -> float:
        """The metric's value for some outputs."""
        return min(output.cosine if self.metric == "cosine" else output.snr_db for output in outputs)

    def __str__(self) -> str:
        return f"{self.metric}:{self.value:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """What a search for layers found.

    Attributes:
        target: what was asked for.
        layers: names of the layers that got 16 bits, the most sensitive first.
        weight_data_type: of their constant weights.
        before: the metric with no layer promoted.
        after: with these.
        cycles_before: of one call with no layer promoted; None where nobody could say.
        cycles_after: of one call with these.
    """

    target: Target
    layers: tuple[str, ...]
    weight_data_type: str
    before: float
    after: float
    cycles_before: int | None = None
    cycles_after: int | None = None

    @property
    def layer_configs(self) -> tuple[LayerConfig, ...]:
        """The promotion as entries of ``layer_configs``."""
        return promotion(self.layers, self.weight_data_type)


def parse_target(text: str) -> Target:
    """A target as it is written in a configuration.

    Raises:
        UsageError: it is neither ``cosine:0.999`` nor ``snr:30``, or cannot be reached by any model.

    >>> parse_target("snr:30")
    Target(metric='snr', value=30.0)
    """
    metric, colon, number = text.partition(":")
    form = f"auto_mix_precision is written cosine:0.999 or snr:30 (dB), not {text!r}"
    if not colon or metric not in METRICS:
        raise UsageError(form, did_you_mean(metric, METRICS))
    try:
        value = float(number)
    except ValueError as error:
        raise UsageError(form) from error
    if not (0.0 < value < 1.0 if metric == "cosine" else 0.0 < value < 100.0):
        allowed = "between 0 and 1" if metric == "cosine" else "between 0 and 100 dB"
        raise UsageError(f"auto_mix_precision {text!r}: the target lies {allowed}")
    return Target(metric=metric, value=value)


def promotion(layers: Sequence[str], weight_data_type: str) -> tuple[LayerConfig, ...]:
    """Entries of ``layer_configs`` that give layers 16-bit activations."""
    if not layers:
        return ()
    return (LayerConfig(layer_names=tuple(layers), data_type="U16", weight_data_type=weight_data_type),)


def mix_precision(
    target: Target,
    float_model: onnx.ModelProto,
    samples: Samples,
    quantized_with: Callable[[tuple[LayerConfig, ...]], onnx.ModelProto],
    *,
    cycles_of: CyclesOf | None = None,
    progress: Progress | None = None,
) -> Mixed:
    """Find few layers whose promotion to 16 bits meets a target.

    Layers are ranked once, by the signal-to-noise ratio that each has on its own (``precision.analyze``, PerLayer).
    The worst one, two, four, ... are promoted until the target is met, and halving the last interval finds the smallest
    such number. Weights stay at 8 bits unless all layers together miss the target with that.

    Args:
        target: of the outputs.
        float_model: what was quantized.
        samples: what the outputs are compared on.
        quantized_with: the quantized model with some more ``layer_configs``.
        cycles_of: what the promotion costs is asked for here.
        progress: told the share that is done, 0..1.

    Raises:
        QuantizationError: even 16 bits everywhere miss the target.
    """
    search = _Search(target, float_model, samples, quantized_with, progress)
    layers: tuple[str, ...] = ()
    weights, before = "S8", search.reached((), "S8")
    if before < target.value:
        ranked = _ranked(float_model, quantized_with(()), samples)
        search.steps = 2 * len(ranked).bit_length() + 2
        weights = _weights(search, ranked)
        layers = ranked[: _fewest(search, ranked, weights)]
    after = search.reached(layers, weights)
    costs: list[int | None] = [None, None]
    if cycles_of is not None:
        costs = [cycles_of(quantized_with(promotion(names, weights))) for names in ((), layers)]
    if progress is not None:
        progress(1.0)
    return Mixed(
        target=target,
        layers=layers,
        weight_data_type=weights,
        before=before,
        after=after,
        cycles_before=costs[0],
        cycles_after=costs[1],
    )


class _Search:
    """Tries promotions, each of them once.

    Attributes:
        target: of the outputs.
        steps: about how many tries there will be.
    """

    def __init__(
        self,
        target: Target,
        float_model: onnx.ModelProto,
        samples: Samples,
        quantized_with: Callable[[tuple[LayerConfig, ...]], onnx.ModelProto],
        progress: Progress | None,
    ) -> None:
        self.target = target
        self.steps = 1
        self._float_model = float_model
        self._samples = samples
        self._quantized_with = quantized_with
        self._progress = progress
        self._known: dict[tuple[int, str], float] = {}

    def reached(self, layers: tuple[str, ...], weight_data_type: str) -> float:
        """The metric where these layers, the first of the ranking, have 16 bits."""
        key = len(layers), weight_data_type
        if key not in self._known:
            model = self._quantized_with(promotion(layers, weight_data_type))
            self._known[key] = self.target.of(compare_outputs(self._float_model, model, self._samples))
            if self._progress is not None:
                self._progress(min(len(self._known) / (self.steps + 1), 1.0))
        return self._known[key]

    def meets(self, layers: tuple[str, ...], weight_data_type: str) -> bool:
        """Whether the target is met then."""
        return self.reached(layers, weight_data_type) >= self.target.value


def _ranked(float_model: onnx.ModelProto, quantized: onnx.ModelProto, samples: Samples) -> tuple[str, ...]:
    """Layers with 8-bit results, the most sensitive first."""
    layers = analyze(float_model, quantized, samples, "PerLayer").layers
    narrow = [layer for layer in layers if layer.op != "input" and layer.dtype in ("u8", "s8")]
    return tuple(layer.layer for layer in sorted(narrow, key=lambda layer: layer.snr_db))


def _weights(search: _Search, ranked: tuple[str, ...]) -> str:
    """The narrowest type of weights with which all layers together meet the target."""
    for weight_data_type in ("S8", "S16"):
        if search.meets(ranked, weight_data_type):
            return weight_data_type
    best = search.reached(ranked, "S16")
    raise QuantizationError(
        f"auto_mix_precision {search.target} cannot be met: with 16 bits in all {len(ranked)} layers the outputs reach "
        f"{search.target.metric} {best:.5g}; ask for less, or keep layers in FP32 (layer_configs)"
    )


def _fewest(search: _Search, ranked: tuple[str, ...], weight_data_type: str) -> int:
    """The smallest number of leading layers that meets the target, found by doubling and halving."""
    misses, meets = 0, len(ranked)
    count = 1
    while count < meets:
        if search.meets(ranked[:count], weight_data_type):
            meets = count
            break
        misses, count = count, 2 * count
    while meets - misses > 1:
        middle = (misses + meets) // 2
        if search.meets(ranked[:middle], weight_data_type):
            meets = middle
        else:
            misses = middle
    return meets
