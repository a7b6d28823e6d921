"""What lowering functions work with: the views of all tensors, the cores, and the common ways to cut work.

A lowering function is called once per node, in graph order, and adds steps to the plan through the cores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from isa.dtypes import DType
from isa.instructions import Parameters
from isa.program import SegmentKind
from npusim.config import Hardware
from npusim.errors import NpusimError
from npusim.graph import Graph, Node, Tensor

from .core import Core
from .plan import Plan, Storage
from .view import View, dense


class LoweringError(NpusimError):
    """A node cannot be lowered; the message names node, operation and constraint.

    Attributes:
        node: its name in the graph, or "" until the stage that knows it has added it.
    """

    def __init__(self, message: str, node: str = "") -> None:
        super().__init__(message)
        self.node = node


@dataclass(slots=True, eq=False)
class Context:
    """The state of one compilation.

    Attributes:
        views: where each tensor that exists so far lies.
    """

    graph: Graph
    hardware: Hardware
    plan: Plan
    cores: list[Core]
    views: dict[str, View] = field(default_factory=dict)
    copies: dict[str, list[str]] = field(default_factory=dict)  # by tensor: its copies in other orders
    wanted: dict[str, int] = field(default_factory=dict)  # by tensor: how often nodes to come name it
    tenants: dict[str, set[str]] = field(default_factory=dict)  # by storage: wanted tensors that lie in it

    def __post_init__(self) -> None:
        for node in self.graph.nodes:
            for name in node.inputs:
                self.wanted[name] = self.wanted.get(name, 0) + 1

    def finish(self, node: Node) -> None:
        """A node is lowered: OCM need not keep what only it wanted."""
        for name in (*node.inputs, *node.outputs):
            if name in self.views:
                for copy in (name, *self.copies.get(name, ())):
                    self.tenants.setdefault(self.views[copy].storage, set()).add(name)
        for name in node.inputs:
            self.wanted[name] -= 1
        for name in (*node.inputs, *node.outputs):
            if name in self.views and not self.wanted.get(name) and name not in self.graph.outputs:
                for copy in (name, *self.copies.get(name, ())):
                    self._vacate(self.views[copy].storage, name)

    def _vacate(self, storage: str, name: str) -> None:
        self.tenants[storage].discard(name)
        if not self.tenants[storage]:
            for core in self.cores:
                core.arena.retire(storage)

    def tensor(self, name: str) -> Tensor:
        """A tensor of the graph."""
        return self.graph.tensors[name]

    def view(self, name: str) -> View:
        """Where a tensor lies; constants get a storage when somebody first asks."""
        if name not in self.views:
            tensor = self.tensor(name)
            assert tensor.data is not None, f"{name} has not been computed"
            data = np.ascontiguousarray(tensor.data).reshape(-1)
            self.plan.add_storage(
                Storage(name, dtype_of(tensor), tensor.size, SegmentKind.PARAMETERS, data.view(np.uint8))
            )
            self.views[name] = dense(name, tensor.shape)
        return self.views[name]

    def new(self, name: str, *, like: View | None = None, order: Sequence[int] | None = None) -> View:
        """A storage for a node's result.

        Args:
            like: keep the order of this view's factors; where the last axis has another extent, it becomes the fastest.
            order: logical axes, slowest first; by default the plain order.
        """
        tensor = self.tensor(name)
        plain = dense(name, tensor.shape)
        view = in_order_of(name, like, tensor.shape) if like is not None else dense(name, tensor.shape, order)
        self.views[name] = self.place(name, tensor, view, is_output=name in self.graph.outputs and view == plain)
        return self.views[name]

    def place(self, name: str, tensor: Tensor, view: View, *, is_output: bool = False) -> View:
        """Enter a storage that holds ``tensor`` as ``view`` says; outputs in another order live in a scratch first."""
        if name in self.graph.outputs and not is_output:
            name = f"{name}@"
        kind = SegmentKind.OUTPUT if is_output else SegmentKind.SCRATCH
        self.plan.add_storage(Storage(name, dtype_of(tensor), tensor.size, kind))
        return View(name, 0, view.axes)

    def shares(self, extent: int, granule: int = 1) -> Iterator[tuple[Core, int, int]]:
        """``extent`` cut into one contiguous share per core, in whole granules but for the end."""
        units = -(-extent // granule)
        parts = min(len(self.cores), units)
        for part in range(parts):
            low, high = units * part // parts * granule, units * (part + 1) // parts * granule
            yield self.cores[part], low, min(high, extent)


def in_order_of(storage: str, like: View, shape: Sequence[int]) -> View:
    """A dense view of ``shape`` whose factors lie in the order of those of ``like``, or whose last axis is replaced."""
    axes = list(like.axes)
    replaced = like.shape[-1] != shape[-1]
    if replaced:
        axes[-1] = ((shape[-1], 0),) if shape[-1] > 1 else ()  # stride 0 sorts it to the front: the fastest
    factors = [(stride, -a, -k) for a, axis in enumerate(axes) for k, (_, stride) in enumerate(axis)]
    strides: dict[tuple[int, int], int] = {}
    step = 1
    for _, a, k in sorted(factors):
        strides[-a, -k] = step
        step *= axes[-a][-k][0]
    assert math.prod(shape) == step, "a result has the extents of its operand but for the last axis"
    made = tuple(tuple((n, strides[a, k]) for k, (n, _) in enumerate(axis)) for a, axis in enumerate(axes))
    return View(storage, 0, made)


def dtype_of(tensor: Tensor) -> DType:
    """The ISA's name of a tensor's type."""
    names = {"s8": DType.S8, "u8": DType.U8, "s16": DType.S16, "u16": DType.U16, "s32": DType.S32, "s64": DType.S64,
             "f32": DType.F32}  # fmt: skip
    if tensor.dtype not in names:
        raise LoweringError(f"tensor {tensor.name} has type {tensor.dtype}, which the machine does not know")
    return names[tensor.dtype]


def scale_of(tensor: Tensor) -> Any:
    """Scale of a tensor: float32."""
    assert tensor.quantization is not None, f"{tensor.name} is quantized"
    return np.float32(tensor.quantization.scale)


def zero_of(tensor: Tensor) -> int:
    """Zero point of a tensor."""
    assert tensor.quantization is not None, f"{tensor.name} is quantized"
    return int(tensor.quantization.zero_point)


def clamp_of(node: Node, tensor: Tensor) -> tuple[int, int]:
    """Smallest and largest result of a node."""
    if "clamp" in node.attributes:
        low, high = node.attributes["clamp"]
        return int(low), int(high)
    return dtype_of(tensor).range


def scaled_block(node: Node, sources: Sequence[Tensor], result: Tensor, factor_b: Any = None) -> Parameters:
    """The parameter block of an instruction that works on scales."""
    low, high = clamp_of(node, result)
    second = sources[1] if len(sources) > 1 else None
    return Parameters(
        zero_a=zero_of(sources[0]), zero_b=zero_of(second) if second is not None else 0, zero=zero_of(result),
        low=low, high=high, factor_a=scale_of(sources[0]),
        factor_b=factor_b if factor_b is not None else scale_of(second) if second is not None else np.float32(1),
        factor=scale_of(result),
    )  # fmt: skip


LOWERINGS: dict[str, Callable[[Context, Node], None]] = {}


def lowers(*ops: str) -> Callable[[Callable[[Context, Node], None]], Callable[[Context, Node], None]]:
    """Enter a lowering function for operations of the graph."""

    def enter(function: Callable[[Context, Node], None]) -> Callable[[Context, Node], None]:
        for op in ops:
            assert op not in LOWERINGS, f"{op} is lowered twice"
            LOWERINGS[op] = function
        return function

    return enter
