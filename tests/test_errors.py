"""The tree of errors: what a message says, what an error carries, and that it survives a process boundary."""

from __future__ import annotations

import pickle

import pytest

from npusim import errors
from npusim.errors import (
    ConfigError,
    CycleLimitError,
    DeadlockError,
    MachineFault,
    NpusimError,
    SimulationError,
    UnverifiedProgramError,
    UsageError,
    Waiting,
    did_you_mean,
)

STUCK = Waiting(unit="core0.conv1", index=3, needs=(("core0.sdma", 2, 1), ("core0.conv0", 4, 4)))

# One of each, with the message it must have.
EXAMPLES = [
    (NpusimError("it broke"), "it broke"),
    (
        UsageError("unknown mode 'NPU4'", "did you mean 'NPU3'?"),
        "unknown mode 'NPU4'; did you mean 'NPU3'?",
    ),
    (ConfigError("dram.page_bytes", "has to be a power of two, not 3000"), None),
    (
        ConfigError("dram.page_byte", "unknown key", "did you mean 'page_bytes'?", "small.toml"),
        "small.toml: dram.page_byte: unknown key; did you mean 'page_bytes'?",
    ),
    (ConfigError("", "not TOML", source="small.toml"), "small.toml: not TOML"),
    (SimulationError("no core"), "no core"),
    (UnverifiedProgramError([]), "the program does not verify: it was never verified"),
    (UnverifiedProgramError(["race"]), "the program does not verify: race"),
    (UnverifiedProgramError(["race", "cycle"]), "the program does not verify: race (and 1 more finding)"),
    (UnverifiedProgramError("abc"), "the program does not verify: a (and 2 more findings)"),
    (
        DeadlockError([STUCK], cycle=90),
        "deadlock at cycle 90: core0.conv1[3] waits for core0.sdma >= 2 (now 1) and core0.conv0 >= 4 (now 4)",
    ),
    (DeadlockError([Waiting(unit="core0.cv", index=0, needs=())]), "deadlock: core0.cv[0] waits for nothing"),
    (CycleLimitError(100, 7, 9), "the limit of 100 cycles was reached with 7 of 9 instructions retired"),
    (MachineFault("index 9 of 8", unit="core1.cv", index=4), "core1.cv[4]: index 9 of 8"),
    (MachineFault("index 9 of 8", unit="core1.cv", index=4, cycle=12), "core1.cv[4] at cycle 12: index 9 of 8"),
]


@pytest.mark.parametrize(("error", "message"), EXAMPLES, ids=lambda value: type(value).__name__)
def test_message(error, message):
    assert message is None or str(error) == message


@pytest.mark.parametrize("error", [error for error, _ in EXAMPLES], ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling_with_its_attributes(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_every_kind_has_an_example():
    kinds = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, NpusimError)}
    assert {type(error) for error, _ in EXAMPLES} == kinds


def test_attributes_are_what_was_given():
    assert vars(ConfigError("a.b", "no", "did you mean 'c'?", "f.toml")) == {
        "path": "a.b",
        "suggestion": "did you mean 'c'?",
        "source": "f.toml",
    }
    assert vars(DeadlockError(iter([STUCK]), 5)) == {"waiting": (STUCK,), "cycle": 5}
    assert vars(CycleLimitError(100, 7, 9)) == {"limit_cycles": 100, "retired": 7, "total": 9}
    assert vars(MachineFault("no", unit="core0.cv", index=1, cycle=2)) == {"unit": "core0.cv", "index": 1, "cycle": 2}
    assert UnverifiedProgramError(iter(["race"])).findings == ("race",)


@pytest.mark.parametrize("kind", [UsageError, ConfigError, UnverifiedProgramError])
def test_errors_of_values_are_value_errors(kind):
    assert issubclass(kind, ValueError)


@pytest.mark.parametrize(
    ("word", "candidates", "phrase"),
    [
        ("page_byte", ["page_bytes"], "did you mean 'page_bytes'?"),
        ("MINMAX", ["MinMax", "Percentile", "MSE", "KL"], "did you mean 'MinMax'?"),
        ("conv2", ["conv0", "conv1", "convs"], "did you mean 'convs', 'conv1' or 'conv0'?"),
        ("depth", ["width"], ""),
        ("anything", [], ""),
        ("", ["a"], ""),
    ],
)
def test_did_you_mean(word, candidates, phrase):
    assert did_you_mean(word, candidates) == phrase


def test_did_you_mean_names_no_more_than_asked_for():
    assert did_you_mean("conv2", (f"conv{i}" for i in (0, 1)), limit=1) == "did you mean 'conv1'?"
