import math

import pytest

from npusim.report.roofline import roofline


def test_roofs_come_from_the_machine(matmul, chain):
    three = roofline(matmul.summary, matmul.hardware, 3)
    assert three.peak_tops == pytest.approx(2 * 3 * 2 * 32 * 32 * 0.88e9 / 1e12)
    assert [slope.name for slope in three.slopes] == ["DRAM", "OCM ports"]
    assert [slope.gb_per_second for slope in three.slopes] == pytest.approx([34.128, 3 * 64 * 0.88])
    # DRAM is shared, the ports are the cores' own
    assert roofline(chain.summary, chain.hardware, 2).slopes[1].gb_per_second == pytest.approx(2 * 64 * 0.88)


def test_points_are_layers_that_multiply_and_stay_under_their_roofs(matmul, chain):
    for profile in (matmul, chain):
        roof = roofline(profile.summary, profile.hardware, len(profile.cores))
        layers = {layer.name: layer for layer in profile.summary.layers}
        assert [point.name for point in roof.points] == [n for n, layer in layers.items() if layer.macs]
        for point in roof.points:
            layer = layers[point.name]
            seconds = layer.active_cycles / profile.hardware.machine.clock_hz
            assert point.tops == pytest.approx(2 * layer.macs / seconds / 1e12)
            assert point.tops <= roof.peak_tops
            if math.isfinite(point.ops_per_byte):
                assert point.ops_per_byte == 2 * layer.macs / layer.dram_bytes
                assert point.tops <= roof.slopes[0].tops(point.ops_per_byte)
            else:
                assert layer.dram_bytes == 0
