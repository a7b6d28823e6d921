import math

import numpy as np
import pytest

from isa.instructions import Rescale
from npusim.compiler.build import compile_graph
from npusim.compiler.context import LoweringError
from npusim.compiler.lower.cut import LEAST_BYTES, TILES
from npusim.config import load
from npusim.graph.ir import Quantization
from npusim.kernels.tier import Tier, forced
from tests.compiler.graphs import Maker
from tests.compiler.oracle import check_graph

MACHINE = load("ax650n")


@pytest.fixture(autouse=True)
def without_compiled_kernels():
    with forced(Tier.NUMPY):
        yield


def single(op, shape, source="u8", result=None, **attributes):
    make = Maker()
    x = make.input(shape, source)
    return make.build(make.op(op, x, shape=result or shape, **attributes))


REFUSALS = {
    "reduces 70000 elements": single("reduce_sum", (70000, 2), result=(2,), axes=(0,), keepdims=0),
    "has type s32": single("arg_max", (4, 4), "s32", (4,), dtype="s64", axis=0, keepdims=0, select_last=0),
    "a window of 300 x 1": single(
        "max_pool", (1, 1, 300, 4), result=(1, 1, 1, 4), kernel=(300, 1), strides=(1, 1), pads=(0,) * 4,
        dilations=(1, 1),
    ),
    "separate parts": single("slice", (100, 100), starts=(99, 99), steps=(-1, -1)),
    "cannot be filled": single("pad", (4,), "s64", (6,), pads=(1, 1), mode="constant", value=0),
    "makes floats only by dequantizing": single("cast", (4,), dtype="f32"),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSALS)
def test_refusal_names_node_operation_and_constraint(message):
    graph = REFUSALS[message]
    with pytest.raises(LoweringError, match=message) as refusal:
        compile_graph(graph, MACHINE, 1)
    assert str(refusal.value).startswith(f"{graph.nodes[0].name} ({graph.nodes[0].op}): ")


def test_too_many_scales_are_refused():
    make = Maker()
    scale = np.linspace(0.1, 0.2, 5000, dtype=np.float32)
    x = make.input((2, 5000), "u8", Quantization(scale=scale, zero_point=np.zeros(5000, np.int64), axis=1))
    with pytest.raises(LoweringError, match="has 5000 scales"):
        compile_graph(make.build(make.op("dequantize", x, shape=(2, 5000), dtype="f32")), MACHINE, 1)


def test_row_that_does_not_fit_is_refused():
    length = 4_000_000
    with pytest.raises(LoweringError, match=r"softmax_0 \(softmax\): .* does not fit the OCM"):
        compile_graph(single("softmax", (2, length)), MACHINE, 1)


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_tensor_larger_than_the_ocm_is_worked_on_in_tiles(cores):
    shape = (1, 24, 400, 500)  # 4.8 MB in, 4.8 MB out
    assert math.prod(shape) > MACHINE.ocm.bytes
    check_graph(single("rescale", shape, dtype="s8"), cores=(cores,))


@pytest.mark.parametrize(
    "graph",
    [
        single("transpose", (1, 24, 400, 500), result=(1, 400, 500, 24), permutation=(0, 2, 3, 1)),
        single("pad", (1, 24, 400, 500), result=(1, 24, 403, 504), pads=(0, 0, 1, 2, 0, 0, 2, 2), mode="edge", value=0),
        single("max_pool", (1, 24, 400, 500), result=(1, 24, 200, 250), kernel=(3, 3), strides=(2, 2), pads=(1,) * 4,
               dilations=(1, 1)),
        single("reduce_mean", (24, 400, 500), result=(24, 500), axes=(1,), keepdims=0),
        single("roll", (1, 4_000_000), axes=(1,), shifts=(1234,)),
    ],
    ids=lambda graph: graph.nodes[0].op,
)  # fmt: skip
def test_large_movement_and_pooling_fit(graph):
    check_graph(graph, cores=(2,))


def test_share_is_cut_so_that_transfers_hide_behind_work():
    program = compile_graph(single("rescale", (40 * LEAST_BYTES,), dtype="s8"), MACHINE, 1)
    instructions = [i for unit in program.streams for i in program.instructions(unit) if isinstance(i, Rescale)]
    assert len(instructions) == TILES
