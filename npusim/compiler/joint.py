"""Several operands walked together: the loop nest in which each of them has one stride per dimension.

Used wherever an instruction or a transfer steps through more than one view. Works on factors; knows no instructions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .view import Factor


@dataclass(frozen=True, slots=True)
class Dim:
    """One loop: how often, and how far each operand moves, in elements of that operand."""

    size: int
    strides: tuple[int, ...]


def joint_dims(operands: Sequence[Sequence[tuple[Factor, ...]]]) -> list[Dim] | None:
    """The fewest loops that walk all operands, by the strides of the first, slowest first; None if axes do not refine.

    Args:
        operands: the axes of each operand, of one logical shape; an axis of extent 1 among longer ones broadcasts.
    """
    dims: list[Dim] = []
    for axes in zip(*operands, strict=True):
        parts = _refine([list(axis) for axis in axes])
        if parts is None:
            return None
        dims += parts
    dims.sort(key=lambda dim: tuple(-s for s in dim.strides))
    joined: list[Dim] = []
    for dim in dims:
        if joined and all(a == dim.size * b for a, b in zip(joined[-1].strides, dim.strides, strict=True)):
            joined[-1] = Dim(joined[-1].size * dim.size, dim.strides)
        else:
            joined.append(dim)
    return joined


def _refine(stacks: list[list[Factor]]) -> list[Dim] | None:
    """Common factors of one axis; fastest factors stand at the end of each stack."""
    stacks = [[f for f in stack if f[0] > 1] for stack in stacks]
    broadcast = [not stack for stack in stacks]
    dims: list[Dim] = []
    while any(stacks):
        heads = [stack[-1] if stack else None for stack in stacks]
        size = min(head[0] for head in heads if head is not None)
        strides = []
        for k, head in enumerate(heads):
            if head is None:
                if not broadcast[k]:
                    return None
                strides.append(0)
                continue
            if head[0] % size:
                return None
            stacks[k].pop()
            if head[0] > size:
                stacks[k].append((head[0] // size, head[1] * size))
            strides.append(head[1])
        dims.append(Dim(size, tuple(strides)))
    return dims
