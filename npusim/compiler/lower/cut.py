"""Cutting work into tiles: a share for each core, and of each share as much at once as leaves OCM for the next.

Lowering functions walk the boxes that ``boxes`` and ``stretches`` give them. Knows sizes, but no instructions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from ..context import Context
from ..core import Core
from ..joint import joint_dims
from ..partition import OCM_PART
from ..view import Box, View

TILES = 4
"""Tiles into which a share is cut where it is large, so that transfers and units overlap."""
LEAST_BYTES = 32 * 1024
"""A tile is not cut further below this."""


def tile_bytes(core: Core) -> int:
    """What operands and result of one tile may take together."""
    return core.arena.size // OCM_PART


def stretches(core: Core, low: int, high: int, index_bytes: int, fixed_bytes: int = 0) -> Iterator[tuple[int, int]]:
    """``[low, high)`` cut so that a tile fits.

    Args:
        core: whose OCM it has to fit.
        low: first index.
        high: last index plus one.
        index_bytes: what one index takes, operands and result together.
        fixed_bytes: what a tile takes besides, such as the halo of a window.
    """
    step = step_of(core, high - low, index_bytes, fixed_bytes)
    for start in range(low, high, step):
        yield start, min(high, start + step)


def step_of(core: Core, extent: int, index_bytes: int, fixed_bytes: int = 0) -> int:
    """How many indices one tile takes: as many as fit, but no more than gives a few tiles where there is much to do."""
    most = max(1, (tile_bytes(core) - fixed_bytes) // max(index_bytes, 1))
    wanted = max(1, min(TILES, extent * index_bytes // LEAST_BYTES))
    tiles = max(-(-extent // most), wanted)
    return max(1, -(-extent // tiles))


def boxes(
    ctx: Context, view: View, element_bytes: int, operands: Sequence[View] = (), keep: Sequence[int] = ()
) -> Iterator[tuple[Core, list[tuple[int, int]]]]:
    """Boxes that together cover a view, each with the core that computes it.

    One axis is shared among the cores; the others are cut only where one index of it is too large for a tile.

    Args:
        ctx: the compilation.
        view: the result; each of its axes is one factor.
        element_bytes: bytes that one element of the result takes, its operands included.
        operands: views of the result's shape; a tile ends where a copy of one of them in OCM does, so that it is used.
        keep: axes that are never cut.
    """
    whole = [(0, extent) for extent in view.shape]
    axes = [axis for axis in view.order if view.shape[axis] > 1 and axis not in keep]
    if not axes:
        yield ctx.cores[0], whole
        return
    lead = shared_axis(ctx, view, axes)
    for core, low, high in ctx.shares(view.shape[lead]):
        whole[lead] = (low, high)
        for box in _cut(core, whole, [lead, *(axis for axis in axes if axis != lead)], element_bytes, operands):
            yield core, box


def shared_axis(ctx: Context, view: View, axes: Sequence[int]) -> int:
    """The axis that is shared among the cores: the slowest, or the next where that one gives no tiles but this does.

    Args:
        ctx: the compilation.
        view: the result.
        axes: axes that can be cut, the slowest first.
    """
    short = view.shape[axes[0]] < TILES and len(axes) > 1 and view.shape[axes[1]] >= TILES * len(ctx.cores)
    return axes[1] if short else axes[0]


def _cut(
    core: Core, box: list[tuple[int, int]], axes: Sequence[int], element_bytes: int, operands: Sequence[View]
) -> Iterator[list[tuple[int, int]]]:
    axis, rest = axes[0], axes[1:]
    low, high = box[axis]
    index_bytes = element_bytes * math.prod(b - a for k, (a, b) in enumerate(box) if k != axis)
    made = list(box)
    if index_bytes > tile_bytes(core) and rest:
        for index in range(low, high):
            made[axis] = (index, index + 1)
            yield from _cut(core, made, rest, element_bytes, ())
        return
    step = step_of(core, high - low, index_bytes)
    at = low
    while at < high:
        end = min([min(high, at + step), *(_reach(core, view, axis, at, high) for view in operands)])
        made[axis] = (at, end)
        yield list(made)
        at = end


def _reach(core: Core, view: View, axis: int, low: int, high: int) -> int:
    """Up to which index of the axis one buffer holds the operand from ``low`` on; ``high`` where none holds it."""
    factors = view.axes[axis]
    if len(factors) != 1:
        return high
    stride = factors[0][1]
    first = view.offset + low * stride
    extent = 1 + sum((n - 1) * s for k, other in enumerate(view.axes) if k != axis for n, s in other)
    reach = low
    for held, _ in core.arena.holding(view.storage):
        if held.covers(first, first + extent):
            reach = max(reach, low + (held.high - first - extent) // stride + 1)
    return min(high, reach) if reach > low else high


def common_axes(views: Sequence[View]) -> list[View] | None:
    """Views of one logical shape, walked together: each axis one factor, the slowest of the first view first.

    An axis along which a view repeats has no factor in it. None where their factors have no common refinement.
    """
    dims = joint_dims([view.axes for view in views])
    if dims is None:
        return None
    return [
        View(view.storage, view.offset, tuple(((d.size, d.strides[k]),) if d.strides[k] else () for d in dims))
        for k, view in enumerate(views)
    ]


def single(view: View) -> bool:
    """Whether each axis is at most one factor, so that every range of it is a view."""
    return all(len(axis) <= 1 for axis in view.axes)


def sub_view(view: View, box: Box | Sequence[tuple[int, int]]) -> View:
    """A box of a view whose axes are single factors; an axis along which it repeats is left as it is."""
    for axis, (low, high) in enumerate(box):
        if view.shape[axis] == 1 or (low, high) == (0, view.shape[axis]):
            continue
        part = view.slice(axis, low, high)
        assert part is not None, "an axis of one factor can be cut anywhere"
        view = part
    return view
