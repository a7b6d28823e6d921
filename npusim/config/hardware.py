"""The records of the hardware description, their ranges, and the rules between them.

Made by ``reader``; read by everything that asks the machine for a number. What the numbers do to time is defined in
docs/microarchitecture.md and implemented in ``timing`` and ``sim``; no formula of cycles here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, NamedTuple

from npusim import markup
from npusim.config.key import Key, choice, integer, number, switch, text
from npusim.errors import ConfigError, did_you_mean

MAX_CORES = 12
"""Cores whose units the 60-bit mask of a barrier can name."""

MAX_OCM_BYTES = 1 << 24
"""What the instruction set's 24-bit OCM addresses reach."""

MAX_BANKS = 62
"""OCM banks whose mask fits a signed 64-bit integer."""

MAX_DRAM_BYTES = 1 << 40
"""What the instruction set's 40-bit DRAM offsets reach."""

MAX_PAGE_BYTES = 1 << 22
"""A page times the largest clock stays inside 64 bits."""

MAX_CLOCK_HZ = 100_000_000_000

TOPS_TOLERANCE = 0.01
"""Relative distance allowed between the derived peak and ``machine.declared_tops``."""

WIDEST_ELEMENT_BYTES = 8


class ProvenanceKind(StrEnum):
    """Where a number comes from."""

    PUBLISHED = "published"
    MEASURED = "measured"
    INFERRED = "inferred"
    FITTED = "fitted"
    ASSUMED = "assumed"
    USER = "user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where one value comes from.

    Attributes:
        kind: published by the vendor or a standard, measured on silicon, inferred from other facts, fitted to
            measurements, assumed, or set by the user of a variant.
        note: the source, or the reason, in a sentence.
    """

    kind: ProvenanceKind
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The whole."""

    name: str = text("name in reports")
    description: str = text("what it is, in a sentence")
    clock_hz: int = integer("clock of everything, Hz", most=MAX_CLOCK_HZ)
    cores: int = integer("equal cores", most=MAX_CORES)
    declared_tops: float = number("peak the vendor declares, 10**12 operations/s, 1 MAC = 2 operations", 1e-6, 1e6)
    launch_ms: float = number("host cost of one call, ms", 0, 1e4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv:
    """One conv unit; a core has two (microarchitecture 3)."""

    rows: int = integer("rows of the array: the reduction, where weights stand still", most=4096)
    columns: int = integer("columns of the array: output channels, where weights stand still", most=4096)
    dataflow: str = choice("what stands still", "weight_stationary", "output_stationary", "input_stationary")
    fold_overlap: bool = switch("whether preload and drain hide behind the neighbouring fold")
    input_channel_granule: int = integer("input channels are padded to a multiple of this", most=4096)
    depthwise_pixels: int = integer("pixels a depthwise convolution handles at once", most=4096)
    passes_16_bit: int = integer("passes over the array per operand of 16 bits", most=16)
    partial_bytes_per_cycle: int = integer("partial accumulators streamed in, bytes/cycle", most=1 << 16)
    issue_cycles: int = integer("cycles from start to the first preload", least=0)
    epilogue_cycles: int = integer("depth of bias, requantize and clamp, cycles", least=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Teng:
    """The vector unit (microarchitecture 4)."""

    bytes_per_cycle: int = integer("width of a vector, bytes", most=1 << 16)
    row_cycles: int = integer("division and square root of one row, cycles", least=0)
    issue_cycles: int = integer("cycles from start to the first vector", least=0)
    pipeline_cycles: int = integer("depth of the pipeline, cycles", least=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cv:
    """The data mover (microarchitecture 5)."""

    bytes_per_cycle: int = integer("bytes moved a cycle", most=1 << 16)
    transpose_tile: int = integer("side of the square of elements transposed at once", most=4096)
    issue_cycles: int = integer("cycles from start to the first move", least=0)
    pipeline_cycles: int = integer("depth of the pipeline, cycles", least=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sdma:
    """The DMA unit (microarchitecture 6)."""

    port_bytes_per_cycle: int = integer("width of its OCM port, bytes/cycle", most=1 << 16)
    issue_cycles: int = integer("cycles from start to the first request", least=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ocm:
    """On-chip memory of one core."""

    bytes: int = integer("size, bytes", most=MAX_OCM_BYTES)
    banks: int = integer("equal contiguous banks", most=MAX_BANKS)
    conflict_cycles: int = integer("added to a group whose bank a unit streams from, cycles", least=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sync:
    """Counters, barriers and the instructions that only wait (microarchitecture 1)."""

    counter_latency_cycles: int = integer("retirement to visibility on the same core, cycles")
    cross_core_latency_cycles: int = integer("retirement to visibility on other cores, cycles")
    control_cycles: int = integer("duration of sync and end, cycles")


@dataclass(frozen=True, slots=True, kw_only=True)
class CorePath:
    """The path between the cores (microarchitecture 6.1, 6.5)."""

    bytes_per_cycle: int = integer("bytes of a flit, one flit a cycle", most=1 << 16)
    group_flits: int = integer("flits granted at once")
    latency_cycles: int = integer("end of the last group to retirement of a send, cycles")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dram:
    """DRAM and its controller, shared by all cores (microarchitecture 6)."""

    bytes: int = integer("size, bytes", most=MAX_DRAM_BYTES)
    bytes_per_second: int = integer("peak of the interface, bytes/s", most=10**15)
    burst_bytes: int = integer("smallest access, bytes", most=MAX_PAGE_BYTES)
    group_bursts: int = integer("bursts granted at once")
    page_bytes: int = integer("bytes of an open page, over all channels", most=MAX_PAGE_BYTES)
    banks: int = integer("banks, each with one open page", most=4096)
    page_miss_cycles: int = integer("closing one page and opening another, cycles", least=0)
    turnaround_cycles: int = integer("change between reading and writing, cycles", least=0)
    read_latency_cycles: int = integer("end of the last group to retirement of a read, cycles")
    write_latency_cycles: int = integer("end of the last group to retirement of a write, cycles")
    refresh_interval_cycles: int = integer("from one refresh to the next, cycles; 0: no refresh", least=0, most=1 << 40)
    refresh_cycles: int = integer("duration of a refresh, cycles", least=0, most=1 << 40)


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The processor beside the NPU, which runs CPU subgraphs (microarchitecture 7)."""

    flops_per_second: int = integer("arithmetic of all its cores together, operations/s", most=10**15)
    bytes_per_second: int = integer("what operators read and write, bytes/s", most=10**15)
    copy_bytes_per_second: int = integer("copies between the NPU's tensors and the host's, bytes/s", most=10**15)
    operator_ms: float = number("starting one operator, ms", 0, 1e4)
    subgraph_ms: float = number("calling one subgraph, ms", 0, 1e4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """A complete machine. Immutable, hashable, checked when it is made.

    Attributes:
        provenance: where each value comes from, by dotted key; no part of equality.
        source: the file as the user gave it, for messages; no part of equality.

    Raises:
        ConfigError: a value of the wrong type or outside its range, or two values that do not go together.
    """

    machine: Machine
    conv: Conv
    teng: Teng
    cv: Cv
    sdma: Sdma
    ocm: Ocm
    sync: Sync
    path: CorePath
    dram: Dram
    host: Host
    provenance: Mapping[str, Provenance] = field(compare=False, repr=False)
    source: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        for path, value in self.values().items():
            if refusal := KEYS[path].refusal(value):
                near = did_you_mean(value, KEYS[path].choices, limit=1) if isinstance(value, str) else ""
                raise ConfigError(path, refusal, near, self.source)
        for rule in RULES:
            if not rule.holds(self):
                raise ConfigError(rule.path, rule.refusal, source=self.source)
        declared, peak = self.machine.declared_tops, self.peak_ops_per_second / 1e12
        if abs(peak - declared) > TOPS_TOLERANCE * declared:
            message = f"declares {declared:g} TOPS, but the array, cores and clock make {peak:.4g}"
            raise ConfigError("machine.declared_tops", message, source=self.source)

    @property
    def peak_macs_per_cycle(self) -> int:
        """Multiply-accumulates of all conv units in one cycle (microarchitecture 2)."""
        return self.machine.cores * CONV_UNITS * self.conv.rows * self.conv.columns

    @property
    def peak_ops_per_second(self) -> int:
        """Operations per second at the peak, 1 MAC = 2 operations (microarchitecture 2)."""
        return 2 * self.peak_macs_per_cycle * self.machine.clock_hz

    def values(self) -> dict[str, Any]:
        """All values by dotted key, in the order of declaration."""
        return {path: getattr(getattr(self, path.split(".")[0]), path.split(".")[1]) for path in KEYS}

    def fingerprint(self, paths: Collection[str] | None = None) -> str:
        """SHA-256 of the values, in hexadecimal; another name or other notes leave it as it is.

        Args:
            paths: the keys that count, for a description that knew fewer; by default all.
        """
        counted = KEYS if paths is None else paths
        numbers = {path: v for path, v in self.values().items() if KEYS[path].has_provenance and path in counted}
        return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()

    def _repr_html_(self) -> str:
        machine = self.machine
        title = f"{machine.name}: {machine.description}"
        peak = f"{self.peak_ops_per_second / 1e12:.2f} TOPS INT8 at {machine.clock_hz / 1e6:,.0f} MHz"
        memory = f"{self.ocm.bytes:,} bytes of OCM a core, DRAM {self.dram.bytes_per_second / 1e9:.1f} GB/s"
        noted = [
            (path, value, self.provenance[path]) for path, value in self.values().items() if path in self.provenance
        ]
        rows = [(path, markup.number(value), KEYS[path].doc, p.kind, p.note) for path, value, p in noted]
        return markup.heading(title, f"{peak}; {memory}") + markup.table(
            ("key", "value", "meaning", "source", "note"), rows
        )

    def with_values(self, changes: Mapping[str, Any]) -> Hardware:
        """The same machine with some values changed, checked anew: one point of a sweep.

        Unless the changes name it, the result is named after them; unless they declare a peak, a change of what the
        peak follows from takes the derived peak as the declared one.

        Args:
            changes: value by dotted key, plain or ``{"value": ..., "source": ..., "note": ...}``.

        Raises:
            ConfigError: an unknown key, or a value that does not fit.
        """
        from npusim.config.reader import changed

        return changed(self, changes)


CONV_UNITS = 2
"""Conv units of a core, fixed by the instruction set."""

SECTIONS: dict[str, type] = {
    "machine": Machine, "conv": Conv, "teng": Teng, "cv": Cv, "sdma": Sdma, "ocm": Ocm, "sync": Sync,
    "path": CorePath, "dram": Dram, "host": Host,
}  # fmt: skip
"""Tables of the file, in the order of ``Hardware``."""

KEYS: dict[str, Key] = {
    f"{section}.{entry.name}": entry.metadata["key"] for section, record in SECTIONS.items() for entry in fields(record)
}
"""Every key by its dotted name."""

PEAK_KEYS = ("machine.clock_hz", "machine.cores", "conv.rows", "conv.columns")
"""What the peak follows from."""


class Rule(NamedTuple):
    """Something that must hold between values; ``refusal`` continues the key's name in a sentence."""

    path: str
    refusal: str
    holds: Callable[[Hardware], bool]


RULES = (
    Rule(
        "teng.bytes_per_cycle",
        f"must be a multiple of {WIDEST_ELEMENT_BYTES}, so that a vector holds whole elements of every type",
        lambda h: h.teng.bytes_per_cycle % WIDEST_ELEMENT_BYTES == 0,
    ),
    Rule("ocm.bytes", "must be a multiple of ocm.banks", lambda h: h.ocm.bytes % h.ocm.banks == 0),
    Rule(
        "dram.page_bytes",
        "must be a multiple of dram.burst_bytes",
        lambda h: h.dram.page_bytes % h.dram.burst_bytes == 0,
    ),
    Rule("dram.bytes", "must be a multiple of dram.page_bytes", lambda h: h.dram.bytes % h.dram.page_bytes == 0),
    Rule(
        "dram.refresh_cycles",
        "must be less than dram.refresh_interval_cycles, or 0 where there is no refresh",
        lambda h: h.dram.refresh_cycles < max(h.dram.refresh_interval_cycles, 1),
    ),
)
