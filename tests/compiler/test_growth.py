"""The compiler's work grows linearly with the model: counted, not timed."""

import pytest

from npusim.compiler import order
from npusim.compiler.build import plan_graph
from npusim.config import load
from tests.compiler.graphs import Maker

MACHINE = load("ax650n")
LAYERS = (4, 8, 16)


def chain(layers, size=28):
    """Convolutions and additions, each of which every core takes part in."""
    make = Maker()
    x = make.input((1, 64, size, size))
    for _ in range(layers):
        y = make.conv(x, 64, 3)
        x = make.op("add", x, y, shape=make.tensors[x].shape)
    return make.build(x)


def work(monkeypatch, graph, cores):
    """Steps, and events of the scheduler."""
    events: list[int] = []
    pop = order.heappop

    def counting(heap):
        events.append(1)
        return pop(heap)

    with monkeypatch.context() as patch:
        patch.setattr(order, "heappop", counting)
        planned = plan_graph(graph, MACHINE, cores)
    return len(planned.placed), len(events)


@pytest.mark.parametrize("cores", [1, 3])
def test_twice_the_layers_are_twice_the_work(monkeypatch, cores):
    few, more, most = (work(monkeypatch, chain(layers), cores) for layers in LAYERS)
    for first, second, third in zip(few, more, most, strict=True):
        assert third - second == pytest.approx(2 * (second - first), rel=0.1)


def test_four_times_the_pixels_are_at_most_four_times_the_work(monkeypatch):
    small, large = (work(monkeypatch, chain(6, size), 3) for size in (56, 112))
    for first, second in zip(small, large, strict=True):
        assert second <= 4 * first
