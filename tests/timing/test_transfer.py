"""Burst groups, path groups and transfers: by hand, and against bursts counted byte by byte (microarchitecture 6)."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from isa.codec import decode_columns, encode_stream
from isa.instruction import Unit
from isa.instructions import Load, Multicast, Send, Store
from npusim import config
from npusim.timing import burst_groups, data_cycles, path_groups, uncontended_cycles

# small: bursts of 16 B, 4 to a group, pages of 256 B = 16 bursts, 2 banks, 1 cycle a burst, issue 2, miss 10,
# read latency 6, write latency 3; path: flits of 16 B, 4 to a group, latency 5
SMALL = config.load("small")


def load(offset, run, *outer, cls=Load, **more):
    """A transfer with (count, DRAM stride) pairs, innermost first; dense in OCM."""
    fields: dict[str, Any] = {}
    size = run
    for number, (count, stride) in enumerate(outer, start=1):
        fields |= {f"count_{number}": count, f"dram_stride_{number}": stride, f"ocm_stride_{number}": size}
        size *= count
    return cls(ocm=0, segment=0, offset=offset, run=run, **fields, **more)


def groups(transfer, base=0, hardware=SMALL):
    made = burst_groups(transfer.dram_region(), base, hardware)
    return list(zip(made.page.tolist(), made.bursts.tolist(), strict=True))


def cycles(transfer, base=0, hardware=SMALL):
    return uncontended_cycles(transfer, Unit.SDMA, hardware, base)


def test_one_byte_is_one_burst():
    assert groups(load(1000, 1)) == [(3, 1)]
    assert cycles(load(1000, 1)) == 2 + 10 + 1 + 6


def test_bytes_count_the_bursts_they_lie_in():
    assert groups(load(15, 2)) == [(0, 2)]
    assert groups(load(16, 16)) == [(0, 1)]


def test_groups_end_with_the_page():
    # bytes 100..1099: bursts 6..68; 10 of page 0, 16 of pages 1 to 3, 5 of page 4
    full = [4, 4, 4, 4]
    expected = [(0, b) for b in (4, 4, 2)] + [(p, b) for p in (1, 2, 3) for b in full] + [(4, 4), (4, 1)]
    assert groups(load(100, 1000)) == expected
    assert cycles(load(100, 1000)) == 2 + 5 * 10 + 63 + 6


def test_run_across_a_page_border():
    assert groups(load(255, 2)) == [(0, 1), (1, 1)]
    assert cycles(load(255, 2)) == 2 + 2 * (10 + 1) + 6


def test_contiguous_dimensions_are_one_run():
    assert groups(load(8, 8, (4, 8), (3, 32))) == groups(load(8, 96)) == [(0, 4), (0, 3)]
    # a dimension of one entry is none, whatever its stride
    assert groups(load(8, 8, (1, 99), (12, 8))) == groups(load(8, 96))


def test_dimensions_outside_of_a_gap_are_not_merged():
    # runs of 4 B at 0, 12, 4, 16, although the outer dimension continues each run: bursts 0, 0, 0, 1
    assert groups(load(0, 4, (2, 12), (2, 4))) == [(0, 4)]
    # runs at 0, 12, 8, 20, although 8 B are inside the outer dimension: bursts 0, 0, 0, 1
    assert groups(load(0, 4, (2, 12), (2, 8))) == [(0, 4)]


def test_strided_runs_share_groups_within_a_page():
    # 5 runs of one burst each, 64 B apart: four in page 0, one in page 1
    assert groups(load(0, 16, (5, 64))) == [(0, 4), (1, 1)]


def test_burst_shared_by_two_runs_is_fetched_twice():
    assert groups(load(0, 4, (2, 8))) == [(0, 2)]
    assert groups(load(0, 16, (3, 0))) == [(0, 3)]


def test_pages_in_one_bank_close_each_other():
    # pages 0 2 0 2, all of bank 0: four misses
    assert cycles(load(0, 16, (2, 512), (2, 0))) == 2 + 4 * (10 + 1) + 6
    # pages 0 1 0 1 of banks 0 and 1: two misses
    assert cycles(load(0, 16, (2, 256), (2, 0))) == 2 + 2 * 10 + 4 + 6


def test_latency_of_each_kind():
    # 64 B: one group of 4 bursts
    assert cycles(load(0, 64)) == 2 + 10 + 4 + 6
    assert cycles(load(0, 64, cls=Multicast, cores=5)) == 2 + 10 + 4 + 6
    assert cycles(load(0, 64, cls=Store)) == 2 + 10 + 4 + 3


def test_physical_base_moves_the_pages():
    assert groups(load(0, 64), base=1024 + 224) == [(4, 2), (5, 2)]
    assert cycles(load(0, 64), base=224) == 2 + 2 * (10 + 2) + 6


def test_data_of_a_group_on_ax650n():
    hardware = config.load("ax650n")
    # 2048 B: at 34.128 GB/s and 880 MHz 52.8 cycles, over the port 32; 64 B: 1.65
    assert data_cycles(32, hardware) == 53
    assert data_cycles(1, hardware) == 2
    assert data_cycles(np.array([32, 1]), hardware).tolist() == [53, 2]


def test_data_over_a_narrow_port():
    # 64 B: 4 cycles of DRAM, 8 of a port of 8 B
    assert data_cycles(4, SMALL.with_values({"sdma.port_bytes_per_cycle": 8})) == 8


def test_send():
    # 1000 B = 63 flits; 3 runs of 20 B = 6 flits
    long, short = Send(src=0, dst_core=1, dst=0, run=1000), Send(src=0, dst_core=1, dst=0, run=20, count_1=3)
    assert path_groups(long, SMALL).flits.tolist() == [4] * 15 + [3]
    assert path_groups(short, SMALL).flits.tolist() == [4, 2]
    assert path_groups(Send(src=0, dst_core=1, dst=0, run=128), SMALL).flits.tolist() == [4, 4]
    assert cycles(long) == 2 + 63 + 5
    assert cycles(short) == 2 + 6 + 5


@given(run=st.integers(1, 300), counts=st.tuples(*[st.integers(1, 4)] * 3))
def test_path_groups_add_up(run, counts):
    send = Send(src=0, dst_core=1, dst=0, run=run, count_1=counts[0], count_2=counts[1], count_3=counts[2])
    made = path_groups(send, SMALL).flits
    assert (made[:-1] == 4).all()
    assert 1 <= made[-1] <= 4
    assert cycles(send) == 2 + made.sum() + 5


# ------------------------------------------------------------------------------ against bursts counted byte by byte


def runs_byte_by_byte(transfer, base):
    """The runs of a transfer as lists of byte addresses, contiguous dimensions merged."""
    runs = [[base + transfer.offset + byte for byte in range(transfer.run)]]
    for number in (1, 2, 3):
        count, stride = getattr(transfer, f"count_{number}"), getattr(transfer, f"dram_stride_{number}")
        copies = [[address + index * stride for address in run] for index in range(count) for run in runs]
        flat = [address for run in copies for address in run]
        if len(runs) == 1 and flat == list(range(flat[0], flat[0] + len(flat))):
            copies = [flat]
        runs = copies
    return runs


def groups_byte_by_byte(transfer, base, hardware):
    dram = hardware.dram
    made: list[list[int]] = []
    for run in runs_byte_by_byte(transfer, base):
        for burst in sorted({address // dram.burst_bytes for address in run}):
            page = burst * dram.burst_bytes // dram.page_bytes
            if made and made[-1][0] == page and made[-1][1] < dram.group_bursts:
                made[-1][1] += 1
            else:
                made.append([page, 1])
    return [tuple(group) for group in made]


def cycles_byte_by_byte(transfer, base, hardware):
    dram = hardware.dram
    total = hardware.sdma.issue_cycles + dram.read_latency_cycles
    open_pages: dict[int, int] = {}
    for page, bursts in groups_byte_by_byte(transfer, base, hardware):
        if open_pages.get(page % dram.banks) != page:
            total += dram.page_miss_cycles
            open_pages[page % dram.banks] = page
        nanoseconds_of_data = bursts * dram.burst_bytes * 10**9 / dram.bytes_per_second
        assert nanoseconds_of_data == int(nanoseconds_of_data)  # small: 1 GHz, 16 B/ns
        total += int(nanoseconds_of_data)
    return total


outer = st.tuples(st.integers(1, 5), st.one_of(st.integers(0, 700), st.sampled_from((16, 48, 256, 512))))
run_bytes = st.one_of(st.integers(1, 100), st.integers(1, 1200), st.sampled_from((16, 48, 256)))
transfers = st.builds(
    lambda offset, run, dims: load(offset, run, *dims), st.integers(0, 600), run_bytes, st.lists(outer, max_size=3)
)
dense = st.builds(
    lambda offset, run, a, b, last: load(offset, run, (a, run), (b, run * a), (2, last)),
    st.integers(0, 600), st.integers(1, 64), st.integers(1, 4), st.integers(1, 4), st.integers(0, 1200),
)  # fmt: skip
bases = st.integers(0, 5000)


@given(transfer=st.one_of(transfers, dense), base=bases, banks=st.sampled_from((1, 2, 3)))
@example(transfer=load(0, 4, (2, 12), (2, 4)), base=0, banks=2)
def test_groups_and_cycles_byte_by_byte(transfer, base, banks):
    hardware = SMALL.with_values({"dram.banks": banks})
    assert groups(transfer, base, hardware) == groups_byte_by_byte(transfer, base, hardware)
    assert cycles(transfer, base, hardware) == cycles_byte_by_byte(transfer, base, hardware)


@given(transfer=transfers, base=bases)
def test_odd_sizes_of_groups_and_pages(transfer, base):
    hardware = SMALL.with_values({"dram.group_bursts": 5, "dram.page_bytes": 48, "dram.bytes": 48 * 20_000})
    assert groups(transfer, base, hardware) == groups_byte_by_byte(transfer, base, hardware)
    assert cycles(transfer, base, hardware) == cycles_byte_by_byte(transfer, base, hardware)


@given(transfer=transfers, base=bases, pages=st.integers(0, 100))
def test_whole_pages_make_no_difference(transfer, base, pages):
    assert cycles(transfer, base) == cycles(transfer, base + 256 * pages)


@given(offset=st.integers(0, 600), run=st.integers(1, 5000), more=st.integers(0, 500))
def test_longer_runs_never_take_less_time(offset, run, more):
    assert cycles(load(offset, run + more)) >= cycles(load(offset, run))


@given(rows=st.lists(st.tuples(st.one_of(transfers, dense), bases), min_size=1, max_size=5))
def test_columns_have_the_groups_of_their_rows(rows):
    ((_, _, columns),) = decode_columns(encode_stream(transfer for transfer, _ in rows))
    made = burst_groups(columns.dram_region(), np.array([base for _, base in rows]), SMALL)
    alone = [groups(transfer, base) for transfer, base in rows]
    assert made.count.tolist() == [len(row) for row in alone]
    assert list(zip(made.page.tolist(), made.bursts.tolist(), strict=True)) == [group for row in alone for group in row]


@given(sizes=st.lists(st.tuples(st.integers(1, 300), st.integers(1, 4)), min_size=1, max_size=5))
def test_columns_of_sends_have_the_groups_of_their_rows(sizes):
    sends = [Send(src=0, dst_core=1, dst=0, run=run, count_2=count) for run, count in sizes]
    ((_, _, columns),) = decode_columns(encode_stream(sends))
    made, alone = path_groups(columns, SMALL), [path_groups(send, SMALL).flits.tolist() for send in sends]
    assert made.count.tolist() == [len(row) for row in alone]
    assert made.flits.tolist() == [flits for row in alone for flits in row]
