"""A number that multiplies an operand of a product of activations moves behind the product.

Part of the float graph optimization. In front of the product it would cost a pass over the tensor and a rounding;
behind it, it joins the accumulator's scale. This is the ``1 / sqrt(d)`` of attention.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from npusim.graph.source import SourceGraph, SourceNode

from .editor import Editor


def defer_factors(graph: SourceGraph) -> SourceGraph:
    """``graph`` with positive numbers multiplied to the result of a MatMul, and not to its live operands.

    Requires: types (``fold``). Ensures: no live operand of a MatMul of two live operands is a private product with a
    positive number, unless the result is one of the graph's.
    """
    editor = Editor(graph)
    for node in graph.nodes:
        current = editor.current(node)
        if current is None or current.op != "MatMul" or any(name in editor.constants for name in current.inputs):
            continue
        for index in (0, 1):
            _defer(editor, node, index)
    return editor.finish()


def _defer(editor: Editor, product: SourceNode, index: int) -> None:
    current = editor.current(product)
    assert current is not None
    scaling = editor.producer(current.inputs[index])
    found = None if scaling is None else _factor(editor, scaling)
    if scaling is None or found is None or not editor.is_private(scaling.output):
        return
    value, factor = found
    inputs = tuple(value if at == index else operand for at, operand in enumerate(current.inputs))
    follower = _follower(editor, current)
    if follower is not None:  # the other operand's number is there already: one number for both
        other = _factor(editor, follower)
        assert other is not None
        constant = editor.constant(f"{follower.name}:factor", np.asarray(other[1] * factor, np.float32))
        editor.remove(scaling)
        editor.put(replace(current, inputs=inputs))
        source = (*follower.source, *scaling.source)
        editor.put(replace(follower, op="Mul", inputs=(current.output, constant), source=tuple(dict.fromkeys(source))))
        return
    inner = f"{current.output}:unscaled"
    constant = editor.constant(f"{scaling.name}:factor", np.asarray(factor, np.float32))
    editor.types[inner] = editor.types[current.output]
    editor.remove(scaling)
    editor.put(replace(current, inputs=inputs, outputs=(inner,)))
    editor.put(replace(scaling, op="Mul", inputs=(inner, constant), outputs=(current.output,)))


def _follower(editor: Editor, product: SourceNode) -> SourceNode | None:
    """The multiplication by a number that reads a product alone."""
    if not editor.is_private(product.output):
        return None
    (reader,) = editor.readers(product.output)
    return reader if _factor(editor, reader) is not None else None


def _factor(editor: Editor, node: SourceNode) -> tuple[str, float] | None:
    """A Mul or Div as its live operand and a positive number, or None."""
    if node.op not in ("Mul", "Div") or len(node.inputs) != 2:
        return None
    pairs = (node.inputs, node.inputs[::-1]) if node.op == "Mul" else (node.inputs,)
    for value, name in pairs:
        number = editor.number(name)
        same_shape = value in editor.types and editor.types[value].shape == editor.types[node.output].shape
        if number is not None and value not in editor.constants and number > 0 and same_shape:
            return value, number if node.op == "Mul" else 1 / number
    return None
