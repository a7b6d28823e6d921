import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npusim.config import load
from npusim.kernels.tier import Tier, forced
from tests.compiler.graphs import Maker
from tests.compiler.oracle import check_graph

MACHINES = [load("ax650n"), load("ax650n").with_values({"ocm.bytes": 12 * 1024})]
EXTENTS = st.sampled_from([1, 2, 3, 4, 6])


@pytest.fixture(autouse=True, scope="module")
def without_compiled_kernels():
    with forced(Tier.NUMPY):
        yield


def some_order(draw, make, x):
    """A tensor after transposes and reshapes, which leave it a view of axes with several factors."""
    for _ in range(draw(st.integers(0, 3))):
        shape = make.tensors[x].shape
        if draw(st.booleans()):
            permutation = tuple(draw(st.permutations(range(len(shape)))))
            x = make.op("transpose", x, shape=[shape[p] for p in permutation], permutation=permutation)
        else:
            size = math.prod(shape)
            wanted = draw(st.lists(EXTENTS, min_size=1, max_size=4).filter(lambda s, n=size: n % math.prod(s) == 0))
            x = make.op("reshape", x, shape=(*wanted, size // math.prod(wanted)))
    return x


def moved(draw, make, x):
    """A random movement."""
    shape = make.tensors[x].shape
    axes = range(len(shape))
    op = draw(st.sampled_from(["slice", "roll", "pad", "concat", "gather", "tile", "rescale", "add"]))
    if op == "slice":
        starts, steps, extents = [], [], []
        for n in shape:
            step = draw(st.sampled_from([1, 1, 2, -1]))
            start = draw(st.integers(0, n - 1))
            most = (n - 1 - start) // step + 1 if step > 0 else start // -step + 1
            starts.append(start)
            steps.append(step)
            extents.append(draw(st.integers(1, most)))
        return make.op("slice", x, shape=extents, starts=tuple(starts), steps=tuple(steps))
    if op == "roll":
        shifts = tuple(draw(st.integers(-n, n)) for n in shape)
        return make.op("roll", x, shape=shape, axes=tuple(axes), shifts=shifts)
    if op == "pad":
        mode = draw(st.sampled_from(["constant", "edge", "reflect"]))
        pads = [draw(st.integers(0, min(2, n - 1 if mode == "reflect" else 2))) for n in (*shape, *shape)]
        wide = [n + pads[a] + pads[a + len(shape)] for a, n in enumerate(shape)]
        return make.op("pad", x, shape=wide, pads=tuple(pads), mode=mode, value=3)
    axis = draw(st.sampled_from(axes))
    if op == "concat":
        wide = [n * (1 + (a == axis)) for a, n in enumerate(shape)]
        return make.op("concat", x, x, shape=wide, axis=axis)
    if op == "gather":
        index = make.random.integers(-shape[axis], shape[axis], draw(st.integers(1, 40)))
        wide = [*shape[:axis], index.size, *shape[axis + 1 :]]
        return make.op("gather", x, make.constant(index), shape=wide, axis=axis)
    if op == "tile":
        repeats = tuple(draw(st.integers(1, 2)) for _ in axes)
        return make.op("tile", x, shape=[n * r for n, r in zip(shape, repeats, strict=True)], repeats=repeats)
    if op == "add":
        part = [n if draw(st.booleans()) else 1 for n in shape]
        return make.op("add", x, make.input(part[draw(st.sampled_from(axes)) :]), shape=shape)
    return make.op("rescale", x, shape=shape, dtype=make.tensors[x].dtype)


@given(st.data())
@settings(max_examples=60)
def test_random_movements_agree_with_numpy(data):
    make = Maker()
    shape = data.draw(st.lists(EXTENTS, min_size=1, max_size=4))
    x = make.input(shape, data.draw(st.sampled_from(["u8", "s16"])))
    for _ in range(data.draw(st.integers(1, 3))):
        x = moved(data.draw, make, some_order(data.draw, make, x))
        if np.prod(make.tensors[x].shape) > 20_000:
            break
    cores, machine = data.draw(st.sampled_from([1, 2, 3])), data.draw(st.sampled_from(MACHINES))
    check_graph(make.build(x), cores=(cores,), hardware=machine)
