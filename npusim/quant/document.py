"""A ``SourceGraph`` written as an ONNX file again.

Used between the stages of ``quantize``, so that every stage takes and gives a standard model. Nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from npusim.graph.ir import Array
from npusim.graph.source import SourceGraph, type_proto

MICROSOFT = "com.microsoft"
"""Domain of onnxruntime's own operators."""


def write_model(graph: SourceGraph, like: onnx.ModelProto) -> onnx.ModelProto:
    """A graph as a model with the metadata of another.

    Args:
        graph: after ``fold``.
        like: gives producer, metadata and the version of the file format.
    """
    body = helper.make_graph(
        [node.proto() for node in graph.nodes],
        graph.name,
        [helper.make_value_info(name, type_proto(graph.types[name])) for name in graph.inputs],
        [helper.make_value_info(name, type_proto(graph.types[name])) for name in graph.outputs],
        [tensor_proto(array, name) for name, array in graph.constants.items()],
        value_info=[
            helper.make_value_info(name, type_proto(graph.types[name]))
            for node in graph.nodes
            for name in node.outputs
            if name in graph.types and name not in graph.outputs
        ],
    )
    return wrap_graph(body, graph.opsets, like)


def wrap_graph(body: onnx.GraphProto, opsets: Mapping[str, int], like: onnx.ModelProto) -> onnx.ModelProto:
    """A finished graph as a model with the metadata of another."""
    used = {node.domain for node in body.node}
    known = {**{domain: 1 for domain in used if domain == MICROSOFT}, **opsets}
    entries = [helper.make_opsetid(domain, version) for domain, version in known.items()]
    standard = [entry for entry in entries if not entry.domain]
    model = helper.make_model(
        body,
        opset_imports=entries,
        ir_version=max(like.ir_version, helper.find_min_ir_version_for(standard, ignore_unknown=True)),
        producer_name=like.producer_name,
        producer_version=like.producer_version,
    )
    model.metadata_props.extend(like.metadata_props)
    return model


def tensor_proto(array: Array, name: str) -> onnx.TensorProto:
    """A constant of the file; arrays without dimensions stay so."""
    return numpy_helper.from_array(np.array(array, order="C"), name)
