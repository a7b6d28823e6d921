"""How far a quantized model is from its float one, layer by layer, over samples.

``analyze`` is what ``precision_analysis`` runs and what mixed precision ranks layers by. Tables and plots are made in
``precision_report``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx

from npusim.errors import UsageError, did_you_mean
from npusim.graph.ir import Array

from .calibrate import Progress
from .rounding import ALONE, FED, Rounded, find_rounded, single_layers, types_of
from .runtime import Runner
from .settings import ANALYSIS_METHODS, Samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """One tensor of the quantized model beside the float one's, over all samples.

    Attributes:
        layer: name of the node that computes it; the tensor's own, where it is an input or an output of the model.
        op: that node's operator, ``input`` or ``output``.
        tensor: its name in the float model.
        dtype: of its integers, such as ``u8``; ``f32`` where it is not rounded.
        cosine: of the angle between the two, -1..1.
        snr_db: power of the float tensor over that of the difference, in dB; infinite where there is none.
        max_error: largest difference, in the tensor's own unit.
        largest: largest magnitude in the float tensor.
    """

    layer: str
    op: str
    tensor: str
    dtype: str
    cosine: float
    snr_db: float
    max_error: float
    largest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """What an analysis found.

    Attributes:
        method: one of ``settings.ANALYSIS_METHODS``.
        samples: how many it looked at.
        layers: in the order of the graph.
        outputs: of the whole quantized model, running freely; empty where every layer was on its own.
    """

    method: str
    samples: int
    layers: tuple[Precision, ...]
    outputs: tuple[Precision, ...] = ()


class Comparison:
    """Sums over pairs of arrays from which cosine, noise and largest difference follow."""

    def __init__(self) -> None:
        self._product = self._wanted = self._found = self._difference = 0.0
        self._max_error = self._largest = 0.0

    def add(self, wanted: Array, found: Array) -> None:
        """Take one pair, equally shaped."""
        one, two = np.float64(wanted).reshape(-1), np.float64(found).reshape(-1)
        self._product += float(one @ two)
        self._wanted += float(one @ one)
        self._found += float(two @ two)
        self._largest = max(self._largest, float(np.max(np.abs(one), initial=0.0)))
        two -= one
        self._difference += float(two @ two)
        self._max_error = max(self._max_error, float(np.max(np.abs(two), initial=0.0)))

    def precision(self, *, layer: str, op: str, tensor: str, dtype: str) -> Precision:
        """What the sums say about a tensor."""
        lengths = math.sqrt(self._wanted * self._found)
        return Precision(
            layer=layer,
            op=op,
            tensor=tensor,
            dtype=dtype,
            cosine=min(self._product / lengths, 1.0) if lengths else float(self._wanted == self._found),
            snr_db=decibels(self._wanted, self._difference),
            max_error=self._max_error,
            largest=self._largest,
        )


def decibels(signal: float, noise: float) -> float:
    """A ratio of powers.

    >>> decibels(100.0, 1.0)
    20.0
    >>> decibels(1.0, 0.0)
    inf
    """
    if not noise:
        return math.inf
    return 10.0 * math.log10(signal / noise) if signal else -math.inf


def analyze(
    float_model: onnx.ModelProto,
    quantized: onnx.ModelProto,
    samples: Samples,
    method: str = "PerLayer",
    *,
    progress: Progress | None = None,
) -> Analysis:
    """Compare a quantized model with the float model it was made from.

    ``PerLayer`` gives every layer the float model's tensors, rounded as the quantized model rounds them, so that a
    figure holds what this layer alone adds: the rounding of its operands, weights and result. ``EndToEnd`` lets both
    run freely. One sample's tensors are in memory at a time.

    Args:
        float_model: as it was quantized.
        quantized: QDQ, with the float model's names.
        samples: inputs of both.
        method: one of ``ANALYSIS_METHODS``.
        progress: told about every sample.

    Raises:
        UsageError: there is no such method.
        QuantizationError: a sample does not fit the model.
    """
    check_method(method)
    types = types_of(float_model)
    rounded = find_rounded(quantized, types)
    alone = method == "PerLayer"
    outputs = [] if alone else [value.name for value in quantized.graph.output]
    fetched = {item.tensor: item.tensor + ALONE if alone and item.op != "input" else item.integers for item in rounded}
    model = single_layers(quantized, rounded, types) if alone else quantized
    reference = Runner(float_model, [*fetched, *outputs])
    runner = Runner(model, [*fetched.values(), *outputs])
    fed = [item.tensor for item in rounded if alone and item.op != "input"]
    layers = {item.tensor: Comparison() for item in rounded}
    ends = {name: Comparison() for name in outputs}
    for index, feeds in enumerate(samples):
        wanted = reference.run(feeds, index)
        found = runner.run({**feeds, **{name + FED: wanted[name] for name in fed}}, index)
        for item in rounded:
            layers[item.tensor].add(item.wanted(wanted[item.tensor]), item.real(found[fetched[item.tensor]]))
        for name, comparison in ends.items():
            comparison.add(wanted[name], found[name])
        if progress is not None:
            progress((index + 1) / max(len(samples), 1))
    return Analysis(
        method=method,
        samples=len(samples),
        layers=tuple(_of_layer(item, layers[item.tensor]) for item in rounded),
        outputs=tuple(_of_output(name, ends[name]) for name in outputs),
    )


def check_method(method: str) -> None:
    """Refuse what is no method of analysis.

    Raises:
        UsageError: it is none of ``ANALYSIS_METHODS``.
    """
    if method not in ANALYSIS_METHODS:
        known = ", ".join(ANALYSIS_METHODS)
        raise UsageError(
            f"precision_analysis_method is one of {known}, not {method!r}", did_you_mean(method, ANALYSIS_METHODS)
        )


def compare_outputs(
    float_model: onnx.ModelProto, quantized: onnx.ModelProto, samples: Samples
) -> tuple[Precision, ...]:
    """The outputs of both models, running freely."""
    names = [value.name for value in quantized.graph.output]
    reference, runner = Runner(float_model, names), Runner(quantized, names)
    ends = {name: Comparison() for name in names}
    for index, feeds in enumerate(samples):
        wanted, found = reference.run(feeds, index), runner.run(feeds, index)
        for name in names:
            ends[name].add(wanted[name], found[name])
    return tuple(_of_output(name, ends[name]) for name in names)


def _of_layer(item: Rounded, comparison: Comparison) -> Precision:
    return comparison.precision(layer=item.node, op=item.op, tensor=item.tensor, dtype=item.dtype)


def _of_output(name: str, comparison: Comparison) -> Precision:
    return comparison.precision(layer=name, op="output", tensor=name, dtype="f32")
