"""Small programs for the verifier's tests, written by hand."""

from __future__ import annotations

import numpy as np

from isa.instruction import Unit, Wait, unit_number
from isa.instructions import (
    Conv,
    Copy,
    Load,
    Store,
)
from isa.program import Segment, SegmentKind, make_program
from isa.verify import Limits, verify

CONV0, CONV1, TENG, CV, SDMA = (int(unit) for unit in Unit)
OTHER_CV, OTHER_SDMA = unit_number(1, Unit.CV), unit_number(1, Unit.SDMA)
LIMITS = Limits(cores=3, ocm_bytes=0x10000)
SEGMENTS = (
    Segment(name="weights", kind=SegmentKind.PARAMETERS, size_bytes=0x1000, data=np.zeros(0x1000, np.uint8)),
    Segment(name="image", kind=SegmentKind.INPUT, size_bytes=0x1000),
    Segment(name="result", kind=SegmentKind.OUTPUT, size_bytes=0x1000),
)
WEIGHTS, IMAGE, RESULT = range(3)


def program(streams, **more):
    return make_program("hand", streams, SEGMENTS, **more)


def violations(streams, **more):
    return verify(program(streams, **more), LIMITS).violations


def only(streams, **more):
    """The one violation of a program."""
    (violation,) = violations(streams, **more)
    return violation


def load(ocm, run=64, *, offset=0, segment=WEIGHTS, waits=(), **more):
    return Load(ocm=ocm, run=run, segment=segment, offset=offset, waits=tuple(Wait(*w) for w in waits), **more)


def store(ocm, run=64, *, offset=0, waits=(), **more):
    return Store(ocm=ocm, run=run, segment=RESULT, offset=offset, waits=tuple(Wait(*w) for w in waits), **more)


def copy(src, dst, run=64, *, waits=(), **more):
    return Copy(src=src, dst=dst, run=run, waits=tuple(Wait(*w) for w in waits), **more)


def conv(part, dst, pixel=64, **more):
    """One half of the output channels of a 1 x 1 convolution of four pixels."""
    return Conv(
        src=0, in_height=2, in_width=2, in_channels=32, out_height=2, out_width=2, out_channels=32,
        src_row_stride=64, src_pixel_stride=32, dst=dst + 32 * part, dst_row_stride=2 * pixel, dst_pixel_stride=pixel,
        weights=0x400 + 0x400 * part, params=0xC00, waits=(Wait(SDMA, 1),), **more,
    )  # fmt: skip
