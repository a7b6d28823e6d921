"""Variants: a file that extends another, and sweeps over values."""

from __future__ import annotations

import os

import numpy as np
import pytest

from npusim import config
from npusim.config import Provenance, ProvenanceKind
from npusim.errors import ConfigError

USER = Provenance(kind=ProvenanceKind.USER, note="set by the user")


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_extends_a_name_with_plain_values(tmp_path):
    path = write(tmp_path, "fast.toml", 'extends = "AX650"\n[dram]\nbytes_per_second = 51_200_000_000\n')
    base, fast = config.load("ax650n"), config.load(path)
    changed = {key for key, value in fast.values().items() if value != base.values()[key]}
    assert changed == {"machine.name", "dram.bytes_per_second"}
    assert fast.machine.name == "fast"
    assert fast.dram.bytes_per_second == 51_200_000_000
    assert fast.provenance["dram.bytes_per_second"] == USER
    assert fast.provenance["conv.rows"] == base.provenance["conv.rows"]


def test_extends_with_provenance(tmp_path):
    entry = '{ value = 3, source = "measured", note = "on our board" }'
    hardware = config.loads(f'extends = "small"\n[conv]\nissue_cycles = {entry}\nepilogue_cycles = {{ value = 1 }}\n')
    assert hardware.conv.issue_cycles == 3
    assert hardware.provenance["conv.issue_cycles"] == Provenance(kind=ProvenanceKind.MEASURED, note="on our board")
    assert hardware.provenance["conv.epilogue_cycles"] == USER
    assert hardware.machine.name == "variant of small"


def test_extends_a_path_relative_to_the_file(tmp_path, monkeypatch):
    write(tmp_path, "base.toml", 'extends = "small"\n[machine]\nname = "base"\n[cv]\ntranspose_tile = 8\n')
    path = write(tmp_path, "deep/er.toml", 'extends = "../base.toml"\n[cv]\nissue_cycles = 7\n')
    monkeypatch.chdir(os.sep)
    hardware = config.load(str(path))
    assert (hardware.cv.transpose_tile, hardware.cv.issue_cycles, hardware.machine.name) == (8, 7, "er")


def test_extends_itself(tmp_path):
    write(tmp_path, "a.toml", 'extends = "b.toml"\n')
    path = write(tmp_path, "b.toml", 'extends = "a.toml"\n')
    with pytest.raises(ConfigError, match="extends itself") as caught:
        config.load(path)
    assert caught.value.path == "extends"


@pytest.mark.parametrize("text", ['extends = "smal"\n', "extends = 3\n"])
def test_extends_nothing(text):
    with pytest.raises(ConfigError, match=r"small|takes a name or a path"):
        config.loads(text)


def test_variant_is_checked_like_any_other():
    with pytest.raises(ConfigError) as caught:
        config.loads('extends = "small"\n[conv]\nrow = 3\n', "v.toml")
    assert (caught.value.path, caught.value.source) == ("conv.row", "v.toml")
    assert "did you mean 'rows'" in caught.value.suggestion


def test_variant_with_another_array_takes_its_own_peak():
    # 3 cores x 2 units x 8 x 4 x 2 operations x 1 GHz
    hardware = config.loads('extends = "small"\n[conv]\nrows = 8\n')
    assert hardware.machine.declared_tops == pytest.approx(0.384)
    assert hardware.provenance["machine.declared_tops"].kind is ProvenanceKind.USER


def test_variant_that_declares_a_peak_is_held_to_it():
    with pytest.raises(ConfigError, match=r"declares 0\.4 TOPS") as caught:
        config.loads('extends = "small"\n[conv]\nrows = 8\n[machine]\ndeclared_tops = 0.4\n')
    assert caught.value.path == "machine.declared_tops"


def test_variant_with_a_bad_array_is_refused_for_the_array():
    with pytest.raises(ConfigError) as caught:
        config.loads('extends = "small"\n[conv]\nrows = "8"\n')
    assert caught.value.path == "conv.rows"


def test_sweep():
    small = config.load("small")
    for dataflow in ("weight_stationary", "output_stationary", "input_stationary"):
        assert small.with_values({"conv.dataflow": dataflow}).conv.dataflow == dataflow
    swept = small.with_values({"conv.dataflow": "output_stationary", "ocm.banks": 8})
    assert swept.machine.name == "small conv.dataflow=output_stationary ocm.banks=8"
    assert swept.provenance["ocm.banks"] == USER
    assert small.ocm.banks == 4
    assert small.provenance["ocm.banks"] != USER


def test_sweep_over_numpy_numbers():
    small = config.load("small")
    for clock_hz in np.linspace(1e9, 2e9, 3):
        hardware = small.with_values({"machine.clock_hz": clock_hz, "conv.rows": np.int64(8)})
        assert type(hardware.machine.clock_hz) is type(hardware.conv.rows) is int
        assert hardware.machine.declared_tops == pytest.approx(0.384 * clock_hz / 1e9)


def test_sweep_with_a_name_and_with_provenance():
    entry = {"value": 9, "source": "measured", "note": "on our board"}
    hardware = config.load("small").with_values({"machine.name": "mine", "teng.row_cycles": entry})
    assert hardware.machine.name == "mine"
    assert hardware.provenance["teng.row_cycles"].kind is ProvenanceKind.MEASURED


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"conv.dataflow": "systolic"}, "conv.dataflow"),
        ({"conv.row": 3}, "conv.row"),
        ({"conv": 3}, "conv"),
        ({"dram.page_bytes": 100}, "dram.page_bytes"),
        ({"conv.rows": None}, "conv.rows"),
        ({"machine.declared_tops": 1}, "machine.declared_tops"),
    ],
)
def test_sweep_is_checked(changes, path):
    with pytest.raises(ConfigError) as caught:
        config.load("small").with_values(changes)
    assert caught.value.path == path
