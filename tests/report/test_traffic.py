import numpy as np
import pytest

from npusim.report.traffic import WINDOWS, dram_traffic


def moved(curve):
    return float((np.diff(curve.cycles) * curve.values[:-1]).sum())


def test_every_byte_is_somewhere(matmul, chain):
    for profile in (matmul, chain):
        reads, writes = dram_traffic(profile.trace)
        stores = np.array([row.mnemonic == "store" for row in profile.trace.rows()])
        assert moved(writes) == pytest.approx(profile.trace.dram_bytes[stores].sum(), rel=1e-9)
        assert moved(reads) == pytest.approx(profile.trace.dram_bytes[~stores].sum(), rel=1e-9)
        assert moved(reads) > 0
        assert reads.values[-1] == writes.values[-1] == 0
        assert len(reads.cycles) <= WINDOWS + 2


def test_a_lone_transfer_is_spread_over_its_execution(chain):
    row = int(np.flatnonzero(chain.trace.dram_bytes)[0])
    alone = chain.trace.take(np.array([row]))
    reads, writes = dram_traffic(alone)
    curve = reads if reads.peak else writes
    start, end = int(alone.start[0]), int(alone.end[0])
    busy = (curve.cycles[:-1] >= start) & (curve.cycles[1:] <= end)
    assert curve.values[:-1][busy] == pytest.approx(int(alone.dram_bytes[0]) / (end - start))
