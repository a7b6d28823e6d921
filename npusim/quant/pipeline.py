"""``quantize``: a float ONNX model and calibration samples become a quantized model, in a list of stages.

Called by users, by the build and by whatever tries several settings. Each stage is a module of its own; what passes
between them are models and frozen records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import onnx

from npusim.errors import UsageError, did_you_mean
from npusim.graph.fold import fold
from npusim.graph.import_onnx import import_model
from npusim.graph.source import SourceGraph

from .bias import correct_bias
from .calibrate import calibrate
from .emit import emit
from .equalize import equalize
from .layers import choose_types
from .mixed import CyclesOf, Mixed, mix_precision, parse_target
from .observers import Statistic
from .optimize import check_same, optimize
from .parameters import Parameters, parameters_of
from .placement import Placement, place
from .precision import Analysis, analyze, check_method
from .ranges import tensor_ranges
from .rescale import Rescaled
from .runtime import first_sample
from .settings import CALIBRATION_METHODS, DEFAULT_SETTINGS, LayerConfig, QuantSettings, Samples
from .smooth import smooth
from .table import Row, rows_of

Report = Callable[[str, float], None]
"""Called with a stage's name and the share of it that is done: 0.0 when it begins, 1.0 when it ends."""

STAGES = ("optimize", "equalize", "smooth", "calibrate", "quantize", "mix", "correct", "analyze")
"""What a quantization may go through, in order; all but ``optimize``, ``calibrate`` and ``quantize`` are asked for."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quantized:
    """A quantized model and how it came about.

    Attributes:
        model: standard ONNX in QDQ form.
        float_model: the optimized float model that it approximates; tensors have the same names.
        parameters: scale, zero point and type of every tensor that carries integers, by its name in the float model.
        table: one row for each operation, in topological order; ``table.format_table`` makes text of it.
        rescaled: tensors whose channels equalization or SmoothQuant made even.
        mixed: the layers that automatic mixed precision promoted; None where it was not asked for.
        analysis: the precision analysis; None where it was not asked for.
    """

    model: onnx.ModelProto
    float_model: onnx.ModelProto
    parameters: Mapping[str, Parameters]
    table: tuple[Row, ...]
    rescaled: tuple[Rescaled, ...] = ()
    mixed: Mixed | None = None
    analysis: Analysis | None = None


def quantize(
    model: onnx.ModelProto,
    samples: Samples,
    settings: QuantSettings = DEFAULT_SETTINGS,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    report: Report | None = None,
    cycles_of: CyclesOf | None = None,
) -> Quantized:
    """Quantize a float model.

    Args:
        model: with float32 activations.
        samples: calibration data, gone through several times.
        settings: how.
        input_shapes: extents of inputs by name, where the model leaves them open.
        report: told about the progress of every stage.
        cycles_of: asked by automatic mixed precision what its choice costs.

    Raises:
        ModelError: the model is damaged.
        QuantizationError: samples do not fit the model, a tensor is not finite, or the target of automatic mixed
            precision is out of reach.
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
    rescaled: list[Rescaled] = []
    if settings.enable_equalization:
        float_model, done = equalize(float_model, samples, progress=partial(tell, "equalize"))
        rescaled += done
    if settings.enable_smooth_quant or settings.transformer_opt_level >= 2:
        float_model, done = smooth(float_model, samples, settings, progress=partial(tell, "smooth"))
        rescaled += done

    tell("calibrate", 0.0)
    graph = fold(import_model(float_model))
    plan = _Plan(float_model=float_model, graph=graph, sources=optimized.sources)
    statistics = calibrate(
        float_model, plan.place(settings).roots, samples, histogram=settings.calibration_method != "MinMax",
        progress=partial(tell, "calibrate"),
    )  # fmt: skip

    tell("quantize", 0.0)
    quantized = replace(plan.quantize(settings, statistics), rescaled=tuple(rescaled))
    tell("quantize", 1.0)
    if settings.auto_mix_precision:

        def with_more(configs: tuple[LayerConfig, ...]) -> Quantized:
            return plan.quantize(replace(settings, layer_configs=(*settings.layer_configs, *configs)), statistics)

        mixed = mix_precision(
            parse_target(settings.auto_mix_precision), float_model, samples, lambda configs: with_more(configs).model,
            cycles_of=cycles_of, progress=partial(tell, "mix"),
        )  # fmt: skip
        quantized = replace(with_more(mixed.layer_configs), rescaled=quantized.rescaled, mixed=mixed)
    if settings.enable_bias_correction:
        corrected = correct_bias(float_model, quantized.model, samples, progress=partial(tell, "correct"))
        quantized = replace(quantized, model=corrected)
    if settings.precision_analysis:
        method = settings.precision_analysis_method
        analysis = analyze(float_model, quantized.model, samples, method, progress=partial(tell, "analyze"))
        quantized = replace(quantized, analysis=analysis)
    return quantized


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Plan:
    """A float model ready to be quantized, in one way or another.

    Attributes:
        float_model: as it is quantized.
        graph: the same, with types.
        sources: names that the user's own model has for each node.
    """

    float_model: onnx.ModelProto
    graph: SourceGraph
    sources: Mapping[str, tuple[str, ...]]

    def place(self, settings: QuantSettings) -> Placement:
        """Which tensors carry integers, and which share their parameters."""
        return place(self.graph, choose_types(self.graph, settings, self.sources))

    def quantize(self, settings: QuantSettings, statistics: Mapping[str, Statistic]) -> Quantized:
        """The quantized model."""
        placement = self.place(settings)
        ranges = tensor_ranges(placement, statistics, settings)  # observers, and what tensors owe one another
        return Quantized(
            model=emit(placement, ranges, self.float_model),
            float_model=self.float_model,
            parameters={name: parameters_of(ranges[name], group.data_type) for name, group in placement.groups.items()},
            table=rows_of(placement, ranges),
        )


def _check(settings: QuantSettings) -> None:
    method = settings.calibration_method
    if method not in CALIBRATION_METHODS:
        known = ", ".join(CALIBRATION_METHODS)
        raise UsageError(
            f"calibration_method is one of {known}, not {method!r}", did_you_mean(method, CALIBRATION_METHODS)
        )
    if settings.auto_mix_precision:
        parse_target(settings.auto_mix_precision)
    if settings.precision_analysis:
        check_method(settings.precision_analysis_method)
