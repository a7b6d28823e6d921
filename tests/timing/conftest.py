"""The machine whose cycles are counted by hand: ``configs/small.toml``."""

from __future__ import annotations

import pytest

from npusim import config


@pytest.fixture(scope="session")
def small():
    return config.load("small")
