"""The integer graph: frozen records for tensors, nodes and graphs, and their printable form.

Made by ``npusim.graph.load``, read by quant, compiler and session. What an operation is called and which attributes it
has stands in ``ops``; nothing here knows ONNX.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

DTYPES: dict[str, np.dtype[Any]] = {
    "s8": np.dtype(np.int8),
    "u8": np.dtype(np.uint8),
    "s16": np.dtype(np.int16),
    "u16": np.dtype(np.uint16),
    "s32": np.dtype(np.int32),
    "u32": np.dtype(np.uint32),
    "s64": np.dtype(np.int64),
    "u64": np.dtype(np.uint64),
    "f16": np.dtype(np.float16),
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "bool": np.dtype(np.bool_),
}
"""Every element type a tensor may have, with its NumPy type."""

DTYPE_NAMES = {numpy: name for name, numpy in DTYPES.items()}

ACTIVATION_DTYPES = ("s8", "u8", "s16", "u16")
"""What a quantized activation may be."""

_SHOWN_ELEMENTS = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quantization:
    """How integers stand for real numbers: ``real = f32(f32(q - zero_point) * scale)``.

    Attributes:
        scale: float32 scalar, or a float32 array where it differs per channel or block.
        zero_point: int, or an int64 array of the scale's shape.
        axis: the axis the arrays run along; None for per-tensor.
        block: elements along ``axis`` that share one entry; 0 where each index has its own.
    """

    scale: Any
    zero_point: Any = 0
    axis: int | None = None
    block: int = 0

    @property
    def per_tensor(self) -> bool:
        """Whether one scale and one zero point hold for the whole tensor."""
        return self.axis is None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Quantization):
            return NotImplemented
        return (
            self.axis == other.axis
            and self.block == other.block
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )

    def __hash__(self) -> int:
        return hash((np.asarray(self.scale).tobytes(), np.asarray(self.zero_point).tobytes(), self.axis, self.block))

    def __str__(self) -> str:
        if self.per_tensor:
            return f"q({_number(self.scale)}, {int(self.zero_point)})"
        low, high = np.min(self.scale), np.max(self.scale)
        zeros = f"{int(np.min(self.zero_point))}..{int(np.max(self.zero_point))}"
        block = f" by {self.block}" if self.block else ""
        return f"q(axis {self.axis}{block}: {_number(low)}..{_number(high)}, {zeros})"


def _number(value: Any) -> str:
    """The shortest decimal that names this float32."""
    text = str(np.float32(value))
    return text.removesuffix(".0")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tensor:
    """One value of the graph.

    Attributes:
        name: unique in the graph; that of the ONNX value with the same content, where there is one.
        shape: extents, outermost first; () for a scalar.
        dtype: a key of ``DTYPES``.
        quantization: what its integers mean; None for floats and for plain integers such as indices.
        data: the constant's values, of ``shape`` and ``dtype``; None for what is computed or fed.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    quantization: Quantization | None = None
    data: Array | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def numpy(self) -> np.dtype[Any]:
        """NumPy type of one element."""
        return DTYPES[self.dtype]

    @property
    def is_constant(self) -> bool:
        """Whether the values are known at build time."""
        return self.data is not None

    @property
    def type_text(self) -> str:
        """For example ``u8[1,3,8,8] q(0.5, 128)``."""
        quantization = f" {self.quantization}" if self.quantization is not None else ""
        return f"{self.dtype}[{','.join(map(str, self.shape))}]{quantization}"

    def __str__(self) -> str:
        if self.data is None:
            return f"{self.name}: {self.type_text}"
        if self.size <= _SHOWN_ELEMENTS:
            content = " ".join(f"{value:.9g}" if self.dtype[0] == "f" else str(value) for value in self.data.ravel())
        else:
            content = f"crc32 {zlib.crc32(np.ascontiguousarray(self.data).tobytes()):08x}"
        return f"{self.name}: {self.type_text} = {content}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Node:
    """One operation.

    Attributes:
        name: unique in the graph; that of the ONNX node whose work this is.
        op: a key of ``ops.OPS``.
        inputs: names of tensors.
        outputs: names of tensors.
        attributes: plain values, as ``ops.OPS`` lists them; never changed once the node exists.
        source: names of the ONNX nodes it came from, in the model's order.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    source: tuple[str, ...] = ()

    @property
    def output(self) -> str:
        """The first output; most operations have one."""
        return self.outputs[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """Nodes in topological order and the tensors between them. A pass returns a new one.

    Attributes:
        name: the model's name.
        inputs: names of the tensors fed at run time, in the model's order.
        outputs: names of the results, in the model's order.
        nodes: each node stands behind the producers of its inputs.
        tensors: every tensor by name, constants included.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    tensors: Mapping[str, Tensor]

    @cached_property
    def producers(self) -> dict[str, Node]:
        """The node that computes a tensor, by the tensor's name."""
        return {output: node for node in self.nodes for output in node.outputs}

    @cached_property
    def consumers(self) -> dict[str, tuple[Node, ...]]:
        """The nodes that read a tensor, by the tensor's name; without those nobody reads."""
        found: dict[str, dict[str, Node]] = {}
        for node in self.nodes:
            for name in node.inputs:
                found.setdefault(name, {})[node.name] = node
        return {name: tuple(nodes.values()) for name, nodes in found.items()}

    @cached_property
    def cpu_nodes(self) -> tuple[Node, ...]:
        """What no integer operation stands for; each says why in its ``reason`` attribute."""
        return tuple(node for node in self.nodes if node.op == "cpu")

    def tensor(self, name: str) -> Tensor:
        """The tensor of that name."""
        return self.tensors[name]

    def inputs_of(self, node: Node) -> tuple[Tensor, ...]:
        """The tensors a node reads, in order."""
        return tuple(self.tensors[name] for name in node.inputs)

    def output_of(self, node: Node) -> Tensor:
        """The first tensor a node computes."""
        return self.tensors[node.output]

    def output_range(self, node: Node) -> tuple[int, int]:
        """Smallest and largest integer a node may write: its ``clamp``, or the range of its output's type."""
        if "clamp" in node.attributes:
            low, high = node.attributes["clamp"]
            return int(low), int(high)
        info = np.iinfo(self.output_of(node).numpy)
        return int(info.min), int(info.max)

    def __str__(self) -> str:
        lines = [f"graph {self.name}"]
        lines += [f"  input {self.tensors[name]}" for name in self.inputs]
        lines += [f"  const {self.tensors[name]}" for name in self._constants_in_order()]
        lines += [f"  {self._line(node)}" for node in self.nodes]
        lines += [f"  output {name}" for name in self.outputs]
        return "\n".join(lines)

    def _constants_in_order(self) -> list[str]:
        read = [name for node in self.nodes for name in node.inputs]
        return [name for name in dict.fromkeys([*read, *self.outputs]) if self.tensors[name].is_constant]

    def _line(self, node: Node) -> str:
        results = ", ".join(f"{self.tensors[name]}" for name in node.outputs)
        attributes = "".join(f" {key}={_attribute(value)}" for key, value in node.attributes.items())
        return f"{results} = {node.op}({', '.join(node.inputs)}){attributes}"


def _attribute(value: Any) -> str:
    """An attribute in text: tuples without spaces, bytes by their length, long tables by their ends."""
    if isinstance(value, tuple) and all(isinstance(item, int | float) for item in value):
        items = [f"{item:g}" if isinstance(item, float) else str(item) for item in value]
        if len(items) > 2 * _SHOWN_ELEMENTS:
            items = [*items[:_SHOWN_ELEMENTS], "..", items[-1]]
        return f"({','.join(items)})"
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def with_nodes(graph: Graph, nodes: Iterable[Node], tensors: Mapping[str, Tensor] | None = None) -> Graph:
    """``graph`` with other nodes, and with only those tensors that are still named somewhere."""
    nodes = tuple(nodes)
    known = graph.tensors if tensors is None else tensors
    named = [*graph.inputs, *graph.outputs, *(name for node in nodes for name in (*node.inputs, *node.outputs))]
    kept = {name: known[name] for name in dict.fromkeys(named)}
    return Graph(name=graph.name, inputs=graph.inputs, outputs=graph.outputs, nodes=nodes, tensors=kept)
