"""Profiles that the tests of this folder look at."""

from __future__ import annotations

from pathlib import Path

import pytest

import npusim
from isa.assembler import assemble
from npusim.config import load
from npusim.session.profiles import profile_model, profile_program
from tests.session import small

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def matmul():
    """A program written by hand, on three cores of the real machine."""
    program = assemble((EXAMPLES / "matmul_3core.npuasm").read_text(), "matmul_3core")
    return profile_program(program, load("ax650n"))


@pytest.fixture(scope="session")
def chain():
    """A small built model on two cores."""
    return profile_model(npusim.build(small.chain(), npu_mode="NPU2").axmodel)
