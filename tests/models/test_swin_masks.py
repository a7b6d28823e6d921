"""Windows and masks of shifted attention, against a definition that looks at every pair of tokens."""

from __future__ import annotations

import numpy as np
import pytest

from models.zoo.swin import MASKED, relative_position_index, shifted_window_mask


@pytest.mark.parametrize(
    ("size", "window", "shifts"), [((8, 12), 4, (2, 2)), ((14, 14), 7, (3, 3)), ((4, 8), 4, (0, 2))]
)
def test_mask_separates_tokens_that_were_no_neighbours_before_the_shift(size, window, shifts):
    mask = shifted_window_mask(size, window, shifts)
    rolled = [(np.arange(side) + shift) % side for side, shift in zip(size, shifts, strict=True)]
    index = 0
    for top in range(0, size[0], window):
        for left in range(0, size[1], window):
            tokens = [(rolled[0][top + y], rolled[1][left + x]) for y in range(window) for x in range(window)]
            for i, (row, column) in enumerate(tokens):
                for j, (other_row, other_column) in enumerate(tokens):
                    near = abs(row - other_row) < window and abs(column - other_column) < window
                    assert mask[index, i, j] == (0 if near else MASKED)
            index += 1
    assert index == len(mask)


def test_no_shift_no_mask():
    assert shifted_window_mask((14, 14), 7, (0, 0)) is None


def test_position_index_depends_on_the_offset_alone():
    window = 3
    index = relative_position_index(window).reshape(window, window, window, window)
    seen: dict[tuple[int, int], set[int]] = {}
    for y, x, v, u in np.ndindex(index.shape):
        seen.setdefault((y - v, x - u), set()).add(int(index[y, x, v, u]))
    assert all(len(rows) == 1 for rows in seen.values())
    assert sorted(row for rows in seen.values() for row in rows) == list(range((2 * window - 1) ** 2))
