import json
import re
from dataclasses import replace

import pytest

import npusim
from npusim.errors import UsageError
from npusim.report.chrome import trace_bytes
from npusim.report.page import embedded, page
from npusim.session.profiles import profile_model
from tests.report.trace_format import complaints
from tests.session.test_cpu_parts import sandwich


def data(text):
    return json.loads(text.partition('id="data">')[2].partition("</script>")[0])


def test_the_page_repeats(matmul):
    assert page([matmul], "1") == page([matmul], "1")


def test_nothing_is_asked_of_a_network(matmul):
    text = page([matmul], "1")
    assert "default-src 'none'" in text
    assert set(re.findall(r"\b(?:https?:)?//[a-z][\w.-]+\.\w+", text)) <= {"http://www.w3.org"}  # the name of SVG
    assert not re.search(r"<(?:script|img|iframe)[^>]+src=|@import|url\(", text)


def test_slices_come_back_from_their_gaps(matmul):
    (run,) = data(page([matmul], "1"))["runs"]
    spans = set()
    for lane in run["lanes"]:
        time = 0
        for gap, cycles in zip(lane["gap"], lane["cycles"], strict=True):
            spans.add((f"core{lane['core']}.{lane['label'].rstrip('0123456789')}", time + gap, time + gap + cycles))
            time += gap + cycles
    rows = matmul.trace.rows()
    assert spans == {(row.unit.rstrip("01"), row.start, row.end) for row in rows}
    assert sum(sum(lane["macs"]) for lane in run["lanes"]) == matmul.summary.macs


def test_data_cannot_leave_its_element():
    hostile = "</script><!--<script>&\u2028\u2029"
    text = embedded({hostile: [hostile]})
    assert not re.search(r"[<>&\u2028\u2029]", text)
    assert json.loads(text) == {hostile: [hostile]}


def test_marks_of_the_template_are_filled_once(matmul):
    assert not re.search(r"@(title|style|script|data)@", page([matmul], "1"))
    named = page([replace(matmul, name="@data@")], "1")
    assert "<title>@data@" in named
    assert data(named)["runs"][0]["name"] == "@data@"


def test_without_profiles_there_is_no_page():
    with pytest.raises(UsageError, match="at least one profile"):
        page([], "1")


def test_a_model_of_several_parts_is_one_run_with_its_host_time():
    profile = profile_model(npusim.build(sandwich(), npu_mode="NPU2", cpu_fallback=True).axmodel)
    assert len(profile.trace) > 0
    assert sum(profile.summary.critical_cycles.values()) == profile.summary.cycles
    (run,) = data(page([profile], "1"))["runs"]
    assert [part[0] for part in run["host"]] == ["cpu_0"]
    assert run["figures"]["host_ms"] == profile.summary.host_ms > 0
    assert complaints(json.loads(trace_bytes(profile))) == []
