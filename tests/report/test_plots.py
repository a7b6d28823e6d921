"""Plots: what is drawn, read back from the figure."""

import re
import sys
from importlib import resources

import numpy as np
import pytest

from npusim.errors import UsageError
from npusim.report.critical import bounds_of
from npusim.report.plots import COLORS, plot_roofline, plot_timeline
from npusim.report.roofline import roofline

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra report)")


@pytest.fixture(autouse=True)
def no_screen():
    matplotlib.use("Agg")
    yield
    from matplotlib import pyplot as plt

    plt.close("all")


def drawn(axes):
    """Area of all bars of each colour that are not pale, in ms times lanes."""
    areas: dict = {}
    for collection in axes.collections:
        if collection.get_alpha() is None:
            color = matplotlib.colors.to_hex(collection.get_facecolor()[0]) if len(collection.get_facecolor()) else ""
            boxes = [path.get_extents() for path in collection.get_paths()]
            areas[color] = areas.get(color, 0) + sum(box.width for box in boxes)
    return areas


def test_bars_are_as_long_as_the_units_worked(matmul):
    axes = plot_timeline(matmul.trace, matmul.hardware, matmul.cores)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[:6] == ["core0 conv0", "core0 conv1", "core0 teng2", "core0 cv3", "core0 sdma4", "core1 conv0"]
    kinds = bounds_of(matmul.trace)
    busy = np.bincount(kinds, weights=matmul.trace.end - matmul.trace.start, minlength=5) / 880e3
    areas = drawn(axes)
    for bound, expected in zip(COLORS, busy, strict=True):
        assert areas.get(COLORS[bound], 0) == pytest.approx(expected, rel=1e-6)
    assert axes.get_xlim()[1] == pytest.approx(matmul.summary.cycles / 880e3)


def test_points_of_the_roofline_are_the_layers(matmul):
    axes = plot_roofline(matmul.summary, matmul.hardware, 3)
    (scatter,) = axes.collections
    roof = roofline(matmul.summary, matmul.hardware, 3)
    expected = [(point.ops_per_byte, point.tops) for point in roof.points if np.isfinite(point.ops_per_byte)]
    np.testing.assert_allclose(np.asarray(scatter.get_offsets()), np.array(expected).reshape(-1, 2))
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["10.81 TOPS", "DRAM 34.1 GB/s", "OCM ports 169.0 GB/s"]


def test_plots_are_drawn_where_they_are_told(matmul):
    from matplotlib import pyplot as plt

    _, (left, right) = plt.subplots(1, 2)
    assert plot_timeline(matmul.trace, matmul.hardware, matmul.cores, left) is left
    assert plot_roofline(matmul.summary, matmul.hardware, 3, right) is right


def test_without_matplotlib_the_extra_is_named(matmul, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install 'npusim\[report\]'"):
        plot_timeline(matmul.trace, matmul.hardware, matmul.cores)


def test_page_and_plots_agree_on_colours():
    style = (resources.files("npusim.report") / "template" / "page.css").read_text(encoding="utf-8")
    light = style.partition('[data-theme="dark"]')[0]
    assert dict(re.findall(r"--(compute|vector|move|dram|sync): (#[0-9a-f]{6})", light)) == COLORS
