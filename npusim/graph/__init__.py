"""From an ONNX file to a small graph of integer operations that a compiler lowers one by one.

``load`` is the way in; its body is the list of stages. The forms a model takes on the way:

* ``source.SourceGraph``: ONNX nodes, constants and types, every form of quantization brought to QDQ;
* ``ir.Graph``: operations of ``ops.OPS`` on quantized tensors, in topological order. ``str(graph)`` is readable, and
  the form in which tests state what they expect.

Between a DequantizeLinear and a QuantizeLinear a model computes with real numbers. Lowering asks backwards from every
QuantizeLinear which integer operation gives its result: the operator's rule in ``rules`` answers, with its own operands
asked for in the same way. Movement of elements passes quantization through; bounds become the clamp of the operation
in front of them; a chain of functions of one variable becomes one ``table``. What no rule can give stays a ``cpu`` node
that carries its part of the model, the ONNX node at fault and the constraint that failed: ``require_integer`` makes it
an error, a session may run it instead.

An operator is one function in ``rules``; an operation is one entry in ``ops``. Nothing here knows the hardware.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from onnx import ModelProto

from . import import_onnx, lowering, ops, tidy
from .fold import FOLDED_ONLY, fold
from .ir import Array, Graph, Node, Quantization, Tensor
from .pointwise import Expression, Step
from .recognise import recognise
from .refusal import ENTRIES, ModelError, UnsupportedError, refuse_empty, unsupported
from .rules import INTEGER_RULES, MOVES, express, expression, movement
from .rules.expression import CONDITIONAL, POINTWISE
from .unpack import FORMS, RENAMED, unpack

__all__ = ["Expression", "Graph", "ModelError", "Node", "Quantization", "Step", "Tensor", "UnsupportedError", "load",
           "require_integer", "support_table"]  # fmt: skip


def load(
    model: str | Path | bytes | ModelProto,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    constants: Mapping[str, Array] | None = None,
    on_cpu: Mapping[str, str] | None = None,
) -> Graph:
    """Read a quantized ONNX model and lower it to integer operations.

    Args:
        model: path, content or parsed form of an ONNX file. External data is read from the path's own folder only.
        input_shapes: extents of inputs by name, where the model leaves them open.
        constants: inputs that become constants, by name.
        on_cpu: ONNX nodes that stay CPU nodes, with the reason for each.

    Returns:
        The graph. Its ``cpu_nodes`` are the parts without integer operations.

    Raises:
        ModelError: the file is damaged or inconsistent.
        UnsupportedError: the model cannot be imported at all, not even for the CPU.
        UsageError: ``input_shapes`` or ``constants`` do not fit.
    """
    source = import_onnx.import_model(model, input_shapes, constants)  # file to nodes, constants and types
    on_cpu = {**dict.fromkeys(source.kept_real, "the model keeps it in FP32"), **(on_cpu or {})}
    source = unpack(source)  # QLinear operators to DequantizeLinear, operator, QuantizeLinear
    source = fold(source)  # types everywhere; what depends on constants and shapes only becomes constant
    source = recognise(source)  # normalizations spelled out in real operators become one
    graph = lowering.lower(source, MOVES, INTEGER_RULES, express, on_cpu)  # real operators to integer operations
    graph = tidy.drop_unused(graph)  # what the search tried and did not need
    graph = tidy.share_equal(graph)  # one reshape where several operators asked for the same
    graph = tidy.join_movement(graph)  # reshapes of reshapes, transposes of transposes
    graph = tidy.find_rolls(graph)  # slices that are put together again in another order
    graph = tidy.label_movement(graph)  # quantization of inputs that are moved before they are dequantized
    ops.check(graph)
    refuse_empty(graph)
    return graph


def require_integer(graph: Graph) -> Graph:
    """The graph itself, if all of it is integer operations.

    Raises:
        UnsupportedError: naming the first ONNX node that is not, and what it would have needed.
    """
    if graph.cpu_nodes:
        raise unsupported(graph.cpu_nodes[0])
    return graph


def support_table() -> list[tuple[str, tuple[str, ...]]]:
    """Every supported ONNX operator with what it needs, in words, sorted by name."""
    table: dict[str, tuple[str, ...]] = {name: entry.sentences for name, entry in ENTRIES.items()}
    for name in POINTWISE:
        table.setdefault(name, expression.needs(name))
    for name in CONDITIONAL:
        condition = "it needs one live input, numbers as its other operands, and a Where or a Cast to float behind it"
        table.setdefault(name, (condition,))
    for name in FOLDED_ONLY:
        table.setdefault(name, ("it needs a result that follows from constants and shapes",))
    for name in MOVES:
        table.setdefault(name, movement.NEEDS[name])
    for name in (*INTEGER_RULES, *RENAMED, "QuantizeLinear", "DequantizeLinear", "Constant"):
        table.setdefault(name, ())
    for name in FORMS:
        table.setdefault(name, ("it needs constant scales and zero points",))
    return sorted(table.items())
