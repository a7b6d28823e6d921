"""What the tests of the instruction set share: a memory to run one instruction in, and onnxruntime for one node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from isa.dtypes import DType
from isa.instructions import Parameters
from isa.memory import Memory
from isa.region import Region, Space
from npusim.quant import exact

SIZE_BYTES = 1 << 20


class Board:
    """One core's OCM that fills from the bottom, and the way back from a destination to an array."""

    def __init__(self) -> None:
        self.memory = Memory([np.full(SIZE_BYTES, 0xA5, np.uint8)], [])
        self.cursor = 64

    def space(self, size_bytes: int) -> int:
        """The address of fresh bytes, aligned to 64."""
        address, self.cursor = self.cursor, -(-(self.cursor + size_bytes) // 64) * 64
        assert self.cursor <= SIZE_BYTES
        return address

    def put(self, array: Any) -> int:
        """The address of a dense copy of ``array``."""
        data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        address = self.space(data.size)
        self.memory.ocm[0][address : address + data.size] = data
        return address

    def block(self, *arrays: Any, **head: Any) -> int:
        """The address of a parameter block."""
        return self.put(np.frombuffer(Parameters(**head).pack(*arrays), np.uint8))

    def run(self, instruction: Any, dtype: DType, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """Execute the instruction; its destination read densely from ``dst``."""
        assert all(constraint.holds(instruction) for constraint in instruction.constraints)
        instruction.operation(self.memory)
        region = Region(Space.OCM, instruction.dst, int(np.prod(shape)), dtype)
        return self.memory.load(region).reshape(shape)


@pytest.fixture
def board() -> Callable[[], Board]:
    """Makes an empty board."""
    return Board


def run_node(
    op: str, inputs: dict[str, Any], *, domain: str = "", onnx_opset: int = 21, out_type: Any = None, **attributes: Any
) -> np.ndarray[Any, Any]:
    """What onnxruntime computes for one node: the first input is fed, the others are constants, "" is left out."""
    names = list(inputs)
    feed = names[0]
    node = helper.make_node(op, [n if inputs[n] is not None else "" for n in names], ["y"], domain=domain, **attributes)
    arrays = {n: np.asarray(v) for n, v in inputs.items() if v is not None}
    kind = helper.np_dtype_to_tensor_dtype(arrays[feed].dtype)
    out_kind = helper.np_dtype_to_tensor_dtype(np.dtype(out_type or arrays[feed].dtype))
    graph = helper.make_graph(
        [node], "one", [helper.make_tensor_value_info(feed, kind, arrays[feed].shape)],
        [helper.make_tensor_value_info("y", out_kind, None)],
        [numpy_helper.from_array(arrays[n], n) for n in arrays if n != feed],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", onnx_opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    (result,) = exact.session(model, threads=1).run(None, {feed: arrays[feed]})
    return np.asarray(result)


@pytest.fixture
def ort() -> Callable[..., np.ndarray[Any, Any]]:
    """``run_node``: one node in onnxruntime."""
    return run_node
