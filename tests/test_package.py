"""The package's front door: its version and its public names."""

from __future__ import annotations

import re

import pytest

import npusim


def test_version_is_three_numbers():
    # setuptools reads this very string for the wheel's metadata, so there is no second copy to compare with.
    assert re.fullmatch(r"\d+\.\d+\.\d+", npusim.__version__)


@pytest.mark.parametrize("name", npusim.__all__)
def test_public_name_loads(name):
    assert getattr(npusim, name) is not None
    assert name in dir(npusim)


def test_public_names_are_those_that_load_on_demand():
    assert set(npusim.__all__) == {*npusim._PUBLIC, "__version__"}


def test_public_name_is_the_object_of_its_module():
    from npusim import errors

    assert npusim.NpusimError is errors.NpusimError


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'npusim' has no attribute 'Session'"):
        _ = npusim.Session
