"""Operators that become operations of other names, through the machine: the integers of the graph's own meaning."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import npusim
from npusim import graph
from tests.graph.interpret import run
from tests.graph.tiny import Builder, random_feeds


def numbers(m: Builder, count: int) -> str:
    return m.constant(m.random.uniform(0.5, 1.5, count).astype(np.float32))


def at_random(m: Builder) -> str:
    return m.constant(m.random.random((5, 4)) < 0.5)


OPERATORS: dict[str, Callable[[Builder, str], str]] = {
    "groups": lambda m, x: m.op("GroupNormalization", x, numbers(m, 8), numbers(m, 8), num_groups=4),
    "channels": lambda m, x: m.op("InstanceNormalization", x, numbers(m, 8), numbers(m, 8)),
    "length": lambda m, x: m.op("LpNormalization", x, axis=-1, p=2),
    "mask": lambda m, x: m.op("Where", at_random(m), x, m.constant(np.float32(-np.inf))),
    "choice": lambda m, x: m.op(
        "Where", m.op("Greater", x, m.constant(np.float32(0.5))), x, m.constant(np.float32(-1))
    ),
}


@pytest.mark.parametrize("build", OPERATORS.values(), ids=OPERATORS)
def test_operator(build):
    m = Builder()
    m.result(build(m, m.real_input("x", (2, 8, 5, 4), 0.05, 120)), 0.03, 128)
    model = m.model()
    feeds = random_feeds(model)
    [found] = npusim.build(model, npu_mode="NPU2").session().run(None, feeds)
    expected = run(graph.load(model), feeds)[model.graph.output[0].name]
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(found)) > 10
