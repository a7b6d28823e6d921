"""GELU that exporters spell out in real operators becomes one operator again.

Part of the float graph optimization. A spelling is recognised by what it computes: the chain is evaluated, so that the
order of its factors does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from npusim.graph.ir import Array
from npusim.graph.pointwise import FUNCTIONS, gelu, gelu_tanh
from npusim.graph.rules.expression import BINARY, PLAIN
from npusim.graph.source import SourceGraph, SourceNode

from .editor import Editor

_POINTS = np.linspace(-8.0, 8.0, 257)
_TOLERANCE = 1e-4
"""Of the result; exporters write the constants with four digits or more."""
_LONGEST = 16
"""Operators of the longest spelling that is tried; the tanh form has nine."""
_STANDARD_SINCE = 20  # opset of ONNX's own Gelu


def fuse_gelu(graph: SourceGraph) -> SourceGraph:
    """``graph`` with each GELU as one node: ONNX's own from opset 20 on, onnxruntime's before.

    Requires: types (``fold``). Ensures: a Mul that computes the exact or the tanh form of GELU from one value, with
    inner values that nobody else reads, is one node.
    """
    editor = Editor(graph)
    for node in graph.nodes:
        if node.op != "Mul" or editor.current(node) is None:
            continue
        for leaf in _candidates(editor, node):
            members = _members(editor, node, leaf)
            form = _form(editor, node, leaf) if members else None
            if form is not None:
                _replace(editor, node, leaf, members, form)
                break
    return editor.finish()


def _replace(editor: Editor, node: SourceNode, leaf: str, members: list[SourceNode], form: str) -> None:
    source = tuple(dict.fromkeys(name for member in members for name in member.source))
    for member in members:
        editor.remove(member)
    attributes: dict[str, Any] = {}
    if editor.graph.opset >= _STANDARD_SINCE:
        op = "Gelu"
        attributes = {"approximate": form}
    else:
        op = "com.microsoft.Gelu" if form == "none" else "com.microsoft.FastGelu"
    editor.put(replace(node, op=op, inputs=(leaf,), attributes=attributes, source=source))


def _candidates(editor: Editor, node: SourceNode) -> Iterator[str]:
    """Values that may be the variable: live factors of the product that ``node`` computes."""
    pending = list(node.inputs)
    while pending:
        value = pending.pop(0)
        if value in editor.constants:
            continue
        yield value
        producer = editor.producer(value)
        if producer is not None and producer.op in ("Mul", "Div") and editor.is_private(value):
            pending += producer.inputs


def _members(editor: Editor, last: SourceNode, leaf: str) -> list[SourceNode]:
    """The nodes between ``leaf`` and ``last``, if all are pointwise, private, and one is an Erf or Tanh; or none."""
    found = {last.name: last}
    pending = [last]
    while pending:
        node = pending.pop()
        for value in node.inputs:
            if value == leaf or editor.number(value) is not None:
                continue
            producer = editor.producer(value)
            if producer is None or (producer.op not in PLAIN and producer.op not in BINARY) or len(found) > _LONGEST:
                return []
            if producer.name not in found:
                found[producer.name] = producer
                pending.append(producer)
    for node in found.values():
        if node is not last and any(reader.name not in found for reader in editor.readers(node.output)):
            return []
        if node is not last and node.output in editor.graph.outputs:
            return []
    return list(found.values()) if any(node.op in ("Erf", "Tanh") for node in found.values()) else []


def _form(editor: Editor, node: SourceNode, leaf: str) -> str | None:
    """Which GELU ``node`` computes, as the attribute ``approximate`` calls it, or None."""
    with np.errstate(all="ignore"):
        result = _evaluate(editor, node.output, leaf)
    for form, function in (("none", gelu), ("tanh", gelu_tanh)):
        if np.allclose(result, function(_POINTS), rtol=0, atol=_TOLERANCE):
            return form
    return None


def _evaluate(editor: Editor, value: str, leaf: str) -> Array:
    if value == leaf:
        return _POINTS
    number = editor.number(value)
    if number is not None:
        return np.asarray(number)
    node = editor.producer(value)
    assert node is not None
    operands = [_evaluate(editor, name, leaf) for name in node.inputs]
    return np.asarray(FUNCTIONS[PLAIN.get(node.op) or BINARY[node.op]](*operands))
