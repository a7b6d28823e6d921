"""The keys of a build, as frozen records: names, types, defaults, ranges and meanings, each written once.

Files, flags, ``--help`` and ``build_context.json`` follow from these classes. Reading and merging live in ``merge``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

from npusim.quant.dataset.samples import DEFAULT_SIZE, FORMATS
from npusim.quant.settings import (
    ANALYSIS_METHODS,
    CALIBRATION_METHODS,
    DATA_TYPES,
    WEIGHT_DATA_TYPES,
    QuantSettings,
)
from npusim.session.configuration.key import (
    Key,
    Kind,
    choice,
    number,
    numbers,
    records,
    switch,
    text,
    texts,
    whole,
    wholes,
)

DEFAULT = "DEFAULT"
"""The tensor name that stands for every tensor without an entry of its own."""

AUTO_COLOURS = "AutoColorSpace"
NATIVE = "Native"
MODEL_TYPES = ("ONNX", "QuantONNX")
AXMODEL_NAME = "compiled.axmodel"

_COLOURS = (AUTO_COLOURS, "RGB", "BGR", "GRAY")
_LAYOUTS = (NATIVE, "NCHW", "NHWC")
_QUANT: dict[str, Any] = {entry.name: entry.default for entry in fields(QuantSettings)}


@dataclass(frozen=True, slots=True, kw_only=True)
class InputConfig:
    """Calibration data of one input, or of all."""

    tensor_name: str = text(DEFAULT, "input that an entry is for; DEFAULT: every input without an entry of its own")
    calibration_dataset: str = text("", "tar, tar.gz, zip or folder with the calibration data")
    calibration_format: str = choice(
        "Image",
        "what it holds: images, .npy, raw bytes, .npz; Random needs no data, for timing only",
        FORMATS,
    )
    calibration_size: int = whole(DEFAULT_SIZE, "samples to use, the first by name; -1: all", least=-1)
    calibration_mean: tuple[float, ...] = numbers("subtracted from an image's 0..255, one number or one a channel")
    calibration_std: tuple[float, ...] = numbers("what the difference is divided by, one number or one a channel", 1e-6)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerEntry:
    """Another type for some layers."""

    layer_name: str = text("", "node of the float model that an entry is for")
    layer_names: tuple[str, ...] = texts("the same for several")
    op_type: str = text("", "operator whose nodes an entry is for")
    op_types: tuple[str, ...] = texts("the same for several")
    start_tensor_names: tuple[str, ...] = texts("tensors behind which the part of the graph begins")
    end_tensor_names: tuple[str, ...] = texts("tensors with which the part ends")
    data_type: str = choice("", "type of their activations; FP32 leaves them to the CPU", ("", *DATA_TYPES))
    weight_data_type: str = choice("", "type of their weights", ("", *WEIGHT_DATA_TYPES))


@dataclass(frozen=True, slots=True, kw_only=True)
class InputProcessor:
    """What the built model takes instead of the ONNX model's input."""

    tensor_name: str = text(DEFAULT, "input that an entry is for; DEFAULT: every input without an entry of its own")
    tensor_format: str = choice(
        AUTO_COLOURS, "channels of the ONNX input; by default RGB, GRAY where it has one", _COLOURS
    )
    tensor_layout: str = choice(NATIVE, "layout of the ONNX input; by default what its shape says", _LAYOUTS)
    src_format: str = choice(AUTO_COLOURS, "channels that the built model takes", _COLOURS)
    src_layout: str = choice(NATIVE, "layout that the built model takes", _LAYOUTS)
    src_dtype: str = choice("FP32", "type that the built model takes; U8: pixels, 0..255", ("FP32", "U8"))
    mean: tuple[float, ...] = numbers("subtracted from the pixels inside the built model (calibration_mean)")
    std: tuple[float, ...] = numbers("what the difference is divided by (calibration_std)", 1e-6)
    csc_mode: str = choice("NoCSC", "conversion of colour spaces: none", ("NoCSC",))


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputProcessor:
    """What the built model gives instead of the ONNX model's output."""

    tensor_name: str = text(DEFAULT, "output that an entry is for; DEFAULT: every output without an entry of its own")
    dst_perm: tuple[int, ...] = wholes("order of the output's axes, as a Transpose has it", 0)
    output_dtype: str = choice("", "type of the output: the ONNX model's", ("", "FP32"))


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxOpt:
    """The float graph before it is quantized."""

    disable_onnx_optimization: bool = switch(
        not _QUANT["enable_fusion"], "do not join operators of the float graph before it is quantized"
    )
    enable_onnxsim: bool = switch(False, "simplify the float graph", idle="constants are always folded")
    model_check: bool = switch(
        False, "compare the optimized graph with the original", idle="they are always compared on a sample"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Quant:
    """Quantization of a float model."""

    input_configs: tuple[InputConfig, ...] = records(InputConfig, "calibration data by input")
    calibration_method: str = choice(_QUANT["calibration_method"], "observer of activations", CALIBRATION_METHODS)
    precision_analysis: bool = switch(_QUANT["precision_analysis"], "compare every layer with the float model")
    precision_analysis_method: str = choice(
        _QUANT["precision_analysis_method"], "each layer fed with float values, or all in one run", ANALYSIS_METHODS
    )
    layer_configs: tuple[LayerEntry, ...] = records(LayerEntry, "other types for some layers; the last that fits wins")
    highest_mix_precision: bool = switch(_QUANT["highest_mix_precision"], "16-bit activations wherever there are any")
    enable_smooth_quant: bool = switch(_QUANT["enable_smooth_quant"], "move outliers of activations into weights")
    smooth_quant_threshold: float = number(
        _QUANT["smooth_quant_threshold"], "smallest share of the gain at which a layer is smoothed", 0, 1
    )
    smooth_quant_strength: float = number(
        _QUANT["smooth_quant_strength"], "exponent of the activations' range in smoothing", 0, 1
    )
    transformer_opt_level: int = whole(
        _QUANT["transformer_opt_level"], "1: symmetric operands of products between activations; 2: smooths too", 0, 2
    )
    enable_bias_correction: bool = switch(
        _QUANT["enable_bias_correction"], "take the mean error of each product out of its bias"
    )
    enable_equalization: bool = switch(_QUANT["enable_equalization"], "cross-layer equalization of convolutions")
    auto_mix_precision: str = text(
        _QUANT["auto_mix_precision"],
        "promote the most sensitive layers to 16 bits until the target is met, cosine or dB of SNR",
        pattern=r"(cosine:(0(\.\d+)?|1(\.0+)?|\.\d+)|snr:\d+(\.\d+)?)",
        example="cosine:0.999 or snr:30",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiler:
    """From integer operations to instructions."""

    check: int = whole(
        0, "how thoroughly the vendor's compiler checks itself", 0, 3, idle="every program is proven; see npusim check"
    )
    npu_perf: bool = switch(False, "write a trace of every instruction, one lane a unit, for Perfetto or Chrome")
    ddr_bw_limit: float = number(
        0, "GB/s that DRAM delivers", 0, refused="describe such a machine in a TOML file and pass --target_hardware"
    )
    static_batch_sizes: tuple[int, ...] = wholes(
        "batch sizes beside the model's own", 1, refused="one model has one batch size; choose it with input_shapes"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildConfig:
    """Everything a build can be asked for."""

    input: str = text("", "ONNX model, float or quantized (QDQ or QOperator)")
    output_dir: str = text("", "folder for the built model, build_context.json and the quantized model")
    output_name: str = text(AXMODEL_NAME, "file name of the built model")
    work_dir: str = text("", "folder for intermediate files", idle="there are none")
    model_type: str = choice("", "ONNX: float; QuantONNX: quantized; by default what the file is", ("", *MODEL_TYPES))
    target_hardware: str = text("ax650n", "built-in name (alias AX650) or TOML file")
    npu_mode: str = text("NPU1", "cores to build for: NPU1, NPU2 or NPU3")
    input_shapes: str = text("", "shapes of inputs that the model leaves open: a:1x3x224x224;b:1x8")
    cpu_fallback: bool = switch(False, "let the CPU run what the NPU cannot: priced, and listed in every report")
    onnx_opt: OnnxOpt = field(default_factory=OnnxOpt)
    quant: Quant = field(default_factory=Quant)
    input_processors: tuple[InputProcessor, ...] = records(InputProcessor, "preprocessing that the built model does")
    output_processors: tuple[OutputProcessor, ...] = records(OutputProcessor, "the built model's outputs, rearranged")
    compiler: Compiler = field(default_factory=Compiler)


SECTIONS: dict[str, type] = {"onnx_opt": OnnxOpt, "quant": Quant, "compiler": Compiler}
"""Keys that hold other keys."""

ELSEWHERE = {
    "quant.check": "npusim check compares every integer of a built model with onnxruntime's",
    "quant.conv_bias_data_type": "biases are S32",
    "quant.ln_scale_data_type": "gains of layer norms are FP32",
    "quant.device": "calibration runs on the CPU",
    "quant.refine_weight_threshold": "weights always take their extremes, per output channel",
    "quant.enable_adaround": "weights are not trained; see quant.enable_bias_correction",
    "quant.enable_brecq": "weights are not trained; see quant.enable_bias_correction",
    "quant.enable_easy_quant": "weights are not trained; see quant.enable_bias_correction",
    "quant.enable_lsq": "weights are not trained; see quant.enable_bias_correction",
    "quant.input_sample_dir": "precision analysis uses the calibration samples",
    "quant.precision_analysis_mode": "precision analysis compares with onnxruntime on both sides",
    "compiler.check_mode": "every program is proven; npusim check compares integers",
    "compiler.max_dynamic_batch_size": "one model has one batch size; choose it with input_shapes",
    "input_processors.csc_mat": "colour spaces are not converted",
    "input_processors.src_extra_params": "colour spaces are not converted",
}
"""Keys of the vendor's that are refused whatever their value, and why."""


def _walk(record: type, prefix: str) -> Iterator[tuple[str, Key, Any]]:
    for entry in fields(record):
        path = prefix + entry.name
        if entry.name in SECTIONS and not prefix:
            yield from _walk(SECTIONS[entry.name], f"{path}.")
            continue
        key: Key = entry.metadata["key"]
        yield path, key, entry.default
        if key.kind is Kind.RECORDS and key.record is not None:
            yield from _walk(key.record, f"{path}.")


KEYS: dict[str, tuple[Key, Any]] = {path: (key, default) for path, key, default in _walk(BuildConfig, "")}
"""Every key and its default by dotted name; keys of records stand below their list."""
