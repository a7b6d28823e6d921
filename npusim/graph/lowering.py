"""From real operators between DequantizeLinear and QuantizeLinear to integer operations.

Asks backwards: a QuantizeLinear wants a real value as integers of its scale; the rule of the operator that computes
the value says which integer operation gives that, and asks for its own operands the same way. What no rule can give
becomes a CPU subgraph that carries the reason. The rules live in ``rules``; this module knows no operator but the two
that quantize.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import cpu, quantize
from .ir import ACTIVATION_DTYPES, Array, Graph, Node, Quantization, Tensor
from .pointwise import Expression
from .refusal import ENTRIES, Refusal, check
from .source import SourceGraph, SourceNode
from .target import Target, whole_range


class Lowering:
    """The integer graph of one model while it grows.

    Attributes:
        source: the ONNX side.
        on_cpu: why nodes of the model have to stay CPU nodes, by their names, whatever their rules say.
        nodes: integer operations so far, in topological order; some may turn out to be unused.
        tensors: all tensors by name.
        refusals: the first refusal of each ONNX node, by the node's name.
        model_names: for tensors that were named before a QuantizeLinear claimed them: the name the model gives them.
    """

    def __init__(
        self, source: SourceGraph, moves: Moves, integer_rules: IntegerRules, express: Express,
        on_cpu: Mapping[str, str],
    ) -> None:  # fmt: skip
        self.source = source
        self.on_cpu = on_cpu
        self.nodes: list[Node] = []
        self.tensors: dict[str, Tensor] = {}
        self.refusals: dict[str, Refusal] = {}
        self.model_names: dict[str, str] = {}
        self._moves, self._integer_rules, self._express = moves, integer_rules, express
        self._realised: dict[tuple[Any, ...], Tensor] = {}
        self._quantized: dict[str, Tensor | None] = {}
        self._integers: dict[str, Tensor] = {}
        self._reals: dict[str, Tensor] = {}
        self._node_names: set[str] = set()
        for name in source.inputs:
            value = source.types[name]
            self.tensors[name] = Tensor(name=name, shape=value.shape, dtype=value.dtype)

    # ------------------------------------------------------------------------------------------- what rules ask for

    def shape(self, value: str) -> tuple[int, ...]:
        """Extents of an ONNX value."""
        return self.source.types[value].shape

    def is_real(self, value: str) -> bool:
        """Whether an ONNX value has a floating-point type."""
        return self.source.types[value].dtype[0] == "f"

    def array(self, value: str) -> Array | None:
        """The numbers of a constant, dequantized where the model holds it as integers; None where it is live."""
        if value in self.source.constants:
            return self.source.constants[value]
        tensor = self.quantized(value)
        if tensor is None or tensor.data is None or tensor.quantization is None:
            return None
        return quantize.dequantize(tensor.data, tensor.quantization)

    def current(self, tensor: Tensor) -> Tensor:
        """The record that the graph holds for a tensor by now."""
        return self.tensors[tensor.name]

    def quantized(self, value: str) -> Tensor | None:
        """The integers whose dequantization a real value is, or None where it is computed from real values."""
        if value not in self._quantized:
            try:
                self._quantized[value] = self._find_quantized(value)
            except Refusal:
                self._quantized[value] = None
        return self._quantized[value]

    def activation(self, value: str) -> Tensor | None:
        """As ``quantized``, but only 8- and 16-bit integers of one scale."""
        tensor = self.quantized(value)
        if tensor is None or tensor.dtype not in ACTIVATION_DTYPES or tensor.quantization is None:
            return None
        return tensor if tensor.quantization.per_tensor else None

    def realise(self, target: Target) -> Tensor:
        """Integers of a real value.

        Raises:
            Refusal: no integer operation gives them.
        """
        if target.key not in self._realised:
            self._realised[target.key] = self._realise(target)
        return self._realised[target.key]

    def integer(self, value: str) -> Tensor:
        """The tensor of an ONNX value that is an integer in the model."""
        if value not in self._integers:
            self._integers[value] = self._compute_integer(value)
        return self.current(self._integers[value])

    def real(self, value: str) -> Tensor:
        """The float32 tensor of a real value, dequantized or computed on the CPU."""
        if value not in self._reals:
            self._reals[value] = self._compute_real(value)
        return self._reals[value]

    def needs_cpu(self, value: str) -> bool:
        """Whether no integer operation gives a live value."""
        if value in self.source.inputs or value in self.source.constants:
            return False
        if not self.is_real(value):
            node = self.source.producers[value]
            has_rule = node.op == "QuantizeLinear" or node.op in self._moves or node.op in self._integer_rules
            return bool(self.why_on_cpu(node)) or not has_rule
        if value in self._reals or self.quantized(value) is not None:
            return False
        tensor = self._raw(value, self.source.producers[value])
        if tensor is not None:
            self.real(value)
        return tensor is None

    def remember(self, value: str, tensor: Tensor) -> None:
        """Note the tensor of a value that a CPU subgraph computes."""
        (self._reals if self.is_real(value) else self._integers)[value] = tensor

    # ------------------------------------------------------------------------------------------------ what rules emit

    def emit(
        self, target: Target, op: str, inputs: Sequence[Tensor], node: SourceNode,
        quantization: Quantization | None = None, **attributes: Any,
    ) -> Tensor:  # fmt: skip
        """Add the operation that computes a target.

        Args:
            target: decides name, type, shape and clamp of the result.
            op: a key of ``ops.OPS``.
            inputs: operands.
            node: the ONNX node whose work it is.
            quantization: of a raw accumulator, where the target leaves it open.
            attributes: of the operation.
        """
        if target.clamp != whole_range(target.dtype):
            attributes["clamp"] = target.clamp
        node = replace(node, source=tuple(dict.fromkeys((*node.source, *target.source))))
        result = Tensor(
            name=self.unique(target.name or f"{target.value}:q"),
            shape=self.shape(target.value),
            dtype=target.dtype,
            quantization=target.quantization or quantization,
        )
        return self.add(op, inputs, result, node, **attributes)

    def add(
        self, op: str, inputs: Sequence[Tensor], result: Tensor, node: SourceNode, *, others: Sequence[Tensor] = (),
        **attributes: Any,
    ) -> Tensor:  # fmt: skip
        """Add an operation with a given result; only a CPU subgraph has others."""
        name = node.name
        while name in self._node_names:
            name = f"{node.name}:{op}:{len(self._node_names)}" if name == node.name else f"{name}'"
        self._node_names.add(name)
        self.tensors |= {tensor.name: tensor for tensor in (result, *others)}
        names = tuple(tensor.name for tensor in inputs)
        outputs = (result.name, *(tensor.name for tensor in others))
        self.nodes.append(
            Node(name=name, op=op, inputs=names, outputs=outputs, attributes=attributes, source=node.source)
        )
        return result

    def constant(self, name: str, data: Array, dtype: str, quantization: Quantization | None = None) -> Tensor:
        """A constant tensor; an equal one of the same name is reused."""
        data = np.asarray(data)
        present = self.tensors.get(name)
        if present is not None and present.data is not None and np.array_equal(present.data, data):
            if present.quantization == quantization and present.dtype == dtype:
                return present
            name = f"{name}:{quantization}"
        tensor = Tensor(name=self.unique(name), shape=data.shape, dtype=dtype, quantization=quantization, data=data)
        self.tensors[tensor.name] = tensor
        return tensor

    def unique(self, name: str) -> str:
        """``name``, or a variation that no tensor has yet; a name of the model's interface stays its own."""
        candidate, count = name, 1
        while candidate in self.tensors:
            count += 1
            candidate = f"{name}:{count}"
        return candidate

    def check_allowed(self, node: SourceNode) -> None:
        """Refuse a node that has to stay on the CPU.

        Raises:
            Refusal: with the reason given.
        """
        reason = self.why_on_cpu(node)
        if reason:
            raise Refusal(node, reason)

    def why_on_cpu(self, node: SourceNode) -> str:
        """Why a node has to stay on the CPU whatever its rule says, or ""."""
        return next((self.on_cpu[name] for name in node.source if name in self.on_cpu), "")

    # -------------------------------------------------------------------------------------------------- quantization

    def parameters(self, node: SourceNode) -> Quantization | None:
        """Scale and zero point of a QuantizeLinear or DequantizeLinear; None where they are not constant float32."""
        scale = self.source.constants.get(node.input(1))
        if scale is None or scale.dtype != np.float32:
            return None
        zero = self.source.constants.get(node.input(2)) if node.input(2) else np.zeros(scale.shape, np.int64)
        if zero is None:
            return None
        block = int(node.attributes.get("block_size", 0))
        if scale.size == 1 and not block:
            return Quantization(scale=np.float32(scale.reshape(())), zero_point=int(zero.reshape(-1)[0]))
        rank = len(self.shape(node.inputs[0]))
        axis = int(node.attributes.get("axis", 1))
        axis += rank if axis < 0 else 0
        if not block:
            scale = scale.reshape(-1)
        zeros = np.broadcast_to(zero.astype(np.int64).reshape(-1 if zero.size == 1 else scale.shape), scale.shape)
        return Quantization(scale=scale, zero_point=zeros, axis=axis, block=block)

    def _find_quantized(self, value: str) -> Tensor | None:
        node = self.source.producers.get(value)
        if node is None or not self.is_real(value):
            return None
        self.check_allowed(node)
        if node.op == "DequantizeLinear":
            parameters = self.parameters(node)
            if parameters is None or self.source.types[value].dtype != "f32":
                return None
            return self.labelled(self.integer(node.inputs[0]), parameters, node)
        move = self._moves.get(node.op)
        if move is None:
            return None
        inputs = [self.quantized(name) for name in move.data(self, node)]
        tensors = [tensor for tensor in inputs if tensor is not None]
        if not tensors or len(tensors) < len(inputs):
            return None
        first = tensors[0]
        if any(t.quantization != first.quantization or t.dtype != first.dtype for t in tensors):
            return None
        return move.apply(self, node, value, tensors, "")

    def labelled(self, tensor: Tensor, quantization: Quantization, node: SourceNode) -> Tensor:
        """A tensor with the meaning that a DequantizeLinear gives it."""
        tensor = self.current(tensor)
        if tensor.quantization == quantization:
            return tensor
        if tensor.quantization is None:
            labelled = replace(tensor, quantization=quantization)
            self.tensors[tensor.name] = labelled
            return labelled
        name = f"{tensor.name}:{quantization}"
        if tensor.data is not None:
            return self.constant(name, tensor.data, tensor.dtype, quantization)
        result = replace(tensor, name=self.unique(name), quantization=quantization)
        return self.add("reinterpret", [tensor], result, node)

    def quantize_node(self, node: SourceNode) -> Tensor:
        """The result of a QuantizeLinear."""
        value, name = node.inputs[0], node.output
        parameters = self.parameters(node)
        dtype = self.source.types[name].dtype
        real_type = self.source.types[value].dtype
        if parameters is None or real_type != "f32" or self.why_on_cpu(node):
            reason = "it needs a constant float32 scale, a constant zero point, and float32 values"
            return cpu.subgraph(self, name, Refusal(node, self.why_on_cpu(node) or reason))
        target = Target(value=value, dtype=dtype, quantization=parameters, clamp=whole_range(dtype), name=name)
        try:
            tensor = self.realise(target)
        except Refusal as refusal:
            self.refusals.setdefault(refusal.node.name, refusal)
            self.refusals.setdefault(self._reader(value).name, refusal)
            return self.emit(target, "quantize", [self.real(value)], node)
        if tensor.name not in self.source.types and tensor.data is None:
            self.model_names.setdefault(tensor.name, name)
        return tensor

    # ---------------------------------------------------------------------------------------------------- the search

    def _realise(self, target: Target) -> Tensor:
        node = self.source.producers.get(target.value)
        data = self.source.constants.get(target.value)
        if data is not None and target.quantization is not None:
            integers = quantize.quantize(data, target.quantization, target.dtype)
            low, high = target.clamp
            clamped = np.clip(integers, low, high).astype(integers.dtype)
            return self.constant(target.name or f"{target.value}:q", clamped, target.dtype, target.quantization)
        if node is None:
            return self._quantize_real(target)
        if target.quantization is not None and not target.quantization.per_tensor:
            if self.quantized(target.value) is None:
                raise Refusal(node, "it needs one scale for the whole result")
            return self._quantize_real(target)
        tensor = self.quantized(target.value)
        if tensor is not None and target.quantization is not None:
            return self._adapt(tensor, target, node)
        return self._apply_rule(target, node)

    def _quantize_real(self, target: Target) -> Tensor:
        node = self._reader(target.value)
        return self.emit(target, "quantize", [self.real(target.value)], node)

    def _reader(self, value: str) -> SourceNode:
        """A node that reads a value: the one to name where the value has no producer."""
        return self.source.producers.get(value) or next(n for n in self.source.nodes if value in n.inputs)

    def _adapt(self, tensor: Tensor, target: Target, node: SourceNode) -> Tensor:
        """``tensor`` in the type, scale and range of a target with the same real values."""
        same = tensor.quantization == target.quantization and tensor.dtype == target.dtype
        if same and target.clamp == whole_range(target.dtype):
            return tensor
        assert tensor.quantization is not None
        if not tensor.quantization.per_tensor:
            if tensor.data is None:
                raise Refusal(node, "it needs one scale for its whole operand")
            assert target.quantization is not None
            integers = quantize.quantize(
                quantize.dequantize(tensor.data, tensor.quantization), target.quantization, target.dtype
            )
            return self.constant(target.name or f"{target.value}:q", integers, target.dtype, target.quantization)
        return self.emit(target, "rescale", [tensor], node)

    def _apply_rule(self, target: Target, node: SourceNode) -> Tensor:
        self.check_allowed(node)
        entry = ENTRIES.get(node.op)
        move = self._moves.get(node.op)
        if move is not None and target.quantization is not None:
            try:
                inputs = [self.realise(target.of(name)) for name in move.data(self, node)]
                return move.apply(self, node, target.value, inputs, target.name)
            except Refusal:
                if entry is None:
                    raise
        refusal = Refusal(node, "it has no integer operation")
        if entry is not None:
            try:
                check(entry, self, node)
                return entry.rule(self, node, target)
            except Refusal as found:
                refusal = found
        found_expression = self._express(self, target.value) if target.quantization is not None else None
        if isinstance(found_expression, Refusal):
            raise refusal if entry is not None else found_expression
        if found_expression is None:
            raise refusal
        leaf, expression, source = found_expression
        op = "table" if expression.axis is None else "tables"
        return self.emit(target, op, [leaf], replace(node, source=source), expression=expression)

    def _compute_integer(self, value: str) -> Tensor:
        source = self.source
        if value in source.constants:
            return self.constant(value, source.constants[value], source.types[value].dtype)
        if value in source.inputs:
            return self.tensors[value]
        node = source.producers[value]
        if node.op == "QuantizeLinear":
            return self.quantize_node(node)
        try:
            self.check_allowed(node)
            move = self._moves.get(node.op)
            if move is not None and not any(self.is_real(name) for name in move.data(self, node)):
                inputs = [self.integer(name) for name in move.data(self, node)]
                return move.apply(self, node, value, inputs, value)
            rule = self._integer_rules.get(node.op)
            if rule is not None:
                return rule(self, node, value)
            lacks = "it needs a DequantizeLinear in front of it and a QuantizeLinear behind it"
            refusal = Refusal(node, lacks if node.op in ENTRIES else "it has no integer operation")
        except Refusal as found:
            refusal = found
        return cpu.subgraph(self, value, refusal)

    def _compute_real(self, value: str) -> Tensor:
        source = self.source
        if value in source.inputs:
            return self.tensors[value]
        if value in source.constants:
            return self.constant(value, source.constants[value], source.types[value].dtype)
        node = source.producers[value]
        tensor = self.quantized(value)
        if tensor is None:
            tensor = self._raw(value, node)
        if tensor is None:
            return cpu.subgraph(self, value, self.refusals.get(node.name))
        result = Tensor(name=self.unique(value), shape=tensor.shape, dtype="f32")
        return self.add("dequantize", [tensor], result, node)

    def _raw(self, value: str, node: SourceNode) -> Tensor | None:
        """The accumulator of a product whose result stays real, or None where the value is no such product."""
        if node.op not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or self.source.types[value].dtype != "f32":
            return None
        target = Target(value=value, dtype="s32", quantization=None, clamp=whole_range("s32"))
        try:
            return self.realise(target)
        except Refusal as refusal:
            self.refusals.setdefault(node.name, refusal)
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """An operator that takes elements from its operands without arithmetic, so that quantization passes through.

    Attributes:
        data: names of the operands whose elements it takes.
        apply: emits it on tensors of one type and quantization: (lowering, node, output value, tensors, name of the
            result or "").
    """

    data: Callable[[Lowering, SourceNode], Sequence[str]]
    apply: Callable[[Lowering, SourceNode, str, list[Tensor], str], Tensor]


Moves = dict[str, Move]
IntegerRules = dict[str, Callable[[Lowering, SourceNode, str], Tensor]]
Express = Callable[[Lowering, str], "tuple[Tensor, Expression, tuple[str, ...]] | Refusal | None"]


def lower(
    source: SourceGraph, moves: Moves, integer_rules: IntegerRules, express: Express, on_cpu: Mapping[str, str]
) -> Graph:
    """The integer graph of a model; the nodes of ``on_cpu`` stay CPU nodes for the reasons given.

    Requires: ``fold``. Ensures: nodes in topological order, each an operation of ``ops.OPS``; what could not be lowered
    is a ``cpu`` node. Unused nodes may be left; ``tidy`` removes them.
    """
    lowering = Lowering(source, moves, integer_rules, express, on_cpu)
    for node in source.nodes:  # front to back, so that the backward search never goes far
        for value in node.outputs:
            if value and not lowering.is_real(value):
                lowering.integer(value)
    results = {value: lowering.real(value) if lowering.is_real(value) else lowering.integer(value)
               for value in source.outputs}  # fmt: skip
    return _name_results(lowering, results)


def _renamed_constant(lowering: Lowering, tensor: Tensor) -> Tensor:
    """A constant under another name, for all who read it."""
    moved = replace(tensor, name=lowering.unique(f"{tensor.name}:constant"))
    del lowering.tensors[tensor.name]
    lowering.tensors[moved.name] = moved
    lowering.nodes = [
        replace(node, inputs=tuple(moved.name if name == tensor.name else name for name in node.inputs))
        for node in lowering.nodes
    ]
    return moved


def _name_results(lowering: Lowering, results: dict[str, Tensor]) -> Graph:
    """Give tensors the names they have in the model; a result whose tensor has another name is a copy."""
    names = {old: new for old, new in lowering.model_names.items() if new not in lowering.tensors}
    for value, tensor in results.items():
        name = names.get(tensor.name, tensor.name)
        if name == value and tensor.is_constant:  # nothing computes it: a copy does, under its name
            tensor = _renamed_constant(lowering, tensor)
        elif name == value:
            continue
        stand_in = SourceNode(name=f"output:{value}", op="Identity", inputs=(tensor.name,), outputs=(value,))
        result = replace(lowering.current(tensor), name=value, data=None)
        lowering.add("reshape", [tensor], result, stand_in)
    tensors = [replace(tensor, name=names.get(name, name)) for name, tensor in lowering.tensors.items()]
    nodes = [
        replace(
            node,
            inputs=tuple(names.get(name, name) for name in node.inputs),
            outputs=tuple(names.get(name, name) for name in node.outputs),
        )
        for node in lowering.nodes
    ]
    return Graph(
        name=lowering.source.name,
        inputs=lowering.source.inputs,
        outputs=lowering.source.outputs,
        nodes=tuple(nodes),
        tensors={tensor.name: tensor for tensor in tensors},
    )
