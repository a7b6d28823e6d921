"""Short programs on the small machine, for the tests of what it does with them."""

from __future__ import annotations

import numpy as np

from isa.assembler import assemble
from npusim.config import load
from npusim.sim import Job, Mode, simulate

SMALL = load("small")
X = np.arange(256, dtype=np.uint8)
BOTH = (Mode.FULL, Mode.VALUES)

ROUND_TRIP = """
.program round_trip
.segment x input 256
.segment y output 256
in:  sdma load  ocm=0x0 segment=x run=256
mid: cv   copy  src=0x0 dst=0x4000 run=256 wait(in)
     sdma store ocm=0x4000 segment=y run=256 wait(mid)
"""


def run(text, *, inputs=None, cores=None, arrival_cycle=0, **options):
    job = Job(
        program=assemble(text), inputs={"x": X} if inputs is None else inputs, cores=cores, arrival_cycle=arrival_cycle
    )
    return simulate(SMALL, job, **options)
