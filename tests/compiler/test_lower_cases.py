import pytest

from npusim.compiler import lower
from npusim.compiler.context import LOWERINGS
from npusim.config import load
from npusim.graph.ops import OPS
from npusim.kernels.tier import Tier, forced
from tests.compiler import cases_arithmetic, cases_movement
from tests.compiler.cases import CASES
from tests.compiler.oracle import check_graph

MODULES = (cases_arithmetic, cases_movement, lower)

SMALL = load("ax650n").with_values({"ocm.bytes": 12 * 1024})
"""So little OCM that the tiny tensors of the cases have to be cut."""


@pytest.fixture(autouse=True)
def without_compiled_kernels():
    """Compiling them would take longer than all cases together."""
    with forced(Tier.NUMPY):
        yield


def made(name):
    result = CASES[name][1]()
    return result if isinstance(result, tuple) else (result, None)


@pytest.mark.parametrize("name", CASES)
def test_lowered_operation_gives_the_interpreters_integers(name):
    graph, feeds = made(name)
    check_graph(graph, feeds=feeds)


@pytest.mark.parametrize("name", CASES)
def test_lowered_operation_fits_a_small_ocm(name):
    graph, feeds = made(name)
    check_graph(graph, cores=(2,), hardware=SMALL, feeds=feeds)


def test_every_operation_has_a_lowering_and_a_case():
    operations = set(OPS) - {"cpu"}
    assert operations <= set(LOWERINGS)
    assert {op for op, _ in CASES.values()} == operations
