"""Building a graph for several core counts and holding the machine's outputs against the interpreter of the graph."""

from __future__ import annotations

import numpy as np

from isa.verify import verify
from npusim.compiler.build import emit, plan_graph
from npusim.config import load
from npusim.sim import Job, limits_of, simulate
from tests.graph.interpret import run


def random_feeds(graph, seed=0):
    """Values for all inputs: normal for floats, the whole range for integers."""
    generator = np.random.default_rng(seed)
    feeds = {}
    for name in graph.inputs:
        tensor = graph.tensors[name]
        if tensor.dtype == "f32":
            feeds[name] = generator.normal(size=tensor.shape).astype(np.float32)
        else:
            info = np.iinfo(tensor.numpy)
            feeds[name] = generator.integers(info.min, info.max, tensor.shape, tensor.numpy, endpoint=True)
    return feeds


def on_cores(graph, machine, count):
    """The program that uses exactly so many cores, whether they pay off or not."""
    return emit(graph, plan_graph(graph, machine, count), count)


def check_graph(graph, cores=(1, 2, 3), hardware="ax650n", seed=0, feeds=None):
    """Every program verifies and gives the interpreter's integers; returns the results by number of cores.

    ``hardware`` is a name or a configuration, ``feeds`` takes the place of random inputs.
    """
    machine = load(hardware) if isinstance(hardware, str) else hardware
    feeds = random_feeds(graph, seed) | (feeds or {})
    wanted = run(graph, feeds)
    results = {}
    for count in cores:
        program = on_cores(graph, machine, count)
        report = verify(program, limits_of(machine))
        assert not report.violations, report.violations[0]
        result = simulate(machine, Job(program=program.with_stamp(report.stamp), inputs=feeds))
        for name in graph.outputs:
            tensor = graph.tensors[name]
            found = result.outputs[name].view(tensor.numpy).reshape(tensor.shape)
            assert np.array_equal(found, wanted[name]), f"{name} on {count} cores"
        results[count] = result
    return results
