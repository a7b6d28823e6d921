"""A session behaves like onnxruntime's: the same calls on both, where both can be called."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import npusim
from npusim.quant import exact
from tests.graph.tiny import onnxruntime_values, random_feeds

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def session(several_built):
    return npusim.InferenceSession(several_built.data)


@pytest.fixture(scope="module")
def theirs(several):
    return exact.session(several)


@pytest.fixture
def feeds(several):
    return random_feeds(several, seed=3)


def test_inputs_and_outputs_are_described_as_onnxruntime_describes_them(session, theirs):
    for ours, expected in (
        (session.get_inputs(), theirs.get_inputs()),
        (session.get_outputs(), theirs.get_outputs()),
    ):
        assert [(a.name, a.type) for a in ours] == [(a.name, a.type) for a in expected]
    assert [a.shape for a in session.get_inputs()] == [a.shape for a in theirs.get_inputs()]
    assert [a.dtype for a in session.get_inputs()] == [np.uint8, np.float32]
    assert "name='a', type='tensor(uint8)', shape=[1, 4, 6, 6]" in repr(session.get_inputs()[0])


def test_outputs_come_in_the_order_asked_for(session, several, feeds):
    expected = onnxruntime_values(several, feeds)
    first, second = expected
    for names in (None, [first], [second, first]):
        found = session.run(names, feeds)
        for name, array in zip(names or expected, found, strict=True):
            np.testing.assert_array_equal(array, expected[name])


def test_inputs_of_any_memory_order(session, feeds):
    plain = session.run(None, feeds)
    for array, expected in zip(
        session.run(None, {k: np.asfortranarray(v) for k, v in feeds.items()}), plain, strict=True
    ):
        np.testing.assert_array_equal(array, expected)


def test_results_belong_to_the_caller(session, feeds):
    before = session.run(None, feeds)
    copies = [array.copy() for array in before]
    for array in session.run(None, {k: v * 0 for k, v in feeds.items()}):
        array[...] = 0
    for array, copy in zip(before, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_the_first_run_simulates_time_and_later_ones_repeat_it(several_built, feeds):
    session = npusim.InferenceSession(several_built)
    before = session.profile()
    session.run(None, feeds)
    assert session.profile() == before
    fresh = npusim.InferenceSession(several_built)
    fresh.run(None, feeds)
    assert fresh.profile() == before
    assert before.cycles == several_built.cycles > 0
    assert len(fresh.trace.start) == len(several_built.program)


def test_missing_inputs_are_named_as_onnxruntime_names_them(session, theirs, feeds):
    del feeds["b"]
    messages = []
    for candidate in (session, theirs):
        with pytest.raises(ValueError, match="Required inputs") as caught:
            candidate.run(None, feeds)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


SHAPES = {
    "an extent": (
        np.zeros((1, 4, 6, 7), np.uint8),
        r"Got invalid dimensions for input: a .*index: 3 Got: 7 Expected: 6",
    ),
    "a rank": (np.zeros((4, 6, 6), np.uint8), r"Invalid rank for input: a Got: 3 Expected: 4"),
    "a type": (
        np.zeros((1, 4, 6, 6), np.float32),
        r"Unexpected input data type.*'a'.*Actual: \(tensor\(float\)\) , expected: \(tensor\(uint8\)\)",
    ),
}


@pytest.mark.parametrize(("array", "message"), SHAPES.values(), ids=SHAPES)
def test_wrong_arrays_are_refused_in_the_words_of_onnxruntime(session, theirs, feeds, array, message):
    with pytest.raises(ValueError, match=message):
        session.run(None, {**feeds, "a": array})
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument) as caught:
        theirs.run(None, {**feeds, "a": array})
    assert message.split(" for ")[0].split(r".*")[0] in str(caught.value)


def test_unknown_names_come_with_the_near_ones(session, feeds):
    name = session.get_outputs()[0].name
    with pytest.raises(ValueError, match=f"Invalid output name: {name}x; .*did you mean '{name}'"):
        session.run([f"{name}x"], feeds)
    with pytest.raises(ValueError, match=r"Invalid input name: c; the inputs are \['a', 'b'\]"):
        session.run(None, {**feeds, "c": feeds["a"]})
    with pytest.raises(ValueError, match="mapping"):
        session.run(None, [feeds["a"]])


def test_providers_and_their_options(several_built):
    assert several_built.session().get_providers() == npusim.get_available_providers()
    for providers in (None, ["AxEngineExecutionProvider"], [("AXCLRTExecutionProvider", {"device_id": 0})]):
        assert npusim.InferenceSession(several_built, providers=providers).get_inputs()
    options = [{"cores": "2", "hardware": "ax650n"}]
    with npusim.InferenceSession(
        several_built, providers=npusim.get_available_providers(), provider_options=options
    ) as session:
        assert set(session.trace.core.tolist()) == {2}


PROVIDER_MISTAKES = [
    (["AxEngineExecutionProvidr"], None, "did you mean 'AxEngineExecutionProvider'"),
    (["CPUExecutionProvider"], [{"core": 1}], "did you mean 'cores'"),
    (["CPUExecutionProvider"], [], "0 provider_options for 1 providers"),
    ([("CPUExecutionProvider", {"device_id": 1})], None, "device_id is 0"),
    ([("CPUExecutionProvider", {"cores": "one"})], None, "cores takes numbers"),
]


@pytest.mark.parametrize(("providers", "options", "message"), PROVIDER_MISTAKES, ids=range(len(PROVIDER_MISTAKES)))
def test_provider_mistakes(several_built, providers, options, message):
    with pytest.raises(ValueError, match=message):
        npusim.InferenceSession(several_built, providers=providers, provider_options=options)


def test_reprs_say_what_one_wants_to_know(several_built):
    assert "on NPU1 of ax650n: a: u8[1,4,6,6] q(0.02, 100), b: f32[1,4,6,6] -> " in repr(several_built.session())
    assert f"{several_built.cycles:,} cycles" in repr(several_built)
    assert "<table" in several_built._repr_html_()


SCRIPT = """
import sys
import numpy as np
import onnxruntime
import axengine as axe

session = axe.InferenceSession(sys.argv[1])
feed = {}
for item in session.get_inputs():
    feed[item.name] = np.ones(item.shape, dtype=item.dtype)
names = [item.name for item in session.get_outputs()]
for name, output in zip(names, session.run(names, feed)):
    print(name, output.dtype, output.shape)
"""


def test_a_script_for_the_board_runs(several_built, tmp_path):
    """Only the name of the import differs, as a user would arrange it."""
    (tmp_path / "model.axmodel").write_bytes(several_built.data)
    script = SCRIPT.replace("import axengine as axe", "import npusim as axengine\naxe = axengine")
    command = [sys.executable, "-c", script, str(tmp_path / "model.axmodel")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert [line.split(maxsplit=1)[1] for line in done.stdout.splitlines()] == [
        "uint8 (1, 4, 6, 6)",
        "float32 (1, 8, 4, 4)",
    ]
