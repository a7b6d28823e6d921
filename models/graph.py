"""The graph under construction: named nodes, seeded weights, and shapes that ONNX itself infers as nodes are added.

Used by the layers and by every recipe. Nothing here knows a layer or a model: what is made of several nodes lives in
``layers``, what is made of several layers in ``zoo``.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import defs, helper, numpy_helper

from .errors import ShapeError

OLDEST_OPSET = 11
NEWEST_OPSET = 24  # newest stamp whose changes to the operators used here have been read

Array = npt.NDArray[Any]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A tensor of the graph.

    Attributes:
        name: as it is spelled in the ONNX file.
        shape: all dimensions, batch included; they are static.
        dtype: element type, one of ``onnx.TensorProto``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: int = onnx.TensorProto.FLOAT


class Network:
    """An ONNX graph that grows node by node; names follow the module path, as exporters write them.

    Attributes:
        name: of the graph.
        seed: of all weights. Each parameter has a stream of its own, made of the seed and its name, so that changing
            one layer leaves the weights of the others alone.
        opset: version of the default operator set; layers write what it offers.
        fold_bn: whether batch normalization is folded into the convolution before it, as exporters do in eval mode.
        weights: values by parameter name, to use instead of drawing them; what is missing is drawn, and added.
        parameters: how many learned numbers were drawn, by name. What is folded or expanded afterwards (batch
            normalization, relative position bias) changes the initialisers, not this count.

    >>> net = Network("doubled", opset=17)
    >>> x = net.input("x", (1, 3))
    >>> with net.scope("head"):
    ...     y = net.op("Add", x, x)
    >>> y
    Value(name='/head/Add_output_0', shape=(1, 3), dtype=1)
    >>> [node.name for node in net.finish({"y": y}).graph.node]
    ['/head/Add']
    """

    def __init__(
        self,
        name: str,
        *,
        seed: int = 0,
        opset: int = 17,
        fold_bn: bool = True,
        weights: dict[str, Array] | None = None,
    ) -> None:
        self.name = name
        self.seed = seed
        self.opset = opset
        self.fold_bn = fold_bn
        self.weights = weights
        self.parameters: dict[str, int] = {}
        self._scopes: list[str] = []
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[Value] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._repeats: dict[str, int] = {}

    @contextmanager
    def scope(self, *names: str | int) -> Iterator[None]:
        """Put what is added inside the ``with`` block below these module names."""
        self._scopes.extend(str(name) for name in names)
        try:
            yield
        finally:
            del self._scopes[len(self._scopes) - len(names) :]

    def path(self, name: str = "") -> str:
        """The dotted name of something in the current scope: ``features.1.0.attn`` and so on."""
        return ".".join([*self._scopes, *([name] if name else [])])

    def input(self, name: str, shape: Sequence[int]) -> Value:
        """Declare a float32 input of the model."""
        value = Value(name=name, shape=tuple(shape))
        self._inputs.append(value)
        return value

    def parameter(self, name: str, shape: Sequence[int], draw: Draw) -> Array:
        """Draw the values of a learned parameter, float32, and count it.

        Args:
            name: within the current scope; together with the seed it selects the random stream.
            shape: of the parameter.
            draw: makes the values from a generator and the shape.
        """
        path = self.path(name)
        if path in self.parameters:
            raise ValueError(f"{self.name}: parameter {path} exists already")
        values = None if self.weights is None else self.weights.get(path)
        if values is None:
            stream = np.random.Generator(np.random.PCG64([self.seed, zlib.crc32(path.encode())]))
            values = np.asarray(draw(stream, tuple(shape)), dtype=np.float32)
            if self.weights is not None:
                self.weights[path] = values
        if values.shape != tuple(shape):
            raise ValueError(f"{self.name}: parameter {path} has shape {values.shape}, but {tuple(shape)} is needed")
        self.parameters[path] = values.size
        return values

    def constant(self, name: str, values: npt.ArrayLike) -> Value:
        """Add an initialiser named after the current scope.

        Args:
            name: last part of its name; a number is appended where the scope has one of that name already.
            values: an array with the dtype it shall have in the file; Python integers become int64.
        """
        array = np.asarray(values)
        path = self._unique(self.path(name))
        self._initializers[path] = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), path)
        return Value(name=path, shape=array.shape, dtype=helper.np_dtype_to_tensor_dtype(array.dtype))

    def op(self, kind: str, *inputs: Value | None, **attributes: Any) -> Value:
        """Add a node with one output.

        Args:
            kind: operator of the default domain.
            inputs: its inputs in order; None leaves an optional one out.
            attributes: of the node, as Python values; None leaves one out.

        Raises:
            ShapeError: the operator refuses inputs of these types or shapes.
        """
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, outputs: int, *inputs: Value | None, **attributes: Any) -> tuple[Value, ...]:
        """Add a node with several outputs; otherwise as ``op``."""
        name = self._unique("/" + "/".join([*self._scopes, kind]))
        node = helper.make_node(
            kind,
            [value.name if value else "" for value in inputs],
            [f"{name}_output_{index}" for index in range(outputs)],
            name=name,
            **{key: value for key, value in attributes.items() if value is not None},
        )
        self._nodes.append(node)
        return self._infer(node, [value for value in inputs if value])

    def finish(self, outputs: dict[str, Value]) -> onnx.ModelProto:
        """The model; what was added before stays as it is.

        Args:
            outputs: values by the name they shall have in the file.
        """
        opset = helper.make_opsetid("", self.opset)
        version = helper.find_min_ir_version_for([opset])
        model = onnx.ModelProto(ir_version=version, producer_name="npusim.models", opset_import=[opset])
        graph = model.graph  # filled in place: helper.make_model would copy all weights twice
        graph.name = self.name
        graph.node.extend(self._nodes)
        renamed = {value.name: name for name, value in outputs.items()}
        for node in graph.node:
            node.input[:] = [renamed.get(name, name) for name in node.input]
            node.output[:] = [renamed.get(name, name) for name in node.output]
        graph.input.extend(_value_info(value.name, value) for value in self._inputs)
        graph.output.extend(_value_info(name, value) for name, value in outputs.items())
        graph.initializer.extend(self._initializers.values())
        helper.set_model_props(model, {"parameters": str(sum(self.parameters.values())), "seed": str(self.seed)})
        return model

    def _infer(self, node: onnx.NodeProto, inputs: Sequence[Value]) -> tuple[Value, ...]:
        """Types of the outputs of a node, as ONNX's own shape inference knows them."""
        small = {value.name: self._initializers[value.name] for value in inputs if self._is_shape_data(value)}
        try:
            types = onnx.shape_inference.infer_node_outputs(
                defs.get_schema(node.op_type, self.opset, ""),
                node,
                {value.name: helper.make_tensor_type_proto(value.dtype, value.shape) for value in inputs},
                input_data=small,
                opset_imports=[helper.make_opsetid("", self.opset)],
            )
        except onnx.shape_inference.InferenceError as error:
            shapes = ", ".join(str(value.shape) for value in inputs)
            raise ShapeError(node.name, f"{node.op_type} does not take inputs of shapes {shapes} ({error})") from error
        return tuple(_value_of(name, types[name]) for name in node.output)

    def _is_shape_data(self, value: Value) -> bool:
        """Whether shape inference may need the contents: shapes, axes, bounds, scales of Resize."""
        return value.name in self._initializers and len(value.shape) <= 1 and int(np.prod(value.shape)) <= 16

    def _unique(self, name: str) -> str:
        count = self._repeats[name] = self._repeats.get(name, -1) + 1
        return f"{name}_{count}" if count else name


def _value_info(name: str, value: Value) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, value.dtype, value.shape)


def _value_of(name: str, type_: onnx.TypeProto) -> Value:
    dimensions = tuple(dimension.dim_value for dimension in type_.tensor_type.shape.dim)
    return Value(name=name, shape=dimensions, dtype=type_.tensor_type.elem_type)
