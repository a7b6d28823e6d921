"""``quantize``: a float ONNX model and calibration samples become a quantized model, in a list of stages.

Called by users, by the build and by whatever tries several settings. Each stage is a module of its own; what passes
between them are models and frozen records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnx

from npusim.errors import UsageError, did_you_mean
from npusim.graph.fold import fold
from npusim.graph.import_onnx import import_model

from .calibrate import calibrate
from .emit import emit
from .layers import choose_types
from .optimize import check_same, optimize
from .parameters import Parameters, parameters_of
from .placement import place
from .ranges import tensor_ranges
from .runtime import first_sample
from .settings import CALIBRATION_METHODS, DEFAULT_SETTINGS, QuantSettings, Samples
from .table import Row, rows_of

Report = Callable[[str, float], None]
"""Called with a stage's name and the share of it that is done: 0.0 when it begins, 1.0 when it ends."""

STAGES = ("optimize", "calibrate", "quantize")
"""What a quantization goes through, in order."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quantized:
    """A quantized model and how it came about.

    Attributes:
        model: standard ONNX in QDQ form.
        float_model: the optimized float model that it approximates; tensors have the same names.
        parameters: scale, zero point and type of every tensor that carries integers, by its name in the float model.
        table: one row for each operation, in topological order; ``table.format_table`` makes text of it.
    """

    model: onnx.ModelProto
    float_model: onnx.ModelProto
    parameters: Mapping[str, Parameters]
    table: tuple[Row, ...]


def quantize(
    model: onnx.ModelProto,
    samples: Samples,
    settings: QuantSettings = DEFAULT_SETTINGS,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    report: Report | None = None,
) -> Quantized:
    """Quantize a float model.

    Args:
        model: with float32 activations.
        samples: calibration data, gone through several times.
        settings: how.
        input_shapes: extents of inputs by name, where the model leaves them open.
        report: told about the progress of every stage.

    Raises:
        ModelError: the model is damaged.
        QuantizationError: samples do not fit the model, or a tensor is not finite.
        UnsupportedError: the model cannot be imported.
        UsageError: a selector of ``settings`` matches nothing, a value is out of range, or the model is quantized.
    """
    _check(settings)
    tell = report or (lambda _stage, _share: None)
    tell("optimize", 0.0)
    optimized = optimize(model, input_shapes, fuse=settings.enable_fusion)  # fewer operators, the same function
    check_same(model, optimized.model, first_sample(samples))
    float_model = optimized.model
    tell("optimize", 1.0)

    tell("calibrate", 0.0)
    graph = fold(import_model(float_model))
    choices = choose_types(graph, settings, optimized.sources)  # the type of every layer
    placement = place(graph, choices)  # which tensors carry integers, and which share their parameters
    statistics = calibrate(
        float_model, placement.roots, samples, histogram=settings.calibration_method != "MinMax",
        progress=lambda share: tell("calibrate", share),
    )  # fmt: skip

    tell("quantize", 0.0)
    ranges = tensor_ranges(placement, statistics, settings)  # observers, and what tensors owe one another
    quantized = emit(placement, ranges, float_model)
    parameters = {name: parameters_of(ranges[name], group.data_type) for name, group in placement.groups.items()}
    tell("quantize", 1.0)
    return Quantized(model=quantized, float_model=float_model, parameters=parameters, table=rows_of(placement, ranges))


def _check(settings: QuantSettings) -> None:
    method = settings.calibration_method
    if method not in CALIBRATION_METHODS:
        known = ", ".join(CALIBRATION_METHODS)
        raise UsageError(
            f"calibration_method is one of {known}, not {method!r}", did_you_mean(method, CALIBRATION_METHODS)
        )
