import gzip
import json
import re

import pytest
from hypothesis import given, settings

from npusim.config import load
from npusim.report.chrome import trace_bytes, trace_events
from npusim.session.profiles import profile_program
from tests.report.trace_format import complaints
from tests.sim.race_free import cases


def document(profile):
    return json.loads(trace_bytes(profile))


def phase(profile, letter):
    return [event for event in trace_events(profile) if event["ph"] == letter]


def test_the_format_is_kept(matmul, chain):
    assert complaints(document(matmul)) == []
    assert complaints(document(chain)) == []


@settings(max_examples=15)
@given(cases())
def test_the_format_is_kept_by_any_program_at_any_clock(case):
    # 0.7 ns a cycle: neighbours round to the same nanosecond differently
    machine = load("small").with_values({"machine.clock_hz": 880_000_000})
    profile = profile_program(case.program, machine)
    assert complaints(document(profile)) == []
    assert len(phase(profile, "X")) == len(case.program)


def test_lanes_are_named_as_the_vendor_names_them(chain):
    names = [e["args"]["name"] for e in phase(chain, "M") if e["name"] == "thread_name" and e["pid"] == 1]
    assert names == [name for name in ("conv0", "conv1", "teng2", "cv3", "sdma4") if name in names]
    assert {"conv0", "sdma4"} <= set(names)
    processes = [e["args"]["name"] for e in phase(chain, "M") if e["name"] == "process_name"]
    assert processes == ["core0", "core1", "memory"]


def test_slices_carry_layer_tile_and_figures(matmul):
    slices = [e for e in phase(matmul, "X") if e["cat"] == "matmul"]
    rows = [r for r in matmul.trace.rows() if r.mnemonic == "matmul"]
    assert len(slices) == len(rows) > 0
    assert {re.sub(r" #\d+$", "", e["name"]) for e in slices} == {r.origin for r in rows}
    assert sum(e["args"]["macs"] for e in slices) == 768 * 256 * 256
    row = min(rows, key=lambda r: (r.unit, r.position))
    event = min(slices, key=lambda e: (e["pid"], e["tid"], e["args"]["pc"]))
    assert (event["args"]["start"], event["args"]["cycles"]) == (row.start, row.end - row.start)
    # 880 MHz: a cycle is 25/22 ns
    assert event["ts"] == pytest.approx(row.start / 880, abs=6e-4)
    assert event["dur"] == pytest.approx((row.end - row.start) / 880, abs=1.2e-3)


def test_every_wait_that_cost_cycles_is_an_arrow_from_its_cause(matmul):
    starts = {e["id"]: e for e in phase(matmul, "s")}
    stalled = [r for r in matmul.trace.rows() if r.cause.startswith("core")]
    assert len(starts) == len(stalled) > 0
    lanes = {(e["pid"], e["tid"]): e["args"]["name"] for e in phase(matmul, "M") if e["name"] == "thread_name"}
    found = sorted(f"core{e['pid'] - 1}.{lanes[e['pid'], e['tid']]}" for e in starts.values())
    numbered = {"teng": "teng2", "cv": "cv3", "sdma": "sdma4"}
    causes = [row.cause.split(".") for row in stalled]
    assert found == sorted(f"{core}.{numbered.get(unit, unit)}" for core, unit in causes)


def test_counters_end_where_they_began(chain):
    last: dict = {}
    for event in phase(chain, "C"):
        last[event["pid"], event["name"]] = event["args"]["value"]
    assert set(last.values()) == {0}
    assert {"DRAM read GB/s", "DRAM write GB/s", "OCM bytes"} <= {name for _, name in last}


def test_compressed_is_the_same_and_repeats(chain):
    packed = trace_bytes(chain, compressed=True)
    assert gzip.decompress(packed) == trace_bytes(chain)
    assert packed[4:8] == b"\0" * 4  # no time of writing in the file's head
    assert len(packed) < len(trace_bytes(chain)) / 3


PLANTED = {
    "overlap": lambda events: next(e for e in events if e["ph"] == "X").update(dur=1e6),
    "without their other end": lambda events: events.remove(next(e for e in events if e["ph"] == "f")),
    "back in time": lambda events: next(e for e in events if e["ph"] == "s").update(ts=1e6),
    "touches no slice": lambda events: next(e for e in events if e["ph"] == "f").update(ts=1e6),
    "counter": lambda events: next(e for e in events if e["ph"] == "C").update(ts=1e6),
    "no name": lambda events: events.remove(next(e for e in events if e["name"] == "thread_name")),
    "lacks": lambda events: next(e for e in events if e["ph"] == "X").pop("dur"),
    "used twice": lambda events: next(e for e in events if e["ph"] == "s").update(id=2),
}


@pytest.mark.parametrize("words", PLANTED)
def test_the_checker_sees_what_is_wrong(matmul, words):
    broken = document(matmul)
    PLANTED[words](broken["traceEvents"])
    assert any(words in complaint for complaint in complaints(broken))
