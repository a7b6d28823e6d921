"""``check``: where, if anywhere, a built model's integers leave those of onnxruntime on the quantized ONNX file.

Used by ``npusim check`` and by tests. The model runs freely: every tensor is compared with what onnxruntime has there,
after the built model's own results so far.

How tensors inside of a built model are seen is the business of ``probes``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from npusim.axmodel import OPERATOR, Axmodel
from npusim.config import Hardware
from npusim.errors import UsageError
from npusim.graph import Graph, Tensor
from npusim.graph.import_onnx import read_model
from npusim.session.builder import ON_CPU_KEY, load_graph
from npusim.session.call import call
from npusim.session.inference import check_feeds
from npusim.session.machine import hardware_of
from npusim.session.probes import make_probes
from npusim.session.quantization import FLOAT, type_of
from npusim.session.samples import random_feeds

Array = np.ndarray[Any, Any]

NO_PROBE = (
    "the file is not what this version builds from this model, so its inner tensors cannot be seen; those compared are "
    "of a fresh build"
)

WIDE = (
    "onnxruntime has no integer kernel for products of 16 bits and adds in float32; a few elements that differ by 1 "
    "there are its rounding"
)
PRODUCTS = ("conv", "conv_transpose", "matmul")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One tensor, ours and onnxruntime's.

    Attributes:
        tensor: its name.
        node: the operation that computes it.
        op: what that operation is.
        differing: how many elements differ.
        total: how many there are.
        largest: largest difference, in steps of the integers, or as a number where they are floats.
        index: of the first element that differs; () where none does.
        ours: that element.
        theirs: the same in onnxruntime.
    """

    tensor: str
    node: str
    op: str
    differing: int
    total: int
    largest: float
    index: tuple[int, ...] = ()
    ours: float = 0
    theirs: float = 0

    def __str__(self) -> str:
        name = f"{self.tensor} ({self.op} {self.node})"
        if not self.differing:
            return f"{name}: all {self.total:,} elements equal"
        place = ", ".join(map(str, self.index))
        return (
            f"{name}: {self.differing:,} of {self.total:,} elements differ, by at most {self.largest:g}; the first at "
            f"[{place}] is {self.ours:g}, onnxruntime has {self.theirs:g}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What a check found.

    Attributes:
        first: the first tensor that differs, in the order of the graph; None where all agree.
        outputs: every output of the file under test.
        compared: how many tensors were compared.
        elements: how many elements they have.
        note: what the reader must know about the comparison; "" where there is nothing.
    """

    first: Comparison | None
    outputs: tuple[Comparison, ...]
    compared: int
    elements: int
    note: str = ""

    @property
    def agrees(self) -> bool:
        """Whether every tensor equals onnxruntime's."""
        return self.first is None


def check(
    source: str | os.PathLike[str] | onnx.ModelProto,
    built: Axmodel,
    feeds: Mapping[str, Array] | None = None,
    *,
    hardware: Hardware | None = None,
    seed: int = 0,
    report: Callable[[float, str], None] | None = None,
) -> Agreement:
    """Compare a built model with onnxruntime, tensor by tensor.

    Args:
        source: the quantized ONNX file it was built from.
        built: the file under test.
        feeds: its inputs; by default seeded random ones.
        hardware: the machine; by default the one the file was built for.
        seed: of the random inputs.
        report: told how much of the work is done, and what comes next.

    Raises:
        UsageError: the file was not built from this model, which is the float one or a built one, or inputs that do
            not fit.
        ModelError, UnsupportedError: the model cannot be read.
    """
    tell = report or _silence
    machine = hardware or hardware_of(built)
    graph = _matching_graph(source, built)
    inputs = check_feeds(built.inputs, feeds if feeds is not None else random_feeds(built.inputs, seed))
    tell(0.0, "onnxruntime")
    model = source if isinstance(source, onnx.ModelProto) else onnx.load(source)
    inner = inner_tensors(graph, model)
    expected = onnxruntime_values(model, inputs, inner) | onnxruntime_values(model, inputs, ())
    tell(0.1, "outputs")
    actual = _run(machine, built, inputs)
    outputs = tuple(_compare(graph, name, actual[name], expected[name]) for name in graph.outputs)
    found, note = list(outputs), ""
    tell(0.4, "a program that keeps every tensor")
    for probe in make_probes(graph, machine, built, inner):
        note = "" if probe.own else NO_PROBE
        share = 0.6 + 0.4 * (len(found) - len(outputs)) / len(inner)
        tell(share, f"{len(probe.readers)} inner tensors")
        values = _run(machine, probe.model, inputs)
        for name, reader in probe.readers.items():
            found.append(_compare(graph, name, reader.read(values), expected[name]))
    place = {name: index for index, name in enumerate(graph.producers)}
    first = min((each for each in found if each.differing), key=lambda each: place[each.tensor], default=None)
    elements = sum(each.total for each in found)
    note = "; ".join(filter(None, (note, WIDE if first is not None and _is_wide_product(graph, first.tensor) else "")))
    return Agreement(first=first, outputs=outputs, compared=len(found), elements=elements, note=note)


def _is_wide_product(graph: Graph, name: str) -> bool:
    """Whether a tensor is the result of a product with an operand of 16 bits."""
    node = graph.producers.get(name)
    if node is None or node.op not in PRODUCTS:
        return False
    return any(graph.tensor(operand).dtype in ("s16", "u16") for operand in node.inputs)


def _silence(share: float, stage: str) -> None:
    del share, stage


# ------------------------------------------------------------------------------------------------- what is compared


def _matching_graph(source: str | os.PathLike[str] | onnx.ModelProto, built: Axmodel) -> Graph:
    """The integer graph of the model, if its interface is that of the file under test."""
    shapes = {port.name: port.shape for port in built.inputs}
    model, _, _ = read_model(source if isinstance(source, onnx.ModelProto) else Path(source))
    if any(node.op_type == OPERATOR for node in model.graph.node):
        raise UsageError("a built model is compared with the ONNX file it came from: name that one as the model")
    if type_of(model) == FLOAT:
        raise UsageError("a float model has no integers to compare: name the quantized one, quant/quant_axmodel.onnx")
    described = _interface(model)
    for what, names, ports in (("inputs", described[0], built.inputs), ("outputs", described[1], built.outputs)):
        if names != [port.name for port in ports]:
            there = [port.name for port in ports]
            raise UsageError(f"{built.name} was not built from this model: its {what} are {there}, the model's {names}")
    moved = built.config.get(ON_CPU_KEY)
    graph = load_graph(source, shapes, cpu_fallback=moved is not None, on_cpu=moved)
    for port in (*built.inputs, *built.outputs):
        tensor = graph.tensor(port.name)
        if (tensor.dtype, tensor.shape) != (port.dtype, port.shape):
            raise UsageError(f"{built.name} was not built from this model: it has {port}, the model {tensor}")
    return graph


def _interface(model: onnx.ModelProto) -> tuple[list[str], list[str]]:
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value.name for value in model.graph.input if value.name not in constants]
    return inputs, [value.name for value in model.graph.output]


def inner_tensors(graph: Graph, model: onnx.ModelProto) -> list[str]:
    """Integer tensors that both the graph and the ONNX file compute under the same name, in the graph's order."""
    known = {name for node in model.graph.node for name in node.output}
    shown = {*graph.inputs, *graph.outputs}
    return [
        name
        for node in graph.nodes
        for name in node.outputs
        if name in known and name not in shown and graph.tensor(name).dtype[0] in "su"
    ]


def onnxruntime_values(model: onnx.ModelProto, feeds: Mapping[str, Array], inner: Sequence[str]) -> dict[str, Array]:
    """What onnxruntime computes with its integer kernels: the model's outputs, and inner tensors by name."""
    from npusim.quant import exact

    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    session = exact.session(exposed)
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def _compare(graph: Graph, name: str, data: Array, expected: Array) -> Comparison:
    tensor: Tensor = graph.tensor(name)
    node = graph.producers.get(name)
    theirs = np.asarray(expected)
    ours = data.view(tensor.numpy).reshape(tensor.shape)
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        found = f"{theirs.dtype}{list(theirs.shape)}"
        raise UsageError(f"tensor {name} is {tensor.type_text} here and {found} in onnxruntime: not the same model")
    maker, op = (node.name, node.op) if node is not None else (name, "input")
    different = np.asarray((ours != theirs) & ~((ours != ours) & (theirs != theirs)))  # NaNs are equal
    count = int(np.count_nonzero(different))
    same = Comparison(tensor=name, node=maker, op=op, differing=count, total=tensor.size, largest=0)
    if not count:
        return same
    index = tuple(int(axis[0]) for axis in np.nonzero(np.atleast_1d(different)))[: different.ndim]
    wide = np.float64 if tensor.dtype[0] == "f" else np.int64
    largest = np.max(np.abs(ours.astype(wide) - theirs.astype(wide)))
    return replace(same, largest=float(largest), index=index, ours=float(ours[index]), theirs=float(theirs[index]))


def _run(hardware: Hardware, model: Axmodel, feeds: Mapping[str, Array]) -> dict[str, Array]:
    from npusim.sim import Mode

    # a program under test may be broken; what it computes is the question
    return call(model, hardware, feeds, Mode.VALUES, allow_unverified=True).jobs[0].outputs
