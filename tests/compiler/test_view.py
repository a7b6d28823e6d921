import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from npusim.compiler.view import View, dense


def elements(view: View) -> np.ndarray:
    """Storage index of every logical element, by brute force."""
    index = np.full((), view.offset)
    for axis in view.axes:
        line = np.zeros((), np.int64)
        for size, stride in axis:
            line = line[..., None] + np.arange(size) * stride
        index = index[..., None] + line.reshape(-1)
    return index.reshape(view.shape)


SHAPES = st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4).map(tuple)


@st.composite
def walks(draw):
    """A dense view after random transposes, reshapes and slices, beside the NumPy array that says what it means."""
    shape = draw(SHAPES)
    order = draw(st.permutations(range(len(shape))))
    view = dense("s", shape, order)
    array = elements(view)
    for _ in range(draw(st.integers(0, 5))):
        step = draw(st.sampled_from(["transpose", "reshape", "slice"]))
        if step == "transpose":
            permutation = draw(st.permutations(range(array.ndim)))
            view, array = view.transpose(permutation), array.transpose(permutation)
        elif step == "reshape":
            size = array.size
            target = draw(SHAPES.filter(lambda s, n=size: math.prod(s) == n) | st.just(array.shape[::-1]))
            moved = view.reshape(target)
            if moved is not None:
                view, array = moved, array.reshape(target)
        else:
            axis = draw(st.integers(0, array.ndim - 1))
            start = draw(st.integers(0, array.shape[axis] - 1))
            stop = draw(st.integers(start + 1, array.shape[axis]))
            cut = view.slice(axis, start, stop)
            if cut is not None:
                view, array = cut, array.take(range(start, stop), axis)
    return view, array


@given(walks())
@settings(max_examples=300)
def test_a_view_names_the_elements_numpy_names(walk):
    view, array = walk
    assert view.shape == array.shape
    assert np.array_equal(elements(view), array)


@given(walks(), st.data())
@settings(max_examples=300)
def test_pieces_tile_a_box(walk, data):
    view, array = walk
    box = []
    for extent in view.shape:
        low = data.draw(st.integers(0, extent - 1))
        box.append((low, data.draw(st.integers(low + 1, extent))))
    wanted = array[tuple(slice(*r) for r in box)]
    found = np.full(wanted.shape, -1)
    for corner, piece in view.pieces(tuple(box)):
        place = tuple(slice(c, c + n) for c, n in zip(corner, piece.shape, strict=True))
        assert (found[place] == -1).all()
        found[place] = elements(piece)
    assert np.array_equal(found, wanted)


def test_window_partition_is_free():
    # [1, 56, 56, 96] -> [1, 8, 7, 8, 7, 96] -> [1, 8, 8, 7, 7, 96] -> [64, 49, 96], Swin's windows
    view = dense("x", (1, 56, 56, 96)).reshape((1, 8, 7, 8, 7, 96))
    windows = view.transpose((0, 1, 3, 2, 4, 5)).reshape((64, 49, 96))
    pitch = 56 * 96
    assert windows.axes == (((8, 7 * pitch), (8, 7 * 96)), ((7, pitch), (7, 96)), ((96, 1),))


def test_patch_embedding_needs_no_move():
    # a convolution's [1, 96, 56, 56], stored channels last, flattened and transposed to tokens
    tokens = dense("x", (1, 96, 56, 56), (0, 2, 3, 1)).reshape((1, 96, 3136)).transpose((0, 2, 1))
    assert tokens.axes == ((), ((3136, 96),), ((96, 1),))
    assert tokens.order == (1, 2, 0)


def test_what_cannot_be_regrouped_is_refused():
    assert dense("x", (6, 4), (1, 0)).reshape((4, 6)) is None
    assert dense("x", (6, 4)).reshape((4, 6)).axes == (((4, 6),), ((6, 1),))
