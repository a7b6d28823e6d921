"""What cores hold of a storage in OCM, and how a part of it is put together from that.

Used by ``Core.fetch``. Knows elements, rows and columns, and no instructions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from .view import Factor


@dataclass(frozen=True, slots=True)
class Held:
    """Elements of a storage that lie in a buffer in the order of the storage, without gaps.

    Attributes:
        storage: its name.
        low: the first element.
        factors: which elements, as sizes and strides, slowest first; no neighbours can be joined.
    """

    storage: str
    low: int
    factors: tuple[Factor, ...]

    @property
    def high(self) -> int:
        """The last element plus one."""
        return self.low + sum((size - 1) * stride for size, stride in self.factors) + 1

    @property
    def contiguous(self) -> bool:
        """Whether it is a range."""
        return len(self.factors) == 1 and self.factors[0][1] == 1

    def covers(self, low: int, high: int) -> bool:
        """Whether it is a range that holds ``[low, high)``."""
        return self.contiguous and self.low <= low and high <= self.high


def held_range(storage: str, low: int, high: int) -> Held:
    """The elements ``[low, high)``."""
    return Held(storage, low, ((high - low, 1),))


@dataclass(frozen=True, slots=True)
class Rectangle:
    """Rows and columns of a storage seen as rows of ``pitch`` elements.

    Attributes:
        top: first row.
        bottom: last row plus one.
        left: first column.
        right: last column plus one.
    """

    top: int
    bottom: int
    left: int
    right: int

    @property
    def elements(self) -> int:
        """How many."""
        return max(0, self.bottom - self.top) * max(0, self.right - self.left)

    def common(self, other: Rectangle) -> Rectangle:
        """What both contain; of no elements where that is nothing."""
        return Rectangle(
            max(self.top, other.top), min(self.bottom, other.bottom),
            max(self.left, other.left), min(self.right, other.right),
        )  # fmt: skip


def rectangle(held: Held, pitch: int) -> Rectangle | None:
    """What is held as a rectangle, or whole rows of it; None where it is neither."""
    row, column = divmod(held.low, pitch)
    if held.contiguous:
        width = held.high - held.low
        if column + width <= pitch:
            return Rectangle(row, row + 1, column, column + width)
        return Rectangle(-(-held.low // pitch), held.high // pitch, 0, pitch)
    if len(held.factors) != 2 or held.factors[0][1] != pitch or held.factors[1][1] != 1:
        return None
    (rows, _), (width, _) = held.factors
    return Rectangle(row, row + rows, column, column + width) if column + width <= pitch else None


def place_within(held: Held, pitch: int, row: int, column: int) -> tuple[int, int]:
    """Where the buffer has an element, and from one row to the next, in elements."""
    if held.contiguous:
        return row * pitch + column - held.low, pitch
    width = held.factors[1][0]
    first_row, first_column = divmod(held.low, pitch)
    return (row - first_row) * width + column - first_column, width


Source = TypeVar("Source")


def tiling(target: Rectangle, parts: Sequence[tuple[Source, Rectangle]]) -> list[tuple[Source, Rectangle]] | None:
    """Disjoint parts that together are the target, a whole one first; None where some of it is missing."""
    shared = [(source, target.common(part)) for source, part in parts]
    taken: list[tuple[Source, Rectangle]] = []
    left = target.elements
    for source, common in sorted(shared, key=lambda entry: entry[1] != target):
        if common.elements and not any(common.common(other).elements for _, other in taken):
            taken.append((source, common))
            left -= common.elements
            if not left:
                return taken
    return None
