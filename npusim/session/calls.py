"""Models called side by side: from frames a second to cycles, and from the machine's calls back to latencies.

Used by ``fleet`` and ``plans``. Which core a model gets is decided before; when a call gets it, by ``npusim.sim``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING, Any

from isa.program import Program
from npusim.config import Hardware
from npusim.errors import UsageError

if TYPE_CHECKING:
    from npusim.sim import Call

PERCENTILES = (50, 90, 99)

Report = Callable[[float], None]
"""Told about the share of the work that is done, 0..1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One model, where it runs and how often it is called.

    Attributes:
        name: for messages.
        program: what runs.
        cores: physical core of each logical one.
        fps: calls a second that are requested by the clock; None: each as soon as the one before has ended.
        deadline_ms: time a call may take from its request; None: the period where there is one, else none.
        batch: inferences in a call.
        host_ms: the host's work for one inference, beside the call itself.
    """

    name: str
    program: Program
    cores: tuple[int, ...]
    fps: Fraction | None = None
    deadline_ms: float | None = None
    batch: int = 1
    host_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """What became of one model's calls beside the others. Latencies reach from a request to its answer.

    Attributes:
        calls: how many were measured.
        min_ms, avg_ms, p50_ms, p90_ms, p99_ms, max_ms: their latencies; a percentile is the smallest latency that so
            many per cent of the calls do not exceed.
        wait_ms: average time in which a call waited for its cores, while others had them or while the call before it
            had not ended.
        fps: inferences a second.
        busy: share of the time in which the model had its cores, 0..1.
        deadline_ms: after which an answer is late; None where there is no deadline.
        due: calls measured, and requests without answer whose deadline has passed.
        missed: how many of those were late.
        unanswered: requests that had no answer when the run ended.
        dram_gb_per_second: its DRAM traffic, in 1e9 bytes.
    """

    calls: int
    min_ms: float
    avg_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    wait_ms: float
    fps: float
    busy: float
    deadline_ms: float | None
    due: int
    missed: int
    unanswered: int
    dram_gb_per_second: float

    def record(self) -> dict[str, Any]:
        """Plain values for JSON, with the field names of this class."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """A run of models side by side.

    Attributes:
        cycles: the machine's time from the first request to the end.
        together: by model.
    """

    cycles: int
    together: tuple[Together, ...]


def parse_fps(given: Any) -> Fraction | None:
    """Frames a second as a user writes them; None for ``max`` and None: as fast as possible.

    Raises:
        UsageError: no positive number.

    >>> parse_fps("29.97"), parse_fps(30), parse_fps("max")
    (Fraction(2997, 100), Fraction(30, 1), None)
    """
    if given is None or given == "max":
        return None
    try:
        fps = Fraction(str(given))
    except (ValueError, ZeroDivisionError):
        fps = Fraction(0)
    if fps <= 0:
        raise UsageError(f"fps takes a positive number or max (as fast as possible), not {given!r}")
    return fps


def host_cycles(hardware: Hardware, member: Member) -> int:
    """What a call costs the host, in cycles: it is launched, and computes what is not for the NPU."""
    milliseconds = hardware.machine.launch_ms + member.batch * member.host_ms
    return round(milliseconds * hardware.machine.clock_hz / 1e3)


def call_together(
    hardware: Hardware, members: Sequence[Member], repeat: int, warmup: int, report: Report | None = None
) -> Shift:
    """Call models side by side until each has had its calls; none stops before the last one has.

    Between the request of a call and the queue for the cores lies the host's part (``host_cycles``).

    Args:
        hardware: the machine, at rest at the beginning.
        members: the models; all are requested in the first cycle.
        repeat: calls of each, at least, that are measured.
        warmup: calls of each before them.
        report: told about progress.

    Raises:
        UsageError: a rate above one call a cycle, or numbers out of range.
    """
    from npusim.sim import Demand, Job, serve

    clock, hosts = hardware.machine.clock_hz, [host_cycles(hardware, member) for member in members]
    jobs = [
        Job(program=member.program, cores=member.cores, name=member.name, arrival_cycle=host)
        for member, host in zip(members, hosts, strict=True)
    ]
    demands = [
        Demand(
            period_cycles=None if member.fps is None else clock / member.fps,
            gap_cycles=host,
            runs=member.batch,
            calls=warmup + repeat,
        )
        for member, host in zip(members, hosts, strict=True)
    ]
    served = serve(hardware, jobs, demands, told=_counter(len(members), warmup + repeat, report) if report else None)
    rows = zip(members, hosts, served.calls, served.open_requests, served.dram_bytes, strict=True)
    together = tuple(
        _together(hardware, member, [(c.requested - host, c.begin, c.end) for c in calls], warmup, served.cycles,
                  [requested - host for requested in waiting], dram_bytes)
        for member, host, calls, waiting, dram_bytes in rows
    )  # fmt: skip
    return Shift(cycles=served.cycles, together=together)


def _counter(members: int, calls: int, report: Report) -> Callable[[Call], None]:
    """What tells the share of the calls that have been made, of those that must be."""
    made = [0] * members

    def tell(call: Call) -> None:
        made[call.job] = min(made[call.job] + 1, calls)
        report(sum(made) / (members * calls))

    return tell


def alone_ms(hardware: Hardware, member: Member) -> float:
    """Latency of one call on a machine at rest and of its own."""
    return call_together(hardware, [member], repeat=1, warmup=0).together[0].avg_ms


def deadline_of(member: Member) -> Fraction | None:
    """The deadline of a model's calls in ms, exactly."""
    if member.deadline_ms is not None:
        return Fraction(str(member.deadline_ms))
    return None if member.fps is None else 1000 / member.fps


def _together(
    hardware: Hardware,
    member: Member,
    calls: Sequence[tuple[int, int, int]],
    warmup: int,
    now: int,
    unanswered: Sequence[int],
    dram_bytes: int,
) -> Together:
    """Figures of calls given as cycles of (request, having the cores, end)."""
    to_ms = 1e3 / hardware.machine.clock_hz
    measured = calls[warmup:]
    since = calls[warmup - 1][2] if warmup else calls[0][0]
    cycles = measured[-1][2] - since
    latencies = sorted(end - requested for requested, _, end in measured)
    deadline = deadline_of(member)
    limit = None if deadline is None else deadline * hardware.machine.clock_hz / 1000
    late = sum(latency > limit for latency in latencies) if limit else 0
    overdue = sum(now - requested > limit for requested in unanswered) if limit else 0
    waits = [begin - requested - host_cycles(hardware, member) for requested, begin, _ in measured]
    p50, p90, p99 = (to_ms * percentile(latencies, percent) for percent in PERCENTILES)
    return Together(
        calls=len(measured),
        min_ms=latencies[0] * to_ms,
        avg_ms=sum(latencies) * to_ms / len(measured),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        max_ms=latencies[-1] * to_ms,
        wait_ms=sum(waits) * to_ms / len(measured),
        fps=member.batch * len(measured) * 1e3 / (cycles * to_ms),
        busy=sum(end - begin for _, begin, end in measured) / cycles,
        deadline_ms=None if deadline is None else float(deadline),
        due=len(measured) + overdue,
        missed=late + overdue,
        unanswered=len(unanswered),
        dram_gb_per_second=dram_bytes * len(measured) / (cycles * to_ms * 1e6),
    )


def percentile(ordered: Sequence[int], percent: int) -> int:
    """The smallest value that ``percent`` per cent of the values do not exceed (nearest rank).

    >>> percentile([1, 2, 3, 4], 50), percentile([1, 2, 3, 4], 90)
    (2, 4)
    """
    return ordered[ceil(len(ordered) * percent / 100) - 1]
