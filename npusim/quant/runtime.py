"""Inference by onnxruntime with any of a model's values as results.

Used by the check of the float graph, by calibration and by what compares models. Nothing is measured or decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from npusim.graph.ir import Array

from .errors import QuantizationError
from .settings import Feeds


class Runner:
    """A float model in onnxruntime, with any of its values as results.

    Attributes:
        inputs: shape and NumPy type of each input; None stands for an extent that is open.
        names: of the results.
    """

    def __init__(self, model: onnx.ModelProto, names: Sequence[str], *, plain: bool = False) -> None:
        """Start a session.

        Args:
            model: the model.
            names: values of the model that ``run`` returns.
            plain: without any optimization, as the model is written.

        Raises:
            QuantizationError: onnxruntime refuses the model.
        """
        from onnxruntime.capi import onnxruntime_pybind11_state as refusals

        from . import exact

        failures = (refusals.Fail, refusals.InvalidGraph, refusals.InvalidArgument, refusals.NotImplemented,
                    refusals.RuntimeException)  # fmt: skip
        try:
            self._session = exact.session(with_outputs(model, names), optimized=not plain)
        except failures as error:
            raise QuantizationError(f"onnxruntime cannot run the model: {str(error).splitlines()[0]}") from error
        self._failures = failures
        self.names = tuple(names)
        self.inputs = {value.name: _input_type(model, value.name) for value in self._session.get_inputs()}

    def run(self, feeds: Feeds, sample: int = -1) -> dict[str, Array]:
        """The results of one call.

        Args:
            feeds: inputs by name.
            sample: index that errors name.

        Raises:
            QuantizationError: an input is missing, unknown, or of the wrong shape or type.
        """
        self._check(feeds, sample)
        wanted = [name for name in self.names if name not in feeds]
        try:
            results = dict(zip(wanted, self._session.run(wanted, dict(feeds)), strict=True)) if wanted else {}
        except self._failures as error:
            reason = str(error).splitlines()[0]
            raise QuantizationError(f"sample {sample}: onnxruntime fails: {reason}", sample=sample) from error
        return {name: feeds[name] if name in feeds else results[name] for name in self.names}

    def _check(self, feeds: Feeds, sample: int) -> None:
        where = f"sample {sample}: " if sample >= 0 else ""
        for name, (dtype, shape) in self.inputs.items():
            if name not in feeds:
                raise QuantizationError(f"{where}input {name!r} is missing", tensor=name, sample=sample)
            array = np.asarray(feeds[name])
            fits = len(array.shape) == len(shape) and all(
                wanted in (None, extent) for wanted, extent in zip(shape, array.shape, strict=True)
            )
            if array.dtype != dtype or not fits:
                raise QuantizationError(
                    f"{where}input {name!r} is {array.dtype}{list(array.shape)}, the model takes {dtype}{list(shape)}",
                    tensor=name, sample=sample,
                )  # fmt: skip
        unknown = next((name for name in feeds if name not in self.inputs), None)
        if unknown is not None:
            raise QuantizationError(f"{where}the model has no input {unknown!r}", tensor=unknown, sample=sample)


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """A copy of a model whose outputs are exactly the values ``names``; inputs of the model are left out."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    inputs = {value.name for value in model.graph.input}
    known = {value.name: value for value in (*model.graph.value_info, *model.graph.output)}
    for name in dict.fromkeys(names):
        if name not in inputs:
            copy.graph.output.append(known.get(name, onnx.ValueInfoProto(name=name)))
    return copy


def _input_type(model: onnx.ModelProto, name: str) -> tuple[np.dtype[Any], tuple[int | None, ...]]:
    value = next(value for value in model.graph.input if value.name == name)
    tensor = value.type.tensor_type
    shape = tuple(extent.dim_value if extent.HasField("dim_value") else None for extent in tensor.shape.dim)
    return onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), shape


def first_sample(samples: Iterable[Feeds]) -> Mapping[str, Array]:
    """The first of the samples.

    Raises:
        QuantizationError: there is none.
    """
    for feeds in samples:
        return feeds
    raise QuantizationError("there are no calibration samples")
