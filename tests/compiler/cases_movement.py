"""Cases of the operations that move elements."""

from __future__ import annotations

import numpy as np

from tests.compiler.cases import case
from tests.compiler.graphs import Maker


def plain(shape, dtype="u8"):
    make = Maker()
    return make, make.input(shape, dtype)


def image(channels=16, height=9, width=7, kernel=3):
    """A convolution's result, stored channels last."""
    make = Maker()
    return make, make.conv(make.input((1, 5, height, width)), channels, kernel)


def sliced(make, x, starts, steps, shape):
    return make.op("slice", x, shape=shape, starts=starts, steps=steps)


@case("reshape")
def reshape_of_channels_last_image():
    make, x = image()
    return make.build(make.op("reshape", x, shape=(16, 63)))


@case("reshape")
def reshape_to_tokens_and_back():
    make, x = image()
    y = make.op("transpose", make.op("reshape", x, shape=(1, 16, 63)), shape=(1, 63, 16), permutation=(0, 2, 1))
    return make.build(make.op("reshape", y, shape=(1, 9, 7, 16)))


@case("transpose")
def transpose_of_plain_tensor():
    make, x = plain((5, 6, 7), "s16")
    return make.build(make.op("transpose", x, shape=(7, 5, 6), permutation=(2, 0, 1)))


@case("transpose")
def transpose_of_long_matrix():
    make, x = plain((3, 700), "s32")
    return make.build(make.op("transpose", x, shape=(700, 3), permutation=(1, 0)))


@case("reinterpret")
def reinterpret_of_image():
    make, x = image()
    return make.build(make.op("reinterpret", x, shape=(1, 16, 9, 7)))


@case("slice")
def slice_of_channels():
    make, x = image()
    y = sliced(make, x, (0, 4, 0, 0), (1, 1, 1, 1), (1, 8, 9, 7))
    return make.build(make.op("rescale", y, shape=(1, 8, 9, 7), dtype="s8"))


@case("slice")
def slice_of_every_second_pixel():
    make, x = image()
    y = sliced(make, x, (0, 0, 1, 0), (1, 1, 2, 2), (1, 16, 4, 4))
    return make.build(make.op("rescale", y, shape=(1, 16, 4, 4), dtype="s8"))


@case("slice")
def slice_of_every_third_element():
    make, x = plain((4, 31))
    return make.build(sliced(make, x, (1, 2), (1, 3), (2, 10)))


@case("slice")
def slice_backwards():
    make, x = plain((6, 9, 4), "s16")
    return make.build(sliced(make, x, (5, 8, 0), (-1, -2, 1), (6, 5, 4)))


@case("slice")
def slice_of_one_column():
    make, x = plain((6, 9))
    y = sliced(make, x, (0, 3), (1, 1), (6, 1))
    return make.build(make.op("rescale", y, shape=(6, 1), dtype="s8"))


@case("slice")
def slice_of_one_token():
    make, x = plain((1, 50, 24))
    y = sliced(make, x, (0, 7, 0), (1, 1, 1), (1, 1, 24))
    return make.build(make.op("rescale", y, shape=(1, 1, 24), dtype="s8"))


@case("slice")
def slice_of_windows():
    make, x = plain((1, 8, 8, 6))
    y = make.op("reshape", x, shape=(1, 2, 4, 2, 4, 6))
    y = make.op("transpose", y, shape=(1, 2, 2, 4, 4, 6), permutation=(0, 1, 3, 2, 4, 5))
    y = make.op("reshape", y, shape=(4, 16, 6))
    return make.build(sliced(make, y, (1, 3, 0), (1, 1, 1), (2, 10, 6)))


@case("concat")
def concat_of_image_channels():
    make, x = image()
    y = make.conv(x, 24)
    return make.build(make.op("concat", x, y, axis=1, shape=(1, 40, 9, 7)))


@case("concat")
def concat_of_rows():
    make, x = plain((3, 10))
    y = make.input((5, 10))
    z = make.op("concat", x, y, x, axis=0, shape=(11, 10))
    return make.build(z, make.op("rescale", z, shape=(11, 10), dtype="s8"))


@case("concat")
def concat_of_image_and_constant():
    make, x = plain((1, 1, 24))
    y = make.constant(make.random.integers(0, 256, (1, 12, 24), np.uint8))
    return make.build(make.op("concat", y, x, axis=1, shape=(1, 13, 24)))


@case("concat")
def concat_of_vectors():
    make, x = plain((130,), "s64")
    return make.build(make.op("concat", x, x, axis=0, shape=(260,)))


@case("roll")
def roll_of_image():
    make, x = plain((1, 14, 14, 24))
    return make.build(make.op("roll", x, shape=(1, 14, 14, 24), axes=(1, 2), shifts=(-3, -3)))


@case("roll")
def roll_of_channels_last_image():
    make, x = image()
    return make.build(make.op("roll", x, shape=(1, 16, 9, 7), axes=(1, 3), shifts=(5, 2)))


@case("roll")
def roll_by_nothing():
    make, x = plain((5, 6))
    return make.build(make.op("roll", x, shape=(5, 6), axes=(0,), shifts=(5,)))


@case("roll")
def roll_of_windows():
    make, x = plain((1, 8, 8, 6))
    y = make.op("reshape", x, shape=(1, 2, 4, 2, 4, 6))
    y = make.op("transpose", y, shape=(1, 2, 2, 4, 4, 6), permutation=(0, 1, 3, 2, 4, 5))
    y = make.op("reshape", y, shape=(4, 16, 6))
    return make.build(make.op("roll", y, shape=(4, 16, 6), axes=(1,), shifts=(3,)))


@case("pad")
def pad_with_constant():
    make, x = image()
    return make.build(make.op("pad", x, shape=(1, 16, 12, 12), pads=(0, 0, 1, 2, 0, 0, 2, 3), mode="constant",
                              value=17))  # fmt: skip


@case("pad")
def pad_with_edge():
    make, x = plain((1, 3, 6, 5), "s8")
    return make.build(make.op("pad", x, shape=(1, 3, 10, 8), pads=(0, 0, 1, 2, 0, 0, 3, 1), mode="edge", value=0))


@case("pad")
def pad_with_reflection():
    make, x = image()
    return make.build(make.op("pad", x, shape=(1, 16, 12, 11), pads=(0, 0, 2, 1, 0, 0, 1, 3), mode="reflect", value=0))


@case("pad")
def pad_of_channels_with_negative_value():
    make, x = plain((2, 3, 4), "s16")
    return make.build(make.op("pad", x, shape=(2, 8, 4), pads=(0, 1, 0, 0, 4, 0), mode="constant", value=-300))


@case("gather")
def gather_of_scattered_rows():
    make, x = plain((40, 30))
    index = make.constant(make.random.permutation(40)[:25].astype(np.int64).reshape(5, 5))
    return make.build(make.op("gather", x, index, axis=0, shape=(5, 5, 30)))


@case("gather")
def gather_of_few_blocks():
    make, x = image()
    index = make.constant(np.array([5, 6, 7, -1, 0, 1], np.int64))
    return make.build(make.op("gather", x, index, axis=1, shape=(1, 6, 9, 7)))


@case("gather")
def gather_along_the_last_axis():
    make, x = plain((4, 3, 50), "s16")
    index = make.constant(make.random.integers(-50, 50, 33).astype(np.int32))
    return make.build(make.op("gather", x, index, axis=2, shape=(4, 3, 33)))


@case("gather")
def gather_of_many_elements():
    """Longer than a small OCM, though each index points to somewhere near."""
    make, x = plain((2, 7000, 1))
    near = np.arange(6000) * 7 // 6 + make.random.integers(-40, 40, 6000)
    index = make.constant(near.clip(0, 6999).astype(np.int64))
    return make.build(make.op("gather", x, index, axis=1, shape=(2, 6000, 1)))


@case("gather")
def gather_in_the_middle():
    make, x = image()
    index = make.constant(make.random.integers(0, 9, 30).astype(np.int64))
    return make.build(make.op("gather", x, index, axis=2, shape=(1, 16, 30, 7)))


@case("gather")
def gather_by_live_s64_indices():
    make, x = plain((40, 30))
    index = make.input((6, 2), "s64")
    feeds = {index: make.random.integers(0, 40, (6, 2))}
    return make.build(make.op("gather", x, index, axis=0, shape=(6, 2, 30))), feeds


@case("gather")
def gather_by_one_live_s32_index():
    make, x = plain((4, 30, 8))
    index = make.input((), "s32")
    return make.build(make.op("gather", x, index, axis=1, shape=(4, 8))), {index: np.array(11, np.int32)}


@case("expand")
def expand_of_middle_axis():
    make, x = plain((3, 1, 20))
    return make.build(make.op("expand", x, shape=(2, 3, 7, 20)))


@case("expand")
def expand_of_last_axis():
    make, x = plain((6, 1), "s16")
    return make.build(make.op("expand", x, shape=(6, 90)))


@case("expand")
def expand_of_scalar():
    make, x = plain(())
    return make.build(make.op("expand", x, shape=(3, 50)))


@case("tile")
def tile_of_image():
    make, x = image(8, 4, 5)
    return make.build(make.op("tile", x, shape=(2, 8, 12, 10), repeats=(2, 1, 3, 2)))


@case("tile")
def tile_of_vector():
    make, x = plain((7,))
    return make.build(make.op("tile", x, shape=(70,), repeats=(10,)))
