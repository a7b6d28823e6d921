"""Broken descriptions are refused with the dotted path of the culprit and the nearest valid spelling."""

from __future__ import annotations

import dataclasses
import re

import pytest

from npusim import config
from npusim.config.hardware import KEYS
from npusim.config.reader import FOLDER
from npusim.errors import ConfigError

SMALL = (FOLDER / "small.toml").read_text(encoding="utf-8")


def refusal(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        config.loads(text, "my.toml")
    error = caught.value
    assert error.source in ("my.toml", "")
    return error


def small_with(line: str) -> str:
    """small.toml with one line replaced by another of the same key, which names its table: ``conv: rows = 4``."""
    table, line = line.split(": ", 1)
    key = line.split()[0]
    head, body = SMALL.split(f"[{table}]", 1)
    changed, count = re.subn(rf"^{key} .*$", line, body, count=1, flags=re.MULTILINE)
    assert count == 1
    return f"{head}[{table}]{changed}"


def value(key: str, text: str) -> str:
    return f'{key} = {{ value = {text}, source = "assumed", note = "x" }}'


@pytest.mark.parametrize(
    ("line", "path", "message"),
    [
        (value("conv: rows", '"32"'), "conv.rows", "takes a whole number, not '32'"),
        (value("conv: rows", "4.5"), "conv.rows", "takes a whole number, not 4.5"),
        (value("conv: rows", "true"), "conv.rows", "takes a whole number, not True"),
        (value("conv: rows", "[4]"), "conv.rows", "takes a whole number, not [4]"),
        (value("conv: rows", "0"), "conv.rows", "is 0, must be 1 to 4096"),
        (value("conv: rows", "4097"), "conv.rows", "is 4097, must be 1 to 4096"),
        (value("conv: fold_overlap", "1"), "conv.fold_overlap", "takes true or false, not 1"),
        (value("conv: dataflow", '"row_stationary"'), "conv.dataflow", "must be one of weight_stationary, output_"),
        (value("machine: launch_ms", "nan"), "machine.launch_ms", "is nan, must be 0 to 10000"),
        (value("machine: launch_ms", '"1"'), "machine.launch_ms", "takes a number, not '1'"),
        ("machine: name = 3", "machine.name", "takes text, not 3"),
        ('machine: name = " "', "machine.name", "is empty"),
        (value("machine: cores", "13"), "machine.cores", "is 13, must be 1 to 12"),
        (value("sync: counter_latency_cycles", "0"), "sync.counter_latency_cycles", "is 0, must be 1"),
        (value("sync: cross_core_latency_cycles", "0"), "sync.cross_core_latency_cycles", "is 0, must be 1"),
        (value("sync: control_cycles", "0"), "sync.control_cycles", "is 0, must be 1"),
        (value("path: latency_cycles", "0"), "path.latency_cycles", "is 0, must be 1"),
        (value("dram: read_latency_cycles", "0"), "dram.read_latency_cycles", "is 0, must be 1"),
        (value("dram: write_latency_cycles", "0"), "dram.write_latency_cycles", "is 0, must be 1"),
        (value("dram: page_bytes", "250"), "dram.page_bytes", "must be a multiple of dram.burst_bytes"),
        (value("dram: bytes", "1000"), "dram.bytes", "must be a multiple of dram.page_bytes"),
        (value("ocm: banks", "3"), "ocm.bytes", "must be a multiple of ocm.banks"),
        (value("ocm: bytes", "16777220"), "ocm.bytes", "must be 1 to 1.67772e+07"),
        (value("teng: bytes_per_cycle", "12"), "teng.bytes_per_cycle", "must be a multiple of 8"),
        (value("dram: refresh_cycles", "1"), "dram.refresh_cycles", "must be less than dram.refresh_interval_cycles"),
        (value("machine: declared_tops", "0.195"), "machine.declared_tops", "declares 0.195 TOPS, but"),
        (value("machine: cores", "2"), "machine.declared_tops", "make 0.128"),
        ("conv: rows = 4", "conv.rows", "does not say where its value comes from"),
        ("conv: rows = { value = 4 }", "conv.rows.source", "is missing"),
        ('conv: rows = { value = 4, source = "assumed" }', "conv.rows.note", "is missing"),
        ('conv: rows = { value = 4, source = "assumed", note = "" }', "conv.rows.note", "takes a sentence"),
        ('conv: rows = { source = "assumed", note = "x" }', "conv.rows.value", "is missing"),
        ('conv: rows = { value = 4, source = "user", note = "x" }', "conv.rows.source", "must be one of published"),
        ('conv: rows = { value = 4, source = 3, note = "x" }', "conv.rows.source", "is 3, must be one of"),
    ],
)
def test_bad_value(line, path, message):
    error = refusal(small_with(line))
    assert error.path == path
    assert message in str(error)
    assert str(error).startswith(f"my.toml: {path}: ")


def test_declared_tops_may_be_one_per_cent_off():
    # 0.192 / 0.1938 is 0.93 % below, 0.192 / 0.195 is 1.5 % below (refused above)
    assert config.loads(small_with(value("machine: declared_tops", "0.1938"))).machine.declared_tops == 0.1938


def test_integer_written_as_a_float():
    hardware = config.loads(small_with(value("dram: bytes_per_second", "16e9")))
    assert hardware == config.load("small")
    assert type(hardware.dram.bytes_per_second) is int


@pytest.mark.parametrize(
    ("text", "path", "suggestion"),
    [
        (SMALL + "\n[dramm]\n", "dramm", "did you mean 'dram'?"),
        (SMALL + "\npage_byte = 1\n", "dram.page_byte", "did you mean 'page_bytes'?"),
        (SMALL + "\ngroup_flits = 1\n", "dram.group_flits", "did you mean 'path.group_flits'?"),
        (small_with('conv: rows = { valu = 4, source = "assumed", note = "x" }'), "conv.rows.valu", "'value'?"),
        (small_with('conv: rows = { value = 4, source = "asumed", note = "x" }'), "conv.rows.source", "'assumed'?"),
        (small_with(value("conv: dataflow", '"weigt_stationary"')), "conv.dataflow", "'weight_stationary'?"),
    ],
)
def test_did_you_mean(text, path, suggestion):
    error = refusal(text)
    assert error.path == path
    assert error.suggestion.startswith("did you mean")
    assert suggestion in error.suggestion


def test_unknown_keys_elsewhere():
    assert refusal("conv = 3\n").path == "conv"
    assert refusal("rows = 3\n").path == "rows"


def test_missing_keys_are_all_named():
    lines = [line for line in SMALL.splitlines() if not re.match(r"(page_bytes|transpose_tile|group_bursts) ", line)]
    error = refusal("\n".join(lines))
    assert error.path == "cv.transpose_tile"
    assert "is missing; so are dram.group_bursts, dram.page_bytes" in str(error)


def test_empty_file_misses_everything():
    error = refusal("")
    assert [path for path in KEYS if path not in str(error)] == []


def test_bad_toml_names_the_line():
    error = refusal("[machine]\nname = \n")
    assert "is not TOML" in str(error)
    assert "line 2" in str(error)


def test_key_given_twice():
    assert "line" in str(refusal("[machine]\nname = 'a'\nname = 'b'\n"))


def test_unknown_name_and_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"built-in descriptions are ax650n, small; did you mean .*'ax650n'"):
        config.load("ax650m")
    with pytest.raises(ConfigError, match="No such file"):
        config.load(tmp_path / "none.toml")


def test_file_that_is_no_text(tmp_path):
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        config.load(tmp_path / "bad.toml")


def test_records_made_by_hand_are_checked():
    small = config.load("small")
    with pytest.raises(ConfigError, match=r"small: conv\.rows: is 0"):
        dataclasses.replace(small, conv=dataclasses.replace(small.conv, rows=0))
