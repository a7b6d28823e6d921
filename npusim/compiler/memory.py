"""Where storages lie in DRAM: inputs and outputs in segments of their own, constants and scratch packed.

Scratch storages share bytes where their lives do not overlap.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from isa.program import Segment, SegmentKind, segment_name

from .plan import Plan, Step, Storage, Transfer

ALIGN = 64


def place_storages(
    plan: Plan, steps: Sequence[Step], kept: Collection[str] = (), label: str = ""
) -> tuple[list[Segment], dict[str, tuple[int, int]]]:
    """Segments, and for each storage that is used its segment and its offset in bytes.

    Args:
        plan: whose storages they are.
        steps: what uses them.
        kept: scratch storages among these share no bytes, and stand in an output called ``label``.
        label: a name that no other segment has.
    """
    lives: dict[str, tuple[int, int]] = {}
    for index, step in enumerate(steps):
        if isinstance(step, Transfer):
            first, _ = lives.get(step.storage, (index, index))
            lives[step.storage] = (first, index)
    segments: list[Segment] = []
    addresses: dict[str, tuple[int, int]] = {}
    used = [s for s in plan.storages.values() if s.name in lives or s.kind in (SegmentKind.INPUT, SegmentKind.OUTPUT)]
    for storage in used:
        if storage.kind in (SegmentKind.INPUT, SegmentKind.OUTPUT):
            addresses[storage.name] = (len(segments), 0)
            name = segment_name(storage.name)
            segments.append(Segment(name=name, kind=storage.kind, size_bytes=storage.size_bytes))
    constants = [s for s in used if s.kind is SegmentKind.PARAMETERS]
    if constants:
        offsets, size = _in_a_row(constants)
        data = np.zeros(size, np.uint8)
        for storage, offset in zip(constants, offsets, strict=True):
            addresses[storage.name] = (len(segments), offset)
            assert storage.data is not None, "constants carry their bytes"
            data[offset : offset + storage.size_bytes] = storage.data
        name = _free("parameters", segments)
        segments.append(Segment(name=name, kind=SegmentKind.PARAMETERS, size_bytes=size, data=data))
    scratch = [s for s in used if s.kind is SegmentKind.SCRATCH and s.name not in kept]
    shown = [s for s in used if s.kind is SegmentKind.SCRATCH and s.name in kept]
    if scratch:
        offsets, size = _by_life(scratch, lives)
        for storage, offset in zip(scratch, offsets, strict=True):
            addresses[storage.name] = (len(segments), offset)
        segments.append(Segment(name=_free("scratch", segments), kind=SegmentKind.SCRATCH, size_bytes=size))
    if shown:
        offsets, size = _in_a_row(shown)
        for storage, offset in zip(shown, offsets, strict=True):
            addresses[storage.name] = (len(segments), offset)
        segments.append(Segment(name=label, kind=SegmentKind.OUTPUT, size_bytes=size))
    return segments, addresses


def _free(name: str, segments: Sequence[Segment]) -> str:
    """``name``, or the like where an input or output is called so."""
    taken = {segment.name for segment in segments}
    while name in taken:
        name = f"{name}:"
    return name


def _in_a_row(storages: Sequence[Storage]) -> tuple[list[int], int]:
    offsets, at = [], 0
    for storage in storages:
        offsets.append(at)
        at += -(-storage.size_bytes // ALIGN) * ALIGN
    return offsets, at


def _by_life(storages: Sequence[Storage], lives: dict[str, tuple[int, int]]) -> tuple[list[int], int]:
    """First fit, the largest first, among those that live at the same time."""
    placed: list[tuple[int, int, tuple[int, int]]] = []
    offsets = dict.fromkeys((s.name for s in storages), 0)
    for storage in sorted(storages, key=lambda s: (-s.size_bytes, s.name)):
        life = lives[storage.name]
        size = -(-storage.size_bytes // ALIGN) * ALIGN
        at = 0
        for low, high, other in sorted(placed):
            if other[0] <= life[1] and life[0] <= other[1] and low < at + size and at < high:
                at = high
        offsets[storage.name] = at
        placed.append((at, at + size, life))
    return [offsets[s.name] for s in storages], max(high for _, high, _ in placed)
