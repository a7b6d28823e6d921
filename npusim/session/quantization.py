"""From what a user has, a float or a quantized ONNX model, to the quantized one that is compiled.

Called by ``builder`` and ``npusim compare``. Quantization is done in ``npusim.quant``; the configuration chooses it.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from onnx import TensorProto, numpy_helper

from isa.files import write_bytes
from npusim import axmodel
from npusim.errors import ConfigError, UsageError
from npusim.quant.dataset import RANDOM, Source, Tensor, open_samples
from npusim.quant.settings import LayerConfig, QuantSettings, Samples
from npusim.session.configuration import Configuration, InputConfig
from npusim.session.preprocessing import check_tensor_names, entry_for, model_preparation, preparations
from npusim.session.processors import with_processors
from npusim.session.stages import Progress

if TYPE_CHECKING:
    from npusim.graph import Graph
    from npusim.quant import Quantized
    from npusim.quant.mixed import CyclesOf
    from npusim.quant.precision import Analysis

FLOAT, QUANTIZED = "ONNX", "QuantONNX"

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
_INTEGER_OPS = ("QuantizeLinear", "DequantizeLinear", "ConvInteger", "MatMulInteger", "QAttention", "QGemm")
UNNAMED = ("", "model", "graph", "main_graph", "main", "torch_jit", "torch-jit-export")
"""Names that exporters give every graph: the file's name says more."""

Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """A quantized model, ready to be compiled.

    Attributes:
        model: in QDQ or QOperator form, with the processors of the configuration; where nothing had to be done, what
            the user gave.
        model_type: what the user's model was, ``ONNX`` or ``QuantONNX``.
        open_shapes: extents of inputs that ``model`` leaves open.
        quantized: how a float model was quantized; None for another.
        preprocessing: how images become inputs, as JSON by input name.
        samples: how many calibration samples were used.
        configuration: that it was made with.
        data_notes: what is worth telling about the calibration data.
    """

    model: str | os.PathLike[str] | bytes | onnx.ModelProto | Graph
    model_type: str
    open_shapes: Shapes = field(default_factory=dict)
    quantized: Quantized | None = None
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    samples: int = 0
    configuration: Configuration
    data_notes: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What is worth telling."""
        return self.configuration.notes + self.data_notes


def prepare(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto,
    configuration: Configuration,
    shapes: Shapes,
    *,
    calibration: Samples | None = None,
    report: Progress | None = None,
    cycles_of: CyclesOf | None = None,
) -> Prepared:
    """The quantized model of any model.

    Args:
        model: path, content or parsed form of an ONNX file.
        configuration: says how.
        shapes: extents of inputs that the model leaves open.
        calibration: samples to use instead of the configuration's.
        report: told about each stage of quantization and the share of it that is done.
        cycles_of: asked by automatic mixed precision what its choice costs.

    Raises:
        UsageError: the model is of another type than the configuration says, or calibration data are missing.
        ConfigError: a key that does not fit the model.
        ModelError, QuantizationError, DatasetError, UnsupportedError: as the message says.
    """
    proto, folder, name = _read(model)
    build = configuration.build
    found = type_of(proto)
    if build.model_type == QUANTIZED and build.cpu_fallback:
        found = QUANTIZED  # float operators of a model that is to be taken as it is: the CPU runs them
    if build.model_type not in ("", found):
        raise UsageError(_mismatch(proto, name, build.model_type))
    if found == QUANTIZED and not (build.input_processors or build.output_processors or build.quant.input_configs):
        return Prepared(model=model, model_type=found, open_shapes=shapes, configuration=configuration)
    proto = _with_external_data(proto, folder, name)
    tensors = inputs_of(proto, shapes)
    check_tensor_names(configuration, "quant.input_configs", [tensor.name for tensor in tensors], "input")
    preprocessing = preparations(tensors, configuration)
    quantized, samples = None, 0
    notes: tuple[str, ...] = ()
    if found == FLOAT:
        data = calibration if calibration is not None else open_samples(sources(tensors, configuration))
        notes = _data_notes(configuration) if calibration is None else ()
        quantized, samples = _quantize(proto, data, configuration, shapes, report, cycles_of), len(data)
        proto = quantized.model
    proto = with_processors(proto, tensors, configuration)
    return Prepared(
        model=_named(proto, name), model_type=found, quantized=quantized, preprocessing=preprocessing,
        samples=samples, configuration=configuration, data_notes=notes,
    )  # fmt: skip


def is_random(config: Mapping[str, Any]) -> bool:
    """Whether a build's configuration, as the built model holds it, calibrates with random data."""
    entries = config.get("quant", {}).get("input_configs", ())
    return config.get("model_type") == FLOAT and any(entry["calibration_format"] == RANDOM for entry in entries)


# ------------------------------------------------------------------------------------------------------------- models


def _read(model: str | os.PathLike[str] | bytes | onnx.ModelProto) -> tuple[onnx.ModelProto, Path | None, str]:
    """The parsed model, the folder of its external data, and the file's name, or "".

    Raises:
        ModelError: no such file, or a damaged one.
    """
    from npusim.graph.import_onnx import read_model

    proto, folder, label = read_model(model if isinstance(model, bytes | onnx.ModelProto) else Path(model))
    if any(node.op_type == axmodel.OPERATOR for node in proto.graph.node):
        raise UsageError("this is a built model already; build takes the ONNX file it came from")
    return proto, folder, label


def _with_external_data(proto: onnx.ModelProto, folder: Path | None, label: str) -> onnx.ModelProto:
    """A copy of the model that holds all its data itself.

    Raises:
        ModelError: data outside of the model's folder, or missing.
    """
    from npusim.graph import ModelError
    from npusim.graph.import_onnx import tensor_array

    whole = onnx.ModelProto()
    whole.CopyFrom(proto)
    for tensor in whole.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            try:
                array = tensor_array(tensor, folder)
            except ModelError as error:
                raise ModelError(str(error), label) from error
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return whole


def type_of(proto: onnx.ModelProto) -> str:
    """``QuantONNX`` for a model with quantized operators, or without any float; ``ONNX`` for another."""
    ops = {node.op_type for node in proto.graph.node}
    if any(op in _INTEGER_OPS or op.startswith("QLinear") or op == "DynamicQuantizeLinear" for op in ops):
        return QUANTIZED
    types = [value.type.tensor_type.elem_type for value in proto.graph.input]
    types += [tensor.data_type for tensor in proto.graph.initializer]
    return FLOAT if any(code in _FLOATS for code in types) else QUANTIZED


def inputs_of(proto: onnx.ModelProto, shapes: Shapes) -> tuple[Tensor, ...]:
    """The inputs of a model, all extents known.

    Raises:
        ModelError: it is damaged.
        UsageError: ``shapes`` do not fit, or extents are missing.
    """
    from npusim.graph.import_onnx import import_model
    from npusim.graph.source import numpy_type

    source = import_model(proto, shapes)
    codes = {value.name: value.type.tensor_type.elem_type for value in proto.graph.input}
    tensors = []
    for name in source.inputs:
        dtype, shape = numpy_type(codes[name]), source.types[name].shape
        assert dtype is not None  # import_model refuses other types
        assert shape is not None  # and open shapes
        tensors.append(Tensor(name=name, dtype=dtype, shape=shape))
    return tuple(tensors)


def _named(proto: onnx.ModelProto, label: str) -> onnx.ModelProto:
    """The model, called after its file where it has no name of its own."""
    if label and proto.graph.name in UNNAMED:
        proto.graph.name = Path(label).stem
    return proto


def _mismatch(proto: onnx.ModelProto, label: str, declared: str) -> str:
    name = label or proto.graph.name or "the model"
    if declared == FLOAT:
        return f"{name} is quantized already; pass --model_type {QUANTIZED}, or leave model_type out"
    return f"{name} has no quantized operators; pass --model_type {FLOAT} and calibration data, or leave model_type out"


# -------------------------------------------------------------------------------------------------------- calibration


def sources(tensors: Sequence[Tensor], configuration: Configuration) -> list[Source]:
    """Where the calibration data of each input come from.

    Raises:
        UsageError: an input has none.
        ConfigError: keys that do not fit one another or the input.
    """
    return [_source(tensor, configuration) for tensor in tensors]


def _source(tensor: Tensor, configuration: Configuration) -> Source:
    found = entry_for(tensor.name, configuration.build.quant.input_configs)
    if found is None:
        raise UsageError(
            f"a float model is quantized with calibration data, and there are none for the input {tensor}: pass "
            "--quant.calibration_dataset images.tar, or, for timing only, --quant.calibration_format Random"
        )
    index, entry = found
    path = f"quant.input_configs[{index}]"
    _check_entry(entry, path, configuration)
    return Source(
        tensor=tensor,
        format=entry.calibration_format,
        path=entry.calibration_dataset,
        size=entry.calibration_size,
        preparation=model_preparation(tensor, configuration) if entry.calibration_format == "Image" else None,
    )


def _check_entry(entry: InputConfig, path: str, configuration: Configuration) -> None:
    if entry.calibration_format != RANDOM and not entry.calibration_dataset:
        message = f"is missing: format {entry.calibration_format} reads a tar, tar.gz, zip or folder"
        raise configuration.error(f"{path}.calibration_dataset", message)
    if entry.calibration_format == RANDOM and entry.calibration_dataset:
        message = "Random reads no data; leave calibration_dataset out, or name the format of its files"
        raise configuration.error(f"{path}.calibration_format", message)


def _data_notes(configuration: Configuration) -> tuple[str, ...]:
    entries = configuration.build.quant.input_configs
    notes = []
    if any(entry.calibration_format == RANDOM for entry in entries):
        notes.append("calibrated with random data: its cycles are right, its values mean nothing")
    if any(
        e.calibration_format not in ("Image", RANDOM) and (e.calibration_mean or e.calibration_std) for e in entries
    ):
        notes.append("calibration_mean and calibration_std are for images; arrays are taken as they are")
    return tuple(notes)


# ------------------------------------------------------------------------------------------------------- quantization


def settings_of(configuration: Configuration) -> QuantSettings:
    """What the configuration asks of quantization."""
    quant = configuration.build.quant
    same = {entry.name: getattr(quant, entry.name) for entry in fields(QuantSettings) if hasattr(quant, entry.name)}
    layers = tuple(
        LayerConfig(
            layer_names=tuple(filter(None, (entry.layer_name, *entry.layer_names))),
            op_types=tuple(filter(None, (entry.op_type, *entry.op_types))),
            start_tensor_names=entry.start_tensor_names,
            end_tensor_names=entry.end_tensor_names,
            weight_data_type=entry.weight_data_type,
            **({"data_type": entry.data_type} if entry.data_type else {}),
        )
        for entry in quant.layer_configs
    )
    fuse = not configuration.build.onnx_opt.disable_onnx_optimization
    return QuantSettings(**{**same, "layer_configs": layers, "enable_fusion": fuse})


def _quantize(
    proto: onnx.ModelProto,
    samples: Samples,
    configuration: Configuration,
    shapes: Shapes,
    report: Progress | None,
    cycles_of: CyclesOf | None,
) -> Quantized:
    from npusim.quant import quantize

    try:
        settings = settings_of(configuration)
        return quantize(proto, samples, settings, input_shapes=shapes, report=report, cycles_of=cycles_of)
    except UsageError as error:
        if str(error).startswith("layer_configs["):  # a selector of the configuration: say which file's
            path, _, message = str(error).partition(": ")
            raise ConfigError(f"quant.{path}", message, source=configuration.source) from error
        raise


# -------------------------------------------------------------------------------------------------------------- files


OPTIMIZED = "frontend/optimized.onnx"
QUANTIZED_MODEL = "quant/quant_axmodel.onnx"
LAYERS = "quant/quant_axmodel.json"
LAYERS_TEXT = "quant/debug/quantization_table.txt"
ANALYSIS_TEXT = "quant/debug/precision_analysis_table.txt"
ANALYSIS = "quant/debug/precision_analysis.json"
ANALYSIS_PLOT = "quant/debug/precision_analysis.png"
FILES = (OPTIMIZED, QUANTIZED_MODEL, LAYERS, LAYERS_TEXT, ANALYSIS_TEXT, ANALYSIS, ANALYSIS_PLOT)
"""What may be written, most of it in the vendor's places."""


def write_quantized(prepared: Prepared, folder: Path) -> tuple[Path, ...]:
    """Write what quantization made of a float model below a folder, and remove what an earlier build left there.

    Returns:
        The files: for a float model the optimized one, the quantized one, its layers, and the precision analysis where
        it was asked for (with a plot where matplotlib is installed).
    """
    contents = _contents(prepared)
    for name in FILES:
        if name in contents:
            write_bytes(folder / name, contents[name])
        else:
            (folder / name).unlink(missing_ok=True)
    return tuple(folder / name for name in contents)


def _contents(prepared: Prepared) -> dict[str, bytes]:
    quantized = prepared.quantized
    if quantized is None or not isinstance(prepared.model, onnx.ModelProto):
        return {}
    from npusim.quant.precision_report import format_analysis, record
    from npusim.quant.table import format_table

    promoted = None if quantized.mixed is None else asdict(quantized.mixed)
    layers = {"layers": [asdict(row) for row in quantized.table], "auto_mix_precision": promoted}
    contents = {
        OPTIMIZED: quantized.float_model.SerializeToString(),
        QUANTIZED_MODEL: prepared.model.SerializeToString(),
        LAYERS: _json(layers),
        LAYERS_TEXT: format_table(quantized.table).encode(),
    }
    if quantized.analysis is not None:
        contents[ANALYSIS_TEXT] = format_analysis(quantized.analysis).encode()
        contents[ANALYSIS] = _json(record(quantized.analysis))
        contents |= _plot(quantized.analysis)
    return contents


def _plot(analysis: Analysis) -> dict[str, bytes]:
    from npusim.quant.precision_report import plot

    try:
        figure = plot(analysis)
    except ImportError:
        return {}
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    return {ANALYSIS_PLOT: stream.getvalue()}


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
