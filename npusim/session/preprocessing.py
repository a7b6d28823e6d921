"""How a model's inputs are made from images: derived from the build configuration, stored in the built model.

Used by the build, for calibration, and by classification. Pixels are handled in ``npusim.quant.dataset.image``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from npusim.errors import ConfigError, did_you_mean
from npusim.quant.dataset import Preparation, Tensor
from npusim.session.configuration import Configuration, InputConfig, InputProcessor
from npusim.session.configuration.schema import AUTO_COLOURS, DEFAULT, NATIVE

RECORD = "preprocessing"
"""Where a built model's configuration holds the preparation of its inputs, by name."""

Entry = TypeVar("Entry", bound=Any)


def entry_for(name: str, entries: Sequence[Entry]) -> tuple[int, Entry] | None:
    """The entry for a tensor, its own or the default one, and its index."""
    for wanted in (name, DEFAULT):
        for index, entry in enumerate(entries):
            if entry.tensor_name == wanted:
                return index, entry
    return None


def check_tensor_names(configuration: Configuration, path: str, names: Sequence[str], what: str) -> None:
    """Refuse entries for tensors that the model does not have.

    Args:
        configuration: the configuration.
        path: key of the list of entries.
        names: the model's tensors.
        what: ``input`` or ``output``.

    Raises:
        ConfigError: naming the nearest spelling.
    """
    entries: Any = configuration.build
    for part in path.split("."):
        entries = getattr(entries, part)
    for index, entry in enumerate(entries):
        if entry.tensor_name not in (DEFAULT, *names):
            message = f"the model has no {what} {entry.tensor_name!r}, only {', '.join(names)}"
            near = did_you_mean(entry.tensor_name, (*names, DEFAULT))
            raise configuration.error(f"{path}[{index}].tensor_name", message, near)


def layout_of(tensor: Tensor, declared: str = NATIVE) -> str | None:
    """``NCHW`` or ``NHWC`` for an input that takes one image of one or three channels; None for another.

    >>> import numpy as np
    >>> layout_of(Tensor(name="x", dtype=np.dtype("float32"), shape=(1, 8, 8, 3)))
    'NHWC'
    """
    if len(tensor.shape) != 4:
        return None
    places = {"NCHW": tensor.shape[1], "NHWC": tensor.shape[3]}
    wanted = list(places) if declared == NATIVE else [declared]
    return next((layout for layout in wanted if places[layout] in (1, 3)), None)


def model_preparation(tensor: Tensor, configuration: Configuration) -> Preparation:
    """How an image becomes an input of the ONNX model.

    Raises:
        ConfigError: the input takes no image, or keys do not fit its channels.
    """
    index, entry = entry_for(tensor.name, configuration.build.quant.input_configs) or (0, InputConfig())
    at, processor = entry_for(tensor.name, configuration.build.input_processors) or (0, InputProcessor())
    path, processors = f"quant.input_configs[{index}]", f"input_processors[{at}]"
    layout = layout_of(tensor, processor.tensor_layout)
    if layout is None or tensor.shape[0] != 1:
        takes = "one image, 1x3xHxW, 1xHxWx3 or the same with 1 channel"
        message = f"images do not fit {tensor}, which is not {takes}; use another calibration_format"
        raise configuration.error(f"{path}.calibration_format", message)
    height, width = tensor.shape[2:] if layout == "NCHW" else tensor.shape[1:3]
    channels = tensor.shape[1 if layout == "NCHW" else 3]
    colours = _colours(processor.tensor_format, channels)
    if colours is None:
        message = f"is {processor.tensor_format}; {tensor} has {channels} channel{'s' * (channels > 1)}"
        raise configuration.error(f"{processors}.tensor_format", message)
    for key in ("calibration_mean", "calibration_std"):
        _check_channels(configuration, f"{path}.{key}", getattr(entry, key), channels)
    return Preparation(
        height=height, width=width, colours=colours, layout=layout,
        mean=entry.calibration_mean, std=entry.calibration_std,
    )  # fmt: skip


def built_preparation(tensor: Tensor, configuration: Configuration) -> Preparation:
    """How an image becomes an input of the built model, whose own preprocessing does the rest.

    Raises:
        ConfigError: as ``model_preparation``, or a source that does not fit the channels.
    """
    prepared = model_preparation(tensor, configuration)
    found = entry_for(tensor.name, configuration.build.input_processors)
    if found is None:
        return prepared
    index, processor = found
    colours = _colours(processor.src_format, prepared.channels, prepared.colours)
    if colours is None:
        message = f"is {processor.src_format}; the model takes {prepared.colours}"
        raise configuration.error(f"input_processors[{index}].src_format", message)
    pixels = processor.src_dtype == "U8"
    return Preparation(
        height=prepared.height,
        width=prepared.width,
        colours=colours,
        layout=prepared.layout if processor.src_layout == NATIVE else processor.src_layout,
        dtype="u8" if pixels else "f32",
        mean=() if pixels else prepared.mean,
        std=() if pixels else prepared.std,
    )


def normalization(tensor: Tensor, configuration: Configuration) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation that the built model takes out of pixels: the processor's, or those of calibration.

    Raises:
        ConfigError: they do not fit the channels.
    """
    prepared = model_preparation(tensor, configuration)
    index, processor = entry_for(tensor.name, configuration.build.input_processors) or (0, InputProcessor())
    for key in ("mean", "std"):
        _check_channels(configuration, f"input_processors[{index}].{key}", getattr(processor, key), prepared.channels)
    return processor.mean or prepared.mean, processor.std or prepared.std


def preparations(tensors: Sequence[Tensor], configuration: Configuration) -> dict[str, dict[str, Any]]:
    """What a built model says about the inputs that take images, as JSON; nothing where nobody said how."""
    said = configuration.build.quant.input_configs or configuration.build.input_processors
    images = [tensor for tensor in tensors if layout_of(tensor) is not None and tensor.shape[0] == 1]
    return {tensor.name: built_preparation(tensor, configuration).record() for tensor in images} if said else {}


def stored_preparation(config: Mapping[str, Any], name: str) -> Preparation | None:
    """The preparation of an input in a built model's configuration; None where it has none.

    Raises:
        ConfigError: it is damaged.
    """
    record = config.get(RECORD, {}).get(name)
    if record is None:
        return None
    try:
        return Preparation.of_record(record)
    except (TypeError, AttributeError) as error:
        raise ConfigError(f"{RECORD}.{name}", f"is damaged: {error}") from error


def _colours(given: str, channels: int, otherwise: str = "") -> str | None:
    """The order of the channels; None where it does not fit their number."""
    colours = (otherwise or ("GRAY" if channels == 1 else "RGB")) if given == AUTO_COLOURS else given
    return colours if (colours == "GRAY") == (channels == 1) else None


def _check_channels(configuration: Configuration, path: str, values: Sequence[float], channels: int) -> None:
    if len(values) not in (0, 1, channels):
        counts = "one number" if channels == 1 else f"one number or {channels}"
        raise configuration.error(path, f"has {len(values)} numbers; the input takes {counts}")
