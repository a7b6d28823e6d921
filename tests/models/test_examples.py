"""The examples in the docstrings of ``models`` run; training is left out, because its packages are not installed."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import models

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(models.__path__, "models.", onerror=lambda _: None)
    if not module.name.startswith("models.training") and module.name != "models.__main__"
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_the_module_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = [case for name in MODULES for case in finder.find(importlib.import_module(name)) if case.examples]
    assert len(examples) >= 8
