import numpy as np

from npusim.report.lanes import lanes, tiles


def test_lanes_hold_every_instruction_once_in_the_order_of_time(matmul):
    found = list(lanes(matmul.trace, matmul.cores))
    assert [(lane.core, lane.label) for lane in found[:6]] == [
        (0, "conv0"), (0, "conv1"), (0, "teng2"), (0, "cv3"), (0, "sdma4"), (1, "conv0"),
    ]  # fmt: skip
    assert sorted(np.concatenate([lane.rows for lane in found]).tolist()) == list(range(len(matmul.trace)))
    for lane in found:
        start, end = matmul.trace.start[lane.rows], matmul.trace.end[lane.rows]
        assert (start[1:] >= end[:-1]).all()
        assert (matmul.trace.position[lane.rows] == np.arange(len(lane.rows))).all()


def test_tiles_count_from_one_in_each_layer_unit_and_kind(matmul):
    numbered = tiles(matmul.trace)
    seen: dict[tuple, list] = {}
    for row, tile in sorted(zip(matmul.trace.rows(), numbered.tolist(), strict=True), key=lambda pair: pair[0].start):
        seen.setdefault((row.unit, row.mnemonic, row.origin), []).append(tile)
    assert all(found == list(range(1, len(found) + 1)) for found in seen.values())
