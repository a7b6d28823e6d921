"""What notebooks show: records for pandas, plots, reports, and HTML of everything."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

import npusim
from npusim import markup
from npusim.config import load
from npusim.errors import UsageError
from tests.graph.tiny import random_feeds


class Outline(HTMLParser):
    """The cells of the tables of a piece of HTML, and whether every element is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.rows = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, _):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def outline(shown):
    found = Outline(shown._repr_html_())
    assert found.open == []
    return found.rows


def test_a_summary_prints_as_one_line(several_built):
    summary = npusim.simulate(several_built).summary
    assert repr(summary) == (
        f"<Summary: {summary.cycles:,} cycles, {summary.latency_ms:.3f} ms, {len(summary.layers)} layers>"
    )


def test_layers_go_into_pandas(several_built):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed (extra dev)")
    found = npusim.simulate(several_built)
    frame = pandas.DataFrame(found.layers)
    assert list(frame["name"]) == [layer.name for layer in found.summary.layers]
    assert frame["macs"].sum() == found.summary.macs
    assert {"op", "cycles", "critical_cycles", "dram_bytes", "bound_by"} <= set(frame.columns)
    assert frame["cycles"].dtype == np.int64


def test_a_report_is_written_whole(several_built, tmp_path):
    found = npusim.simulate(several_built, cores=[2])
    found.write_report(tmp_path / "r.html")
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]
    assert f'"cycles":{found.summary.cycles}' in (tmp_path / "r.html").read_text()
    assert found.profile().cores == (2,)
    with pytest.raises(IsADirectoryError, match=f"cannot be written: Is a directory: '{tmp_path}'"):
        found.write_report(tmp_path)


def test_plots_are_those_of_the_report(several_built):
    matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra report)")
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    found = npusim.simulate(several_built, cores=[1])
    timeline = found.plot_timeline()
    assert timeline.get_yticklabels()[0].get_text() == "core1 conv0"
    assert found.plot_roofline().get_ylabel() == "TOPS"
    plt.close("all")


def test_a_run_for_values_only_has_nothing_to_draw(several, several_built):
    found = npusim.simulate(several_built, random_feeds(several), mode="values")
    for what in (lambda: found.layers, found.profile, found.plot_timeline, found.plot_roofline):
        with pytest.raises(UsageError, match="no cycles"):
            what()
    assert "values only" in found._repr_html_()


def test_results_and_summaries_show_their_layers(several_built):
    found = npusim.simulate(several_built)
    for shown in (found, found.summary, several_built):
        rows = outline(shown)
        assert rows[0][:4] == ["layer", "op", "bound by", "critical cycles"]
        assert {row[0] for row in rows[1:]} == {layer.name for layer in found.layers}
        longest = max(found.layers, key=lambda layer: layer.critical_cycles)
        assert rows[1][3] == f"{longest.critical_cycles:,}"


def test_traces_show_their_units(several_built):
    found = npusim.simulate(several_built)
    rows = outline(found.trace)
    assert [row[0] for row in rows[1:]] == [use.name for use in found.summary.units]
    assert [row[2] for row in rows[1:]] == [f"{use.busy_cycles:,}" for use in found.summary.units]


def test_models_and_sessions_show_their_tensors(several_built):
    for shown in (several_built.axmodel, several_built.session()):
        rows = outline(shown)
        assert [row[:4] for row in rows[1:3]] == [["input", "a", "u8", "1x4x6x6"], ["input", "b", "f32", "1x4x6x6"]]
        assert len(rows) == 1 + 2 + 2


def test_machines_show_where_their_numbers_come_from():
    machine = load("ax650n")
    rows = outline(machine)
    assert [row[0] for row in rows[1:]] == [path for path in machine.values() if path in machine.provenance]
    clock = next(row for row in rows if row[0] == "machine.clock_hz")
    assert clock[1] == "880,000,000"
    assert clock[3] == "inferred"


def test_names_are_text():
    shown = markup.heading("<b>&") + markup.table(["<i>"], [["</table>"], ["<script>"]])
    assert not re.search(r"<(i|script)>|<b><b>", shown)
    assert "&lt;/table&gt;" in shown
