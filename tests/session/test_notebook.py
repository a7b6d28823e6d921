import numpy as np
import pytest

import npusim
from isa.container import to_bytes
from npusim.errors import UsageError
from tests.graph.tiny import random_feeds


def test_a_model_in_every_form_gives_the_same(several, several_built, tmp_path):
    path = tmp_path / "m.axmodel"
    path.write_bytes(several_built.data)
    feeds = random_feeds(several)
    expected = several_built.session().run(None, feeds)
    for form in (several_built, several_built.axmodel, several_built.data, path, str(path)):
        found = npusim.simulate(form, feeds)
        for array, reference in zip(found.outputs.values(), expected, strict=True):
            np.testing.assert_array_equal(array, reference)
        assert found.summary == several_built.summary


def test_without_inputs_there_is_time_only(several_built):
    found = npusim.simulate(several_built)
    assert found.outputs == {}
    assert found.summary.cycles == several_built.cycles
    assert f"{several_built.cycles:,} cycles" in repr(found)
    assert "conv" in found._repr_html_()


def test_values_only(several, several_built):
    found = npusim.simulate(several_built, random_feeds(several), mode="values")
    assert found.summary is None
    assert found.trace is None
    assert len(found.outputs) == 2
    assert "values only" in repr(found)


def test_a_program_in_every_form(several, several_built):
    program = several_built.program
    feeds = random_feeds(several)
    for form in (program, to_bytes(program)):
        found = npusim.simulate(form, feeds, cores=[1])
        assert found.summary.cycles == several_built.cycles
        assert set(found.trace.core.tolist()) == {1}
        assert {array.dtype for array in found.outputs.values()} == {np.dtype(np.uint8)}


def test_other_machines(several_built):
    slower = npusim.config.load("ax650n").with_values({"teng.bytes_per_cycle": 8})
    assert npusim.simulate(several_built, hardware=slower).summary.cycles > several_built.cycles


def test_mistakes(several_built):
    with pytest.raises(UsageError, match="did you mean 'values'"):
        npusim.simulate(several_built, mode="value")
    with pytest.raises(ValueError, match="Required inputs"):
        npusim.simulate(several_built, {})
