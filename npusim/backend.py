"""npusim as a backend of ONNX (``onnx.backend.base``): models run through the compiler and the simulated machine.

For tools that speak this interface, ONNX's own node tests among them. Scripts use ``npusim.InferenceSession``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper
from onnx.backend.base import Backend, BackendRep, Device, DeviceType, namedtupledict

from npusim.errors import UsageError

if TYPE_CHECKING:
    from npusim.session.builder import Built

Array = np.ndarray[Any, Any]

_EVERY = 1 << 16
_LIVE_OPERANDS: dict[str, Sequence[int]] = {
    "QLinearMatMul": (0, 3),
    **dict.fromkeys(("MatMul", "MatMulInteger", "Add", "Sub", "Mul", "Div", "Pow", "Mod"), (0, 1)),
    **dict.fromkeys(("And", "Or", "Xor", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"), (0, 1)),
    **dict.fromkeys(("Concat", "Sum", "Min", "Max", "Mean", "Where"), range(_EVERY)),
}
"""Operands that are data, by operator; of all others the first alone."""


class NpusimRep(BackendRep):
    """A model that waits for its inputs.

    The compiler has to know scales, zero points, weights, axes and the like. Where a model takes them as inputs, as
    ONNX's node tests do, they become constants at the first call; other values at a later call build the model again.
    """

    def __init__(self, model: onnx.ModelProto, options: Mapping[str, Any]) -> None:
        self._model = model
        self._options = dict(options)
        self._constants: dict[str, Array] = {}
        self._built: Built | None = None

    @property
    def built(self) -> Built:
        """What ran last.

        Raises:
            UsageError: nothing has run yet.
        """
        if self._built is None:
            raise UsageError("the model is built when it first runs: its inputs decide shapes and constants")
        return self._built

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs, which also have names.

        Args:
            inputs: an array, or one for each input in the model's order.
            kwargs: none.

        Raises:
            UsageError: other inputs than the model's.
            UnsupportedError, LoweringError, ...: as ``npusim.build``.
        """
        if kwargs:
            raise UsageError(f"run takes no option {next(iter(kwargs))!r}")
        arrays = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
        present = {tensor.name for tensor in self._model.graph.initializer}
        names = [value.name for value in self._model.graph.input if value.name not in present]
        if len(arrays) > len(names):
            raise UsageError(f"{len(arrays)} inputs are given; the model has {', '.join(names) or 'none'}")
        feeds = {name: np.asarray(array) for name, array in zip(names, arrays, strict=False)}
        built = self._build(feeds)
        live = {port.name: feeds[port.name] for port in built.axmodel.inputs if port.name in feeds}
        outputs = built.session().run(None, live)
        fields = [value.name for value in self._model.graph.output]
        return namedtupledict("Outputs", fields)(*outputs)

    def _build(self, feeds: Mapping[str, Array]) -> Built:
        from npusim.session.builder import build

        data = live_inputs(self._model)
        constants = {name: array for name, array in feeds.items() if name not in data}
        shapes = {name: array.shape for name, array in feeds.items() if name in data}
        if self._built is None or not _same(constants, self._constants) or not _fits(self._built, shapes):
            left_open = {name: shapes[name] for name in _open_inputs(self._model) if name in shapes}
            options = {"model_type": "QuantONNX", **self._options}
            self._built = build(self._model, input_shapes=left_open, constants=constants, **options)
            self._constants = constants
        return self._built


def live_inputs(model: onnx.ModelProto) -> set[str]:
    """The inputs that carry data: some operator takes them as more than a parameter, or they are results themselves."""
    data = {value.name for value in model.graph.output}
    for node in model.graph.node:
        live = _LIVE_OPERANDS.get(node.op_type, (0,))
        data |= {name for position, name in enumerate(node.input) if position in live}
    return data


def _open_inputs(model: onnx.ModelProto) -> list[str]:
    """The inputs whose extents only a call decides."""
    values = [(value.name, value.type.tensor_type.shape.dim) for value in model.graph.input]
    return [name for name, dims in values if not all(dim.HasField("dim_value") for dim in dims)]


def _same(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    return one.keys() == other.keys() and all(
        array.dtype == other[name].dtype and np.array_equal(array, other[name]) for name, array in one.items()
    )


def _fits(built: Built, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return all(tuple(port.shape) == shapes.get(port.name) for port in built.axmodel.inputs)


class NpusimBackend(Backend):
    """The backend. Options of ``prepare`` and ``run_model`` are those of ``npusim.build``.

    CPU subgraphs are allowed unless ``cpu_fallback=False`` is given; ``NpusimRep.built.summary`` lists and prices them.
    """

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether the model may be run; only running it shows whether all of it can be."""
        del kwargs
        return cls.supports_device(device) and model.HasField("graph")

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> NpusimRep:
        """A model that waits for its inputs.

        Raises:
            UsageError: no such device.
        """
        if not cls.supports_device(device):
            raise UsageError(f"there is no device {device!r}: the simulated NPU stands in for CPU")
        return NpusimRep(model, {"cpu_fallback": True, **kwargs})

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Any, ...]:
        """The outputs of a model."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls, node: onnx.NodeProto, inputs: Any, device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype[Any], tuple[int, ...]]] | None = None, **kwargs: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        """The outputs of a single operator of the default domain.

        Args:
            node: the operator.
            inputs: an array for each input that the node names.
            device: ``CPU``.
            outputs_info: taken for compatibility; types and shapes follow from the inputs.
            kwargs: ``opset_version``, and options of ``npusim.build``.
        """
        del outputs_info
        version = kwargs.pop("opset_version", onnx.defs.onnx_opset_version())
        names = [name for name in node.input if name]
        values = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in zip(names, map(np.asarray, inputs), strict=True)
        ]
        results = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        graph = helper.make_graph([node], node.op_type, values, results)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])
        return cls.run_model(model, inputs, device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """``CPU`` only: the machine is simulated here."""
        return bool(Device(device).type == DeviceType.CPU)


is_compatible = NpusimBackend.is_compatible
prepare = NpusimBackend.prepare
run_model = NpusimBackend.run_model
run_node = NpusimBackend.run_node
supports_device = NpusimBackend.supports_device
