"""The rules of the trace event format, checked one by one: what Perfetto and Chrome require of a file.

After "Trace Event Format" (the document both tools name): phases X, s, f, C and M, their required members and how
flows bind to slices.
"""

from __future__ import annotations

from typing import Any

REQUIRED = {
    "X": {"name", "ph", "ts", "dur", "pid", "tid"},
    "s": {"name", "cat", "ph", "ts", "pid", "tid", "id"},
    "f": {"name", "cat", "ph", "ts", "pid", "tid", "id"},
    "C": {"name", "ph", "ts", "pid", "args"},
    "M": {"name", "ph", "pid", "args"},
}
METADATA = {"process_name", "process_sort_index", "thread_name", "thread_sort_index"}


def complaints(document: dict[str, Any]) -> list[str]:
    """What a trace file does against the format, one line each."""
    if not isinstance(document.get("traceEvents"), list):
        return ["there is no list traceEvents"]
    events = document["traceEvents"]
    found = [complaint for event in events for complaint in _members(event)]
    return found or [*_slices(events), *_flows(events), *_counters(events), *_names(events)]


def _members(event):
    phase = event.get("ph")
    if phase not in REQUIRED:
        yield f"unknown phase {phase!r}"
        return
    if missing := REQUIRED[phase] - event.keys():
        yield f"{phase} lacks {sorted(missing)}"
    for key in ("ts", "dur"):
        if key in event and not (isinstance(event[key], int | float) and event[key] >= 0):
            yield f"{key} is {event[key]!r}"
    if any(not isinstance(event.get(key, 0), int) for key in ("pid", "tid")):
        yield "pid and tid are whole numbers"
    if phase == "C" and not all(isinstance(value, int | float) for value in event["args"].values()):
        yield f"counter {event['name']} has a value that is no number"
    if phase == "M" and event["name"] not in METADATA:
        yield f"unknown metadata {event['name']}"


def nanoseconds(microseconds):
    return round(microseconds * 1000)


def _by_thread(events, phase):
    threads: dict = {}
    for event in events:
        if event["ph"] == phase:
            threads.setdefault((event["pid"], event["tid"]), []).append(event)
    return threads


def _slices(events):
    for thread, slices in _by_thread(events, "X").items():
        end = 0
        for event in sorted(slices, key=lambda e: e["ts"]):
            if nanoseconds(event["ts"]) < end:
                yield f"slices of {thread} overlap at {event['ts']}"
            end = nanoseconds(event["ts"]) + nanoseconds(event["dur"])


def _flows(events):
    starts = {event["id"]: event for event in events if event["ph"] == "s"}
    ends = {event["id"]: event for event in events if event["ph"] == "f"}
    if len(starts) + len(ends) != sum(event["ph"] in "sf" for event in events):
        yield "a flow id is used twice"
    if starts.keys() != ends.keys():
        yield f"flows without their other end: {sorted(starts.keys() ^ ends.keys())}"
    slices = _by_thread(events, "X")
    for number in starts.keys() & ends.keys():
        start, end = starts[number], ends[number]
        if start["ts"] > end["ts"]:
            yield f"flow {number} goes back in time"
        if (start["cat"], start["name"]) != (end["cat"], end["name"]):
            yield f"flow {number} changes its name"
        if end.get("bp") != "e":
            yield f"flow {number} binds to the next slice"
        for event in (start, end):
            at = nanoseconds(event["ts"])
            mine = slices.get((event["pid"], event["tid"]), ())
            if not any(nanoseconds(s["ts"]) <= at < nanoseconds(s["ts"]) + nanoseconds(s["dur"]) for s in mine):
                yield f"flow {number} touches no slice at {event['ts']}"


def _counters(events):
    last: dict = {}
    for event in events:
        if event["ph"] == "C":
            key = event["pid"], event["name"]
            if event["ts"] < last.get(key, 0):
                yield f"counter {key} goes back in time at {event['ts']}"
            last[key] = event["ts"]


def _names(events):
    processes = {e["pid"] for e in events if e["name"] == "process_name"}
    threads = {(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"}
    for event in events:
        if event["pid"] not in processes:
            yield f"process {event['pid']} has no name"
        if event["ph"] in "Xsf" and (event["pid"], event["tid"]) not in threads:
            yield f"thread {event['pid'], event['tid']} has no name"
