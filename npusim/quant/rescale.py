"""Factors that even out the channels of an activation, moved into weights: the work behind ``smooth`` and ``equalize``.

A span's activations are divided by a factor per channel and the weights that read them multiplied by it, so that the
float model stays what it is. Whether that helps is predicted from the rounding noise of activations and weights;
policies live in the two callers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from npusim.graph.ir import Array

from .calibrate import Progress
from .channels import Span, Weight
from .editor import Editor
from .runtime import Runner
from .settings import Samples

ACTIVATION_STEPS = 255
WEIGHT_STEPS = 127
LARGEST_SPREAD = 1e4
"""Ratio of the largest factor of a span to the smallest; channels that hardly move are not blown up without end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescaled:
    """What happened to one span.

    Attributes:
        tensor: whose channels were divided.
        nodes: readers whose weights were multiplied.
        gain: share of the predicted rounding noise that is gone, 0..1.
        largest: the largest factor over the smallest.
    """

    tensor: str
    nodes: tuple[str, ...]
    gain: float
    largest: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Statistics:
    """Of the channels of a tensor over all samples; each ``[channels]``, float64.

    Attributes:
        low: smallest values, at most 0.
        high: largest values, at least 0.
        power: mean of squares.
    """

    low: Array
    high: Array
    power: Array

    @property
    def largest(self) -> Array:
        """Largest magnitudes."""
        return np.maximum(-self.low, self.high)


def rescale(
    editor: Editor,
    model: onnx.ModelProto,
    spans: Sequence[Span],
    samples: Samples,
    *,
    strength: float,
    threshold: float,
    progress: Progress | None = None,
) -> list[Rescaled]:
    """Even out the spans' channels where that is predicted to pay.

    The factor of channel j is ``max|X_j|^strength / max|W_j|^(1 - strength)`` (arXiv 2211.10438, equation 4; with one
    half it is the equalization of arXiv 1906.04721), W_j being all weights that meet it. A depthwise kernel has a scale
    of its own in any case, so its weights ask for nothing.

    Args:
        editor: of the float graph; it is given the new constants.
        model: the same graph as onnxruntime takes it.
        spans: of the graph.
        samples: what the activations' statistics are taken from.
        strength: exponent of the activations, 0..1.
        threshold: smallest gain (see ``noise``) at which a span is rescaled, 0..1.
        progress: told about every sample.
    """
    done = []
    for span, statistics in zip(spans, measure(model, spans, samples, progress), strict=True):
        factors = _factors(span, editor, statistics, strength)
        before = noise(span, editor, statistics, np.ones(span.channels))
        gain = 1.0 - noise(span, editor, statistics, factors) / before if before else 0.0
        if gain <= threshold:
            continue
        _apply(span, editor, factors)
        done.append(
            Rescaled(
                tensor=span.tensor,
                nodes=tuple(weight.node.name for weight in span.readers),
                gain=float(gain),
                largest=float(factors.max() / factors.min()),
            )
        )
    return done


def measure(
    model: onnx.ModelProto, spans: Sequence[Span], samples: Samples, progress: Progress | None = None
) -> list[Statistics]:
    """Statistics of the spans' tensors over all samples."""
    low = [np.zeros(span.channels) for span in spans]
    high = [np.zeros(span.channels) for span in spans]
    power = [np.zeros(span.channels) for span in spans]
    runner = Runner(model, [span.tensor for span in spans])
    for sample, feeds in enumerate(samples):
        values = runner.run(feeds, sample)
        for index, span in enumerate(spans):
            rows = np.moveaxis(values[span.tensor], span.axis, 0).reshape(span.channels, -1)
            np.minimum(low[index], rows.min(axis=1), out=low[index])
            np.maximum(high[index], rows.max(axis=1), out=high[index])
            power[index] += np.square(rows, dtype=np.float64).mean(axis=1) / len(samples)
        if progress is not None:
            progress((sample + 1) / len(samples))
    return [Statistics(low=one, high=two, power=three) for one, two, three in zip(low, high, power, strict=True)]


def noise(span: Span, editor: Editor, statistics: Statistics, factors: Array) -> float:
    """Predicted rounding noise of the products behind a span over their signal, both as power, summed over products.

    Rounding to steps of d adds d^2 / 12. Activations have one step for the tensor, its range over 255; weights have one
    for each output channel, its largest magnitude over 127. Channels count as uncorrelated. The signal does not depend
    on the factors.
    """
    step = (np.max(statistics.high / factors) - np.min(statistics.low / factors)) / ACTIVATION_STEPS
    power = statistics.power / factors**2
    total = 0.0
    for weight in span.readers:
        matrix = _matrix(editor, weight) * factors[:, None]
        energy = np.square(matrix).sum(axis=1)
        signal = float(power @ energy)
        if not signal:
            continue
        if weight.depthwise:
            steps = np.abs(matrix).max(axis=1) / WEIGHT_STEPS
            rounding = float(np.square(steps) @ power) * matrix.shape[1]
        else:
            kernel = matrix.shape[1] // _outputs(editor, weight)
            steps = np.abs(matrix).reshape(len(matrix), -1, kernel).max(axis=(0, 2)) / WEIGHT_STEPS
            rounding = float(np.square(steps).sum() * power.sum()) * kernel
        total += (step**2 * float(energy.sum()) + rounding) / 12.0 / signal
    return total


def _factors(span: Span, editor: Editor, statistics: Statistics, strength: float) -> Array:
    dense = [np.abs(_matrix(editor, weight)).max(axis=1) for weight in span.readers if not weight.depthwise]
    activations = statistics.largest
    weights = np.max(dense, axis=0) if dense else np.ones(span.channels)
    if not dense:
        strength = 1.0
    alive = (activations > 0) & (weights > 0)
    factors = np.ones(span.channels)
    factors[alive] = activations[alive] ** strength / weights[alive] ** (1.0 - strength)
    if alive.any():
        factors[~alive] = np.exp(np.log(factors[alive]).mean())
        factors = np.maximum(factors, factors.max() / LARGEST_SPREAD)
    return factors


def _matrix(editor: Editor, weight: Weight) -> Array:
    """A weight as ``[channels, outputs * kernel]``, float64."""
    values = editor.constants[weight.name].astype(np.float64)
    rows = np.moveaxis(values, weight.axis, 0)
    return rows.reshape(len(rows), -1)


def _outputs(editor: Editor, weight: Weight) -> int:
    """Output channels of a product or a convolution."""
    shape = editor.constants[weight.name].shape
    return shape[0] if weight.node.op == "Conv" else shape[1 - weight.axis]


def _apply(span: Span, editor: Editor, factors: Array) -> None:
    for weight in (*span.sources, *span.readers):
        node = editor.current(weight.node)
        assert node is not None
        values = editor.constants[node.inputs[weight.index]]
        shaped = weight.shaped(factors, values.ndim)
        scaled = values * shaped if weight in span.readers else values / shaped
        name = editor.constant(f"{weight.name}:rescaled", scaled.astype(values.dtype))
        inputs = (*node.inputs[: weight.index], name, *node.inputs[weight.index + 1 :])
        editor.put(replace(node, inputs=inputs))
