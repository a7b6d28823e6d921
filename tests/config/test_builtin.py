"""The shipped descriptions: complete, with an origin for every number, and what follows from them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from npusim import config
from npusim.config import ProvenanceKind
from npusim.config.hardware import KEYS
from npusim.config.reader import FOLDER
from npusim.errors import ConfigError

BUILT_IN = sorted(path.stem for path in FOLDER.glob("*.toml"))


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_file_has_a_name_and_loads(name):
    assert config.load(name).machine.name == name


def test_every_name_has_a_file():
    assert sorted(set(config.NAMES.values())) == BUILT_IN


@pytest.mark.parametrize("alias", ["AX650", "AX650N", "ax650", "Ax650n"])
def test_aliases_in_any_case(alias):
    assert config.load(alias) == config.load("ax650n")


def test_a_path_is_a_file_even_where_it_reads_like_a_name():
    with pytest.raises(ConfigError, match="cannot read"):
        config.load(Path("small"))


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_number_says_where_it_comes_from(name):
    hardware = config.load(name)
    assert hardware.provenance.keys() == {path for path, key in KEYS.items() if key.has_provenance}
    for path, origin in hardware.provenance.items():
        assert origin.kind is not ProvenanceKind.USER, path
        assert origin.note.strip(), path


def test_nothing_is_fitted():
    # The head of ax650n.toml says so; a fit would change what agreement with measurements proves.
    kinds = {origin.kind for origin in config.load("ax650n").provenance.values()}
    assert ProvenanceKind.FITTED not in kinds


def test_peak_of_ax650n():
    hardware = config.load("ax650n")
    # 3 cores x 2 units x 32 x 32; x 2 operations x 880 MHz = 10.81 TOPS, 0.12 % above the declared 10.8
    assert hardware.peak_macs_per_cycle == 6144
    assert hardware.peak_ops_per_second == 10_813_440_000_000


def test_peak_of_small():
    hardware = config.load("small")
    # 3 cores x 2 units x 4 x 4 = 96; x 2 x 1 GHz
    assert (hardware.peak_macs_per_cycle, hardware.peak_ops_per_second) == (96, 192_000_000_000)


def test_standard_times_of_ax650n_in_cycles():
    hardware = config.load("ax650n")
    dram, clock_ghz = hardware.dram, hardware.machine.clock_hz / 1e9
    assert dram.bytes_per_second == 8 * 4_266_000_000  # 64 bit at 4266 MT/s
    assert dram.page_bytes == 4 * 2048
    assert dram.page_miss_cycles == round((18 + 18) * clock_ghz)  # tRPpb + tRCD
    assert dram.refresh_interval_cycles == int(3904 * clock_ghz)  # tREFI, never later than allowed
    assert dram.refresh_cycles == round(280 * clock_ghz)  # tRFCab


def test_survives_pickling_and_hashing():
    hardware = config.load("ax650n")
    copy = pickle.loads(pickle.dumps(hardware))
    assert copy == hardware
    assert hash(copy) == hash(hardware)
    assert copy.provenance == hardware.provenance


def test_fingerprint_is_of_the_values():
    small = config.load("small")
    assert len(small.fingerprint()) == 64
    assert small.fingerprint() == config.load("small").fingerprint()
    assert small.with_values({"machine.name": "other", "machine.description": "else"}).fingerprint() == (
        small.fingerprint()
    )
    noted = small.with_values({"conv.rows": {"value": 4, "note": "measured again"}})
    assert noted.fingerprint() == small.fingerprint()
    assert small.with_values({"conv.issue_cycles": 3}).fingerprint() != small.fingerprint()


def test_fingerprint_is_the_same_in_another_process():
    program = "from npusim import config; print(config.load('small').fingerprint())"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=FOLDER.parent.parent)
    assert done.stdout.strip() == config.load("small").fingerprint()
