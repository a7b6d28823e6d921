"""The machine under test, twice: what the tests of this folder that count cycles run their assembly on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from isa.assembler import assemble
from npusim.config import load
from tests.sim.engine_times import engine_times
from tests.sim.reference_model import reference_times

Spans = dict[str, list[tuple[int, int]]]
Run = Callable[..., Spans]


@pytest.fixture(params=[engine_times, reference_times], ids=["engine", "reference"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs assembly on a variant of ``small``: (start, retire) of each unit's instructions, the final ``end`` left out.

    Arguments are one text, or several pairs of text and physical cores; ``changes`` are hardware values. Units of
    physical core 0 are named ``sdma``, those of others ``core1.sdma``. Jobs that share a core come one after the other.
    """

    def run(*sources: Any, changes: dict[str, Any] | None = None, arrivals: Sequence[int] = ()) -> Spans:
        hardware = load("small").with_values(changes or {})
        programs = [source if isinstance(source, tuple) else (source, None) for source in sources]
        jobs = []
        for text, cores in programs:
            program = assemble(text)
            jobs.append((program, cores or tuple(range(program.cores))))
        streams: dict[tuple[int, str], list[tuple[int, int]]] = {}
        for (job, core, unit, _), span in sorted(request.param(hardware, jobs, arrivals=arrivals).items()):
            streams.setdefault((job, f"core{core}.{unit}" if core else str(unit)), []).append(span)
        spans: Spans = {}
        for (_, name), rows in streams.items():
            spans.setdefault(name, []).extend(rows[:-1])
        return spans

    return run
