"""Views: where the elements of a tensor lie in a storage, so that reshapes and transposes cost nothing.

A view gives each logical axis a list of factors (size, stride), slowest first, as hierarchical layouts do: the rows of
a 56 x 56 image seen as 8 windows of 7 are the factors (8, 7 * pitch) and (7, pitch). Transposing reorders axes, and
reshaping regroups factors; only where no grouping exists does somebody have to move bytes. Knows no instructions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

Factor = tuple[int, int]
"""Size and stride in elements."""

Box = tuple[tuple[int, int], ...]
"""Half-open range per logical axis."""


@dataclass(frozen=True, slots=True)
class View:
    """A logical tensor over a storage.

    Attributes:
        storage: name of the storage.
        offset: element of the storage that index 0 names.
        axes: factors of each logical axis, slowest first; an axis of extent 1 may have none.
    """

    storage: str
    offset: int
    axes: tuple[tuple[Factor, ...], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Logical extents."""
        return tuple(math.prod(size for size, _ in axis) for axis in self.axes)

    @property
    def order(self) -> tuple[int, ...]:
        """Logical axes from the slowest to the fastest in the storage, by each axis' smallest stride."""
        finest = [min((stride for size, stride in axis if size > 1), default=0) for axis in self.axes]
        return tuple(sorted(range(len(self.axes)), key=lambda a: (-finest[a], a)))

    def transpose(self, permutation: Sequence[int]) -> View:
        """Axis i of the result is axis ``permutation[i]`` of this one."""
        return replace(self, axes=tuple(self.axes[p] for p in permutation))

    def reshape(self, shape: Sequence[int]) -> View | None:
        """The same elements in row-major logical order under another shape, or None where no grouping of factors is."""
        factors = _merged([f for axis in self.axes for f in axis if f[0] > 1])
        axes: list[tuple[Factor, ...]] = []
        for extent in reversed(shape):
            taken: list[Factor] = []
            need = extent
            while need > 1:
                if not factors:
                    return None
                size, stride = factors.pop()
                if need % size == 0:
                    taken.append((size, stride))
                    need //= size
                elif size % need == 0:
                    taken.append((need, stride))
                    factors.append((size // need, stride * need))
                    need = 1
                else:
                    return None
            axes.append(tuple(_merged(list(reversed(taken)))))
        return None if factors else replace(self, axes=tuple(reversed(axes)))

    def slice(self, axis: int, start: int, stop: int) -> View | None:
        """``[start, stop)`` of one axis, or None where it cuts through a factor."""
        pieces = list(axis_pieces(self.axes[axis], start, stop))
        if len(pieces) != 1:
            return None
        offset, factors = pieces[0]
        axes = (*self.axes[:axis], factors, *self.axes[axis + 1 :])
        return replace(self, offset=self.offset + offset, axes=axes)

    def pieces(self, box: Box) -> Iterator[tuple[tuple[int, ...], View]]:
        """The parts of a box that are views: (index within the box at which the part begins, its view)."""
        per_axis = [_placed(axis, low, high) for axis, (low, high) in zip(self.axes, box, strict=True)]
        for parts in product(*per_axis):
            corner = tuple(at for at, _, _ in parts)
            offset = self.offset + sum(moved for _, moved, _ in parts)
            yield corner, View(self.storage, offset, tuple(factors for _, _, factors in parts))


def dense(storage: str, shape: Sequence[int], order: Sequence[int] | None = None) -> View:
    """A view of a dense storage whose axes lie in ``order``, slowest first (by default as they are)."""
    strides, step = [0] * len(shape), 1
    for axis in reversed(tuple(order or range(len(shape)))):
        strides[axis] = step
        step *= shape[axis]
    axes = tuple(((n, s),) if n > 1 else () for n, s in zip(shape, strides, strict=True))
    return View(storage, 0, axes)


def axis_pieces(factors: tuple[Factor, ...], start: int, stop: int) -> Iterator[tuple[int, tuple[Factor, ...]]]:
    """``[start, stop)`` of one axis as (offset, factors) parts that do not cut a factor, in order."""
    if stop <= start:
        return
    if not factors:
        yield 0, ()
        return
    (_, stride), inner = factors[0], factors[1:]
    block = math.prod(size for size, _ in inner)
    if block == 1:
        yield start * stride, ((stop - start, stride),) if stop - start > 1 else ()
        return
    first, last = -(-start // block), stop // block
    if first > last:  # within one block
        for offset, part in axis_pieces(inner, start % block, start % block + stop - start):
            yield (start // block) * stride + offset, part
        return
    if start % block:
        for offset, part in axis_pieces(inner, start % block, block):
            yield (start // block) * stride + offset, part
    if last > first:
        yield first * stride, (((last - first, stride),) if last - first > 1 else ()) + inner
    if stop % block:
        for offset, part in axis_pieces(inner, 0, stop % block):
            yield last * stride + offset, part


def _placed(factors: tuple[Factor, ...], low: int, high: int) -> list[tuple[int, int, tuple[Factor, ...]]]:
    """``axis_pieces`` with the index within the range at which each begins."""
    placed, at = [], 0
    for offset, part in axis_pieces(factors, low, high):
        placed.append((at, offset, part))
        at += math.prod(size for size, _ in part)
    return placed


def _merged(factors: Sequence[Factor]) -> list[Factor]:
    """Neighbouring factors (slowest first) joined where the slower one continues the faster."""
    joined: list[Factor] = []
    for size, stride in factors:
        if joined and joined[-1][1] == size * stride:
            joined[-1] = (joined[-1][0] * size, stride)
        else:
            joined.append((size, stride))
    return joined
