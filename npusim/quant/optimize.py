"""The float graph before quantization: fewer operators, the same function.

``optimize`` is the list of passes; ``check_same`` holds the result against the original in onnxruntime. Every pass
takes and gives a ``SourceGraph`` and lives in a module of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from npusim.errors import UsageError
from npusim.graph.fold import fold
from npusim.graph.import_onnx import import_model
from npusim.graph.recognise import recognise
from npusim.graph.source import SourceGraph

from .affine import fold_affine
from .document import write_model
from .editor import Editor, drop_unused
from .errors import QuantizationError
from .factors import defer_factors
from .gelu import fuse_gelu
from .runtime import Runner
from .settings import Feeds

TOLERANCE = 1e-3
"""How far an output of the optimized graph may be from the original's, as a share of the output's largest value.

Other summation orders of float32 in deep networks make up to 1e-4; a pass that changes the function makes far more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimized:
    """A float model ready for quantization.

    Attributes:
        model: what is quantized.
        sources: names of the original's nodes that each of its nodes stands for, by name.
    """

    model: onnx.ModelProto
    sources: Mapping[str, tuple[str, ...]]


def optimize(
    model: onnx.ModelProto, input_shapes: Mapping[str, Sequence[int]] | None = None, *, fuse: bool = True
) -> Optimized:
    """Fold and fuse a float model.

    Args:
        model: with float32 activations.
        input_shapes: extents of inputs by name, where the model leaves them open.
        fuse: whether operators are joined; constants are folded in any case.

    Raises:
        ModelError: the model is damaged.
        UnsupportedError: it cannot be imported.
        UsageError: it is quantized already.
    """
    source = import_model(model, input_shapes)
    _refuse_quantized(source)
    source = fold(source)  # types everywhere; what depends on constants and shapes only becomes constant
    source = drop_silent(source)  # Identity, Dropout
    if fuse:
        source = recognise(source)  # normalizations spelled out in real operators
        source = fuse_gelu(source)  # GELU likewise
        source = fold_affine(source)  # batch normalization, factors and offsets of channels
        source = defer_factors(source)  # the factor of attention goes behind the product
    source = drop_unused(source)
    return Optimized(model=write_model(source, model), sources={node.name: node.source for node in source.nodes})


def drop_silent(graph: SourceGraph) -> SourceGraph:
    """``graph`` without operators that change nothing.

    Requires: types (``fold``). Ensures: no Identity or Dropout is left but between an input and an output.
    """
    editor = Editor(graph)
    for original in graph.nodes:
        node = editor.current(original)
        assert node is not None
        if node.op not in ("Identity", "Dropout") or any(editor.readers(name) for name in node.outputs[1:] if name):
            continue
        value, result = node.inputs[0], node.output
        if result not in graph.outputs:
            editor.remove(node)
            editor.redirect(result, value)
            continue
        producer = editor.producer(value)
        if producer is None or value in graph.outputs:
            continue
        editor.remove(node)
        editor.redirect(value, result)
        producer = editor.producer(value)
        assert producer is not None
        outputs = tuple(result if name == value else name for name in producer.outputs)
        editor.put(replace(producer, outputs=outputs))
    return editor.finish()


def check_same(original: onnx.ModelProto, optimized: onnx.ModelProto, feeds: Feeds) -> None:
    """Compare the outputs of two float models on one sample.

    Raises:
        QuantizationError: they differ by more than rounding.
    """
    names = [value.name for value in original.graph.output]
    expected = Runner(original, names).run(feeds, 0)
    found = Runner(optimized, names).run(feeds, 0)
    for name in names:
        wanted = np.asarray(expected[name], np.float64)
        distance = np.abs(np.asarray(found[name], np.float64) - wanted)
        largest = float(np.max(np.abs(wanted), initial=0.0))
        if not float(np.max(distance, initial=0.0)) <= TOLERANCE * largest + np.finfo(np.float32).tiny:
            raise QuantizationError(
                f"the optimized float graph computes {name!r} otherwise than the model: it differs by "
                f"{np.max(distance):.3g} where the largest value is {largest:.3g}; quantize without fusion",
                tensor=name,
            )


def _refuse_quantized(graph: SourceGraph) -> None:
    node = next((node for node in graph.nodes if "QuantizeLinear" in node.op or "QLinear" in node.op), None)
    if node is not None:
        raise UsageError(f"the model is quantized already: node {node.name!r} is a {node.op}")
