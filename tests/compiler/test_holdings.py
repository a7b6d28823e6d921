"""Parts of a storage in several OCMs: where their elements are, and what is put together from them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isa.instructions import Load, Send, Store
from isa.program import SegmentKind
from npusim.compiler.arena import Arena
from npusim.compiler.holdings import Held, Rectangle, held_range, place_within, rectangle, tiling
from npusim.config import load
from npusim.kernels.tier import Tier, forced
from tests.compiler.graphs import Maker
from tests.compiler.oracle import check_graph, on_cores

ROWS, PITCH = 5, 7
MACHINE = load("ax650n")


@st.composite
def holdings(draw):
    """A range of the storage, or some columns of some rows."""
    if draw(st.booleans()):
        low = draw(st.integers(0, ROWS * PITCH - 1))
        return held_range("s", low, draw(st.integers(low + 1, ROWS * PITCH)))
    top, left = draw(st.integers(0, ROWS - 2)), draw(st.integers(0, PITCH - 1))
    rows, width = draw(st.integers(2, ROWS - top)), draw(st.integers(1, min(PITCH - left, PITCH - 1)))
    return Held("s", top * PITCH + left, ((rows, PITCH), (width, 1)))


def buffer_of(held):
    """What the buffer contains: the storage's element numbers, by definition."""
    index = np.full(1, held.low)
    for size, stride in held.factors:
        index = (index[:, None] + np.arange(size) * stride).ravel()
    return index


@given(holdings())
def test_rectangle_lies_where_the_buffer_has_it(held):
    area = rectangle(held, PITCH)
    buffer = buffer_of(held)
    assert (held.low, held.high) == (buffer[0], buffer[-1] + 1)
    for row in range(area.top, area.bottom):
        for column in range(area.left, area.right):
            at, pitch = place_within(held, PITCH, row, column)
            assert buffer[at] == row * PITCH + column
            assert row + 1 == area.bottom or buffer[at + pitch] == buffer[at] + PITCH


@given(st.lists(holdings(), max_size=8), holdings())
def test_tiling_covers_the_target_once_or_is_refused(parts, wanted):
    target = rectangle(wanted, PITCH)
    tiles = tiling(target, [(k, rectangle(part, PITCH)) for k, part in enumerate(parts)])
    if tiles is None:
        assert not target.elements or not any(target.common(rectangle(part, PITCH)) == target for part in parts)
        return
    counts = np.zeros((ROWS, PITCH), int)
    for source, area in tiles:
        counts[area.top : area.bottom, area.left : area.right] += 1
        assert np.isin(cells(area), buffer_of(parts[source])).all()
    assert (counts.ravel()[cells(target)] == 1).all()
    assert counts.sum() == target.elements


def cells(area):
    rows, columns = np.arange(area.top, area.bottom), np.arange(area.left, area.right)
    return (rows[:, None] * PITCH + columns).ravel()


def test_other_pitches_are_no_rectangles():
    assert rectangle(Held("s", 0, ((2, 8), (3, 1))), PITCH) is None
    assert rectangle(Held("s", 5, ((2, PITCH), (3, 1))), PITCH) is None  # wraps around a row's end
    assert rectangle(held_range("s", 5, 9), PITCH) == Rectangle(1, 1, 0, PITCH)  # holds no whole row


def test_arena_knows_the_holdings_of_a_storage_until_they_are_evicted():
    arena = Arena(0, 256)
    first = arena.take(held_range("s", 0, 128), 128)
    arena.take(held_range("t", 0, 64), 64)
    arena.release()
    assert [buffer for _, buffer in arena.holding("s")] == [first]
    arena.take(held_range("s", 128, 256), 128)  # takes the place of what was used longest ago
    assert [held.low for held, _ in arena.holding("s")] == [128]
    assert arena.find(held_range("s", 0, 128)) is None


@pytest.fixture(autouse=True)
def without_compiled_kernels():
    with forced(Tier.NUMPY):
        yield


def transfers(program, cls):
    return [i for unit in program.streams for i in program.instructions(unit) if isinstance(i, cls)]


@pytest.mark.parametrize("size", [(6, 6), (24, 18)])
def test_cores_exchange_halos_and_channels_without_dram(size):
    make = Maker()
    x = make.input((1, 32, *size))
    y = make.conv(make.conv(make.conv(x, 96, 3), 128, 3, stride=2), 64)
    graph = make.build(make.op("rescale", y, shape=make.tensors[y].shape, dtype="u8"))
    check_graph(graph, cores=(2, 3))
    program = on_cores(graph, MACHINE, 3)
    scratch = {n for n, segment in enumerate(program.segments) if segment.kind is SegmentKind.SCRATCH}
    assert transfers(program, Send)
    assert not [t for cls in (Load, Store) for t in transfers(program, cls) if t.segment in scratch]
