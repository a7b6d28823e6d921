"""How long the proof of a large program takes: ``python benchmarks/verify.py [--instructions N] [--repeat R]``.

Builds a program of the shape a compiler makes and prints ``{"rows": [...]}``. The times are wall-clock seconds of the
machine it runs on; the program is the same on every machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from isa.instruction import Instruction, Unit, Wait, unit_number
from isa.instructions import Barrier, Conv, Load, Lookup, Store
from isa.program import Program, Segment, SegmentKind, make_program
from isa.verify import Limits, check_bounds, verify

CORES = 3
LIMITS = Limits(cores=CORES, ocm_bytes=3 << 20)
HEIGHT, WIDTH, CHANNELS = 56, 56, 96
TILE_ROWS, TILE_COLUMNS = 4, 14
SLICE = CHANNELS // CORES
TENSOR_BYTES = HEIGHT * WIDTH * CHANNELS
WEIGHT_BYTES = 2 * 9 * CHANNELS * 32  # two conv units, each half a block of 32 output channels
PARAMETER_BYTES = 32 + 8 * SLICE
HEADER_BYTES = 4 << 20
USED = (Unit.CONV0, Unit.CONV1, Unit.TENG, Unit.SDMA)
EVERYBODY = sum(1 << unit_number(core, unit) for core in range(CORES) for unit in USED)
DMAS = sum(1 << unit_number(core, Unit.SDMA) for core in range(CORES))
TABLE = 0


class Core:
    """Streams of one core under construction: double-buffered tiles of 3 x 3 convolutions.

    Layers alternate between the whole machine meeting at a barrier, after which the buffers may move, and only the DMA
    units meeting, while the tiles of both layers overlap in time.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.streams: dict[Unit, list[Instruction]] = {unit: [] for unit in USED}
        self.computed: list[tuple[int, int, int]] = []  # by tile: what conv0, conv1 and teng have retired then
        self.stored: list[int] = []  # by tile: what sdma has retired then
        self.emit(Unit.SDMA, Load(ocm=TABLE, segment=0, offset=0, run=256))

    def emit(self, unit: Unit, instruction: Instruction) -> int:
        """Append; how many instructions the unit has now."""
        self.streams[unit].append(instruction)
        return len(self.streams[unit])

    def waits(self, *pairs: tuple[Unit, int]) -> tuple[Wait, ...]:
        """Waits for units of this core; those for nothing are left out."""
        return tuple(Wait(unit_number(self.number, unit), value) for unit, value in pairs if value)

    def layer(self, index: int) -> None:
        """All tiles of one layer, each for this core's slice of the output channels."""
        heap = 0x1000 + (index // 2 % 16) * 0x1340 // 64 * 64
        params = 0x2C0000 + index % 2 * 0x1000
        self.emit(
            Unit.SDMA, Load(ocm=params, segment=0, offset=(index * CORES + self.number) * 4096, run=PARAMETER_BYTES)
        )
        pending: tuple[int, int, int] | None = None
        for row in range(0, HEIGHT, TILE_ROWS):
            for column in range(0, WIDTH, TILE_COLUMNS):
                tile = self.compute(index, heap, params, row, column)
                if pending:
                    self.store(index, *pending)
                pending = (tile, row, column)
        assert pending
        self.store(index, *pending)

    def compute(self, index: int, heap: int, params: int, row: int, column: int) -> int:
        """Load a tile with its halo, convolve it on both units, look it up in place."""
        tile, half = len(self.computed), SLICE // 2
        source = heap + tile % 2 * 0x20000
        weights, result = source + 0x10000, heap + 0x80000 + tile % 2 * 0x8000
        conv0, conv1, _ = self.computed[tile - 2] if tile > 1 else (0, 0, 0)
        top, bottom = max(row - 1, 0), min(row + TILE_ROWS + 1, HEIGHT)
        left, right = max(column - 1, 0), min(column + TILE_COLUMNS + 1, WIDTH)
        self.emit(Unit.SDMA, Load(
            ocm=source, segment=1, offset=index * TENSOR_BYTES + (top * WIDTH + left) * CHANNELS,
            run=(right - left) * CHANNELS, count_1=bottom - top, ocm_stride_1=(right - left) * CHANNELS,
            dram_stride_1=WIDTH * CHANNELS, waits=self.waits((Unit.CONV0, conv0), (Unit.CONV1, conv1)),
        ))  # fmt: skip
        offset = HEADER_BYTES + (index * CORES + self.number) * WEIGHT_BYTES
        loaded = self.emit(Unit.SDMA, Load(ocm=weights, segment=0, offset=offset, run=WEIGHT_BYTES))
        stored = self.stored[tile - 2] if tile > 1 else 0
        retired = [
            self.emit(unit, Conv(
                src=source, in_height=bottom - top, in_width=right - left, in_channels=CHANNELS,
                out_height=TILE_ROWS, out_width=TILE_COLUMNS, kernel_height=3, kernel_width=3,
                pad_top=top - row + 1, pad_left=left - column + 1,
                src_row_stride=(right - left) * CHANNELS, src_pixel_stride=CHANNELS,
                dst=result + part * half, dst_row_stride=TILE_COLUMNS * SLICE, dst_pixel_stride=SLICE,
                out_channels=half, weights=weights + part * WEIGHT_BYTES // 2, params=params, has_bias=1, per_channel=1,
                waits=self.waits((Unit.SDMA, max(loaded, stored))),
            ))
            for part, unit in enumerate((Unit.CONV0, Unit.CONV1))
        ]  # fmt: skip
        looked_up = self.emit(Unit.TENG, Lookup(
            src=result, dst=result, count=TILE_ROWS * TILE_COLUMNS * SLICE, table=TABLE,
            waits=self.waits((Unit.CONV0, retired[0]), (Unit.CONV1, retired[1])),
        ))  # fmt: skip
        self.computed.append((retired[0], retired[1], looked_up))
        return tile

    def store(self, index: int, tile: int, row: int, column: int) -> None:
        """Write a finished tile into this core's channels of the next tensor."""
        heap = 0x1000 + (index // 2 % 16) * 0x1340 // 64 * 64
        start = ((row * WIDTH + column) * CORES + self.number) * SLICE
        self.stored.append(self.emit(Unit.SDMA, Store(
            ocm=heap + 0x80000 + tile % 2 * 0x8000, segment=1, offset=(index + 1) * TENSOR_BYTES + start,
            run=SLICE, count_1=TILE_COLUMNS, count_2=TILE_ROWS,
            ocm_stride_1=SLICE, ocm_stride_2=TILE_COLUMNS * SLICE,
            dram_stride_1=CHANNELS, dram_stride_2=WIDTH * CHANNELS,
            waits=self.waits((Unit.TENG, self.computed[tile][2])),
        )))  # fmt: skip


def build(instructions: int) -> Program:
    """A three-core chain of convolutions of at least so many instructions."""
    cores = [Core(number) for number in range(CORES)]
    # the first tensor comes from the parameters segment
    for core in cores:
        rows = HEIGHT // 2
        core.emit(Unit.SDMA, Load(ocm=0x100000, segment=0, offset=0, run=rows * WIDTH * CHANNELS))
        if core.number == 0:
            for half in range(2):
                core.emit(Unit.SDMA, Store(
                    ocm=0x100000, segment=1, offset=half * rows * WIDTH * CHANNELS, run=rows * WIDTH * CHANNELS
                ))  # fmt: skip
    layers = 0
    while sum(len(stream) for core in cores for stream in core.streams.values()) < instructions:
        for core in cores:
            for unit in USED if layers % 2 == 0 else (Unit.SDMA,):
                core.emit(unit, Barrier(units=DMAS if layers % 2 else EVERYBODY, id=layers % 2))
            core.layer(layers)
        layers += 1
    parameters = np.zeros(HEADER_BYTES + layers * CORES * WEIGHT_BYTES, np.uint8)
    return make_program(
        f"{layers} convolutions",
        {unit_number(c.number, unit): stream for c in cores for unit, stream in c.streams.items()},
        [
            Segment(name="parameters", kind=SegmentKind.PARAMETERS, size_bytes=parameters.size, data=parameters),
            Segment(name="tensors", kind=SegmentKind.SCRATCH, size_bytes=(layers + 1) * TENSOR_BYTES),
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instructions", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    program = build(options.instructions)
    times: dict[str, list[float]] = {"verify": [], "check_bounds": []}
    for _ in range(options.repeat):
        start = time.perf_counter()
        report = verify(program, LIMITS)
        times["verify"].append(time.perf_counter() - start)
        start = time.perf_counter()
        check_bounds(program, LIMITS)
        times["check_bounds"].append(time.perf_counter() - start)
        if not report.clean:
            raise SystemExit("\n".join(map(str, report.violations)))
    rows = [
        {
            "benchmark": name, "program": program.name, "instructions": report.instructions,
            "accesses": report.accesses, "boxes": report.boxes, "seconds": round(min(seconds), 3),
            "seconds_all": [round(s, 3) for s in seconds],
        }
        for name, seconds in times.items()
    ]  # fmt: skip
    print(json.dumps({"rows": rows}, indent=2))


if __name__ == "__main__":
    main()
