"""Tiny programs whose cycles are added up by hand, from docs/microarchitecture.md and nothing else.

Each runs on the event engine and on the reference model. The machine is ``small``: two 4 x 4 conv units a core, weight
stationary with overlapping folds; vectors, moves, DRAM, ports and flits of 16 bytes a cycle; every fixed cost a small
number, given here once and named in the sums below:

    conv      issue 2, epilogue 3            sync      own core 2, other cores 4, control 1
    teng      issue 1, pipeline 2, row 3     path      groups of 4 flits, latency 5
    cv        issue 1, pipeline 1            DRAM      bursts of 16 bytes, groups of 4, pages of 256, 2 banks,
    sdma      issue 2                                  miss 10, turnaround 4, read latency 6, write latency 3
    OCM       4 banks of 0x4000, conflict 5            no refresh

A retire cycle is written as a sum in the order in which the cycles pass.
"""

from __future__ import annotations

import pytest

MATMUL = "matmul a=0x0 b=0x100 dst=0x200 params=0x300 a_row_stride=16 dst_row_stride=16"
"""Everything in OCM bank 0. With m=3 k=4 n=4 it takes 18 cycles (see the first test)."""
MATMUL_18 = f"{MATMUL} m=3 k=4 n=4"
MATMUL_18_BANK_1 = "matmul a=0x4000 b=0x4100 dst=0x4200 params=0x4300 a_row_stride=16 dst_row_stride=16 m=3 k=4 n=4"
SEGMENTS = ".segment in input 4096\n.segment out output 4096\n"
"""Pages 0 to 15 and 16 to 31; even pages lie in DRAM bank 0, odd ones in bank 1."""
ADD = "a=0x0 b=0x400 dst=0x1000 params=0x3000 a_stride_1=64 dst_stride_1=128 a_stride_2=128 dst_stride_2=256"


# -------------------------------------------------------------------------------------------------------------- waits


def test_a_wait_across_units_takes_the_counter_latency(run):
    # load 0 .. 22: issue 2 + miss 10 + 4 bursts + read latency 6; visible on the same core 2 later: 24 .. 24 + 18
    # on the other core 4 later: 26 .. 44
    text = f"""{SEGMENTS}
        sdma load ocm=0x4000 segment=in run=64
        conv0 {MATMUL_18} wait(sdma, 1)
        core1.conv0 {MATMUL_18} wait(core0.sdma, 1)"""
    assert run(text) == {"sdma": [(0, 22)], "conv0": [(24, 42)], "core1.conv0": [(26, 44)]}


def test_a_unit_sees_its_own_counter_at_once(run):
    assert run("cv sync\n cv sync wait(cv, 1)\n cv sync wait(cv, 2)") == {"cv": [(0, 1), (1, 2), (2, 3)]}


def test_a_wait_that_is_already_visible_costs_nothing(run):
    # sync of cv retires at 1, visible at 3; conv0 is busy until 18
    text = f"cv sync\n conv0 {MATMUL_18}\n conv0 {MATMUL_18} wait(cv, 1)"
    assert run(text) == {"cv": [(0, 1)], "conv0": [(0, 18), (18, 36)]}


def test_a_sync_waits_for_the_latest_of_many(run):
    # conv0 18; conv1 with T = m = 7: 2 + 17 + 3 = 22; cv 1; sdma 22 (bank 1: no conflict) -> visible 24
    # core1.cv copies 256 runs of one cycle: 1 + 256 + 1 = 258 -> visible on core 0 at 262, on its own core at 260
    text = f"""{SEGMENTS}
        conv0 {MATMUL_18}
        conv1 {MATMUL} m=7 k=4 n=4
        cv sync
        sdma load ocm=0x4000 segment=in run=64
        core1.cv copy src=0x0 dst=0x4000 run=16 count_1=256 src_stride_1=16 dst_stride_1=16
        teng sync wait(conv0, 1) wait(conv1, 1) wait(cv, 1) wait(sdma, 1)
        teng sync wait(conv0, 1) wait(conv1, 1) wait(cv, 1) wait(sdma, 1) wait(core1.cv, 1)
        core1.teng sync wait(core1.cv, 1) wait(core0.sdma, 1)"""
    spans = run(text)
    assert spans["conv0"] + spans["conv1"] + spans["sdma"] == [(0, 18), (0, 22), (0, 22)]
    assert spans["core1.cv"] == [(0, 258)]
    assert spans["teng"] == [(24, 25), (262, 263)]
    assert spans["core1.teng"] == [(260, 261)]


# ---------------------------------------------------------------------------------------------- DRAM: one sdma alone


def load_offsets(*offsets: int, run: int = 64) -> str:
    return SEGMENTS + "".join(f"sdma load ocm=0x0 segment=in offset={offset} run={run}\n" for offset in offsets)


def test_one_load(run):
    # request at 2; page miss 10 + 4 bursts of a cycle: ends at 16; read latency 6: 22
    assert run(load_offsets(0)) == {"sdma": [(0, 22)]}


def test_one_store(run):
    # 2 + 10 + 4 + write latency 3 = 19
    assert run(f"{SEGMENTS} sdma store ocm=0x0 segment=out run=64") == {"sdma": [(0, 19)]}


def test_groups_of_a_load_stream_without_gaps_and_pay_the_latency_once(run):
    # 320 bytes = 20 bursts: 4 groups of 4 in page 0, one in page 1 (the other bank, closed)
    # 2 + 10 + 4 = 16, + 4 = 20, + 4 = 24, + 4 = 28, + 10 + 4 = 42, + latency 6 = 48
    assert run(load_offsets(0, run=320)) == {"sdma": [(0, 48)]}


def test_a_group_ends_at_the_end_of_its_page(run):
    # offset 224: 2 bursts to the end of page 0, then 2 in page 1: 2 + (10 + 2) + (10 + 2) + 6 = 32
    assert run(load_offsets(224)) == {"sdma": [(0, 32)]}


def test_page_hits_and_misses(run):
    # page 0 first: 22. Again page 0, start 22, request 24: hit, 24 + 4 + 6 = 34.
    # Page 1 is in the other bank, closed: 34 + 2 + 10 + 4 + 6 = 56; page 0 is still open: 56 + 2 + 4 + 6 = 68.
    # Page 2 shares bank 0: 68 + 2 + 14 + 6 = 90; it closed page 0: 90 + 2 + 14 + 6 = 112.
    spans = run(load_offsets(0, 64, 256, 128, 512, 192))
    assert spans == {"sdma": [(0, 22), (22, 34), (34, 56), (56, 68), (68, 90), (90, 112)]}


def test_turnaround_between_reads_and_writes(run):
    # The load ends at 22. The store to the same page asks at 24: turnaround 4 + 4 bursts = 32, + 3 = 35. The next store
    # pays none: 35 + 2 + 4 + 3 = 44. The load turns around again: 44 + 2 + 4 + 4 + 6 = 60.
    text = f"""{SEGMENTS}
        sdma load ocm=0x0 segment=in run=64
        sdma store ocm=0x0 segment=in run=64
        sdma store ocm=0x0 segment=in run=64
        sdma load ocm=0x0 segment=in run=64"""
    assert run(text) == {"sdma": [(0, 22), (22, 35), (35, 44), (44, 60)]}


def test_refresh_delays_and_closes_pages(run):
    # windows [40, 48), [80, 88)
    # 1. 256 bytes of page 0: 2 + 10 + 4 * 4 = 28, + 6 = 34; its groups start at 2, 16, 20, 24
    # 2. request 36, before the window: hit, 40, + 6 = 46
    # 3. request 48, the window's end: no delay, but the window closed the page: 48 + 14 = 62, + 6 = 68
    # 4. request 70: hit, 74, + 6 = 80
    # 5. request 82, inside: starts at 88, page closed: 88 + 14 = 102, + 6 = 108
    changes = {"dram.refresh_interval_cycles": 40, "dram.refresh_cycles": 8}
    text = f"{load_offsets(0, run=256)} {load_offsets(0, 0, 0, 0).removeprefix(SEGMENTS)}"
    assert run(text, changes=changes) == {"sdma": [(0, 34), (34, 46), (46, 68), (68, 80), (80, 108)]}


def test_refresh_does_not_interrupt_a_group_and_delays_the_next(run):
    # windows [13, 18), [26, 31), [39, 44), [52, 57), one load of 4 groups of page 0
    # group 1, granted at 2: 2 + 14 = 16, in spite of the window that begins at 13
    # group 2, granted at 16, inside that window: starts at 18, page closed: 18 + 14 = 32
    # group 3, granted at 32, outside, but 26 lies between the starts 18 and 32: page closed: 32 + 14 = 46
    # group 4, granted at 46, and 39 lies between 32 and 46: 46 + 14 = 60, + 6 = 66
    changes = {"dram.refresh_interval_cycles": 13, "dram.refresh_cycles": 5}
    assert run(load_offsets(0, run=256), changes=changes) == {"sdma": [(0, 66)]}


def test_the_slower_of_dram_and_port_sets_the_pace(run):
    # 64 bytes at 5 bytes a cycle: ceil(12.8) = 13; 2 + 10 + 13 + 6 = 31
    assert run(load_offsets(0), changes={"dram.bytes_per_second": 5_000_000_000}) == {"sdma": [(0, 31)]}
    # the port's 6 bytes a cycle: ceil(10.7) = 11; 2 + 10 + 11 + 6 = 29
    assert run(load_offsets(0), changes={"sdma.port_bytes_per_cycle": 6}) == {"sdma": [(0, 29)]}


@pytest.mark.parametrize(
    ("fields", "service"),
    [
        # service is what lies between the request at 2 and the end; all in page 0
        # bytes 8 .. 23 lie in two bursts
        ("offset=8 run=16", 10 + 2),
        # 6 runs of 4 bytes at 8, 48, 88, 128, 168, 208: a burst each, in groups of 4 and 2
        ("offset=8 run=4 count_1=6 dram_stride_1=40 ocm_stride_1=4", 10 + 4 + 2),
        # 3 runs of 16 bytes: 8 .. 23 two bursts, 48 .. 63 one, 88 .. 103 two: groups of 4 and 1
        ("offset=8 run=16 count_1=3 dram_stride_1=40 ocm_stride_1=16", 10 + 4 + 1),
        # 0 .. 7 burst 0; 12 .. 19 bursts 0 and 1; 24 .. 31 burst 1: shared bursts are fetched for each run: 4
        ("run=8 count_1=3 dram_stride_1=12 ocm_stride_1=8", 10 + 4),
        # 8 runs of 8 bytes that touch are one run of 64 bytes: 4 bursts, not 8
        ("run=8 count_1=8 dram_stride_1=8 ocm_stride_1=32", 10 + 4),
        # 2 * 3 runs of 8 bytes are one of 48 bytes: 3 bursts (two runs of 24 bytes would be 2 + 2); the stride of the
        # dimension of count 1 between them does not matter
        ("run=8 count_1=3 dram_stride_1=8 ocm_stride_1=8 count_3=2 dram_stride_3=24 ocm_stride_3=64", 10 + 3),
        # the inner dimension leaves gaps, so that the outer one cannot merge although 2 * 16 = 32:
        # 0 .. 15 burst 0; 20 .. 35 bursts 1, 2; 32 .. 47 burst 2; 52 .. 67 bursts 3, 4: 6 bursts
        (
            "run=16 count_1=2 dram_stride_1=20 ocm_stride_1=16 count_2=2 dram_stride_2=32 ocm_stride_2=32",
            10 + 4 + 2,
        ),
        # and nothing merges beyond a gap, though this outer stride equals the run:
        # 0 .. 15 burst 0; 20 .. 35 bursts 1, 2; 16 .. 31 burst 1; 36 .. 51 bursts 2, 3: 6 bursts
        (
            "run=16 count_1=2 dram_stride_1=20 ocm_stride_1=16 count_2=2 dram_stride_2=16 ocm_stride_2=32",
            10 + 4 + 2,
        ),
        # one run of 16 bytes, read 5 times
        ("run=16 count_1=5 dram_stride_1=0 ocm_stride_1=16", 10 + 4 + 1),
    ],
)
def test_strided_loads(run, fields, service):
    assert run(f"{SEGMENTS} sdma load ocm=0x0 segment=in {fields}") == {"sdma": [(0, 2 + service + 6)]}


def test_runs_share_the_groups_of_their_page(run):
    # 6 runs of a burst in page 0, at 5 bytes a cycle: groups of 4 and 2 bursts, ceil(64/5) + ceil(32/5) = 13 + 7 = 20
    # (one by one they would take 6 * ceil(16/5) = 24); 2 + 10 + 20 + 6 = 38
    text = f"{SEGMENTS} sdma load ocm=0x0 segment=in run=16 count_1=6 dram_stride_1=32 ocm_stride_1=16"
    assert run(text, changes={"dram.bytes_per_second": 5_000_000_000}) == {"sdma": [(0, 38)]}


def test_strides_across_pages_pay_a_miss_for_each(run):
    # 4 runs of a burst at 0, 256, 512, 768: pages 0 1 2 3 in banks 0 1 0 1, none open: 4 * (10 + 1)
    text = f"{SEGMENTS} sdma load ocm=0x0 segment=in run=16 count_1=4 dram_stride_1=256 ocm_stride_1=16"
    assert run(text) == {"sdma": [(0, 2 + 4 * 11 + 6)]}


def test_double_buffered_load_compute_store(run):
    # Tiles alternate between OCM banks 0 and 1, so that transfers never meet the bank in use. "in" is page 0,
    # "out" page 16 made odd by the 256 bytes between: page 17. Segments: in at 0, gap at 4096, out at 4352.
    #
    # load 0     0: request 2, miss 10 + 4 -> 16, + 6 -> 22
    # load 1    22: request 24, hit 4 -> 28, + 6 -> 34
    # matmul 0  22 + 2 = 24, 18 cycles -> 42
    # matmul 1  visible at 36, unit free at 42 -> 60
    # store 0   42 + 2 = 44: request 46, miss 10 + turnaround 4 + 4 -> 64, + 3 -> 67
    # load 2    67: request 69, page 0 still open, turnaround 4 + 4 -> 77, + 6 -> 83
    # matmul 2  83 + 2 = 85 -> 103
    # store 1   83: request 85, hit, turnaround 4 + 4 -> 93, + 3 -> 96
    # store 2   103 + 2 = 105: request 107, hit, same direction 4 -> 111, + 3 -> 114
    text = f"""
        .segment in input 4096
        .segment gap scratch 256
        .segment out output 4096
        load0:  sdma  load  ocm=0x0    segment=in  offset=0   run=64
        load1:  sdma  load  ocm=0x4000 segment=in  offset=64  run=64
        first:  conv0 {MATMUL_18}        wait(load0)
        second: conv0 {MATMUL_18_BANK_1} wait(load1)
                sdma  store ocm=0x200  segment=out offset=0   run=64 wait(first)
        load2:  sdma  load  ocm=0x0    segment=in  offset=128 run=64
        third:  conv0 {MATMUL_18}        wait(load2)
                sdma  store ocm=0x4200 segment=out offset=64  run=64 wait(second)
                sdma  store ocm=0x200  segment=out offset=128 run=64 wait(third)"""
    assert run(text) == {
        "sdma": [(0, 22), (22, 34), (44, 67), (67, 83), (83, 96), (105, 114)],
        "conv0": [(24, 42), (42, 60), (85, 103)],
    }


# ------------------------------------------------------------------------------------------------- OCM bank conflicts


def test_a_group_pays_for_a_bank_that_a_unit_streams_from(run):
    # the matmul works in bank 0 from 0 to 18; the group is granted at 2: miss 10 + conflict 5 + 4 -> 21, + 6 -> 27
    assert run(f"{load_offsets(0)} conv0 {MATMUL_18}") == {"sdma": [(0, 27)], "conv0": [(0, 18)]}
    # bank 1 is another one, and so is bank 0 of another core
    assert run(f"{load_offsets(0)} conv0 {MATMUL_18_BANK_1}")["sdma"] == [(0, 22)]
    assert run(f"{load_offsets(0)} core1.conv0 {MATMUL_18}")["sdma"] == [(0, 22)]
    # two units in the bank cost no more than one
    assert run(f"{load_offsets(0)} conv0 {MATMUL_18}\n conv1 {MATMUL_18}")["sdma"] == [(0, 27)]


@pytest.mark.parametrize(
    ("rows", "retire"),
    [
        # first group: granted at 2, 10 + 5 + 4 -> 21; the add of that many rows runs 1 + rows + 2 cycles
        (18, 21 + 4 + 6),  # it retires at 21, in which the second group is granted: no conflict any more
        (19, 21 + 5 + 4 + 6),  # it retires at 22: conflict
    ],
)
def test_an_instruction_is_in_the_way_until_it_retires(run, rows, retire):
    # whether teng goes on to its end at once, or has to wait
    text = f"{load_offsets(0, run=128)} teng add {ADD} count=16 count_1={rows}"
    assert run(text) == {"sdma": [(0, retire)], "teng": [(0, rows + 3)]}
    assert run(f"{text}\n teng sync wait(sdma, 1)")["sdma"] == [(0, retire)]


@pytest.mark.parametrize(("syncs", "retire"), [(2, 27), (3, 22)])
def test_an_instruction_is_in_the_way_from_the_cycle_of_its_start(run, syncs, retire):
    # after 2 syncs the matmul starts at 2, the cycle of the grant; after 3, one too late to be in the way
    text = load_offsets(0) + "conv0 sync\n" * syncs + f"conv0 {MATMUL_18}"
    assert run(text)["sdma"] == [(0, retire)]


def test_banks_reach_from_the_lowest_to_the_highest_byte(run):
    # the copy's source has bytes in banks 0 and 2 and reaches over bank 1; its destination is in bank 3
    text = "cv copy src=0x0 dst=0xC000 run=16 count_1=2 src_stride_1=0x8000 dst_stride_1=16"
    assert run(f"{SEGMENTS} sdma load ocm=0x4000 segment=in run=64\n {text}")["sdma"] == [(0, 27)]
    # the last byte decides: 16 bytes at 0x3ff0 stay in bank 0, 17 reach into bank 1
    for length, retire in ((16, 22), (17, 27)):
        text = f"cv copy src=0x3ff0 dst=0xC000 run={length}"
        assert run(f"{SEGMENTS} sdma load ocm=0x4000 segment=in run=64\n {text}")["sdma"] == [(0, retire)]


def test_a_conflict_costs_the_store_and_the_send_as_well(run):
    # the store takes 2 + 10 + 5 + 4 + 3 = 24
    assert run(f"{SEGMENTS} sdma store ocm=0x0 segment=out run=64\n conv0 {MATMUL_18}")["sdma"] == [(0, 24)]
    # send of 4 flits: 2 + 5 + 4 + latency 5 = 16, for the source or the destination or both: once
    send = "sdma send src=0x0 dst_core=1 dst=0x0 run=64"
    for conv in (f"conv0 {MATMUL_18}", f"core1.conv0 {MATMUL_18}", f"conv0 {MATMUL_18}\n core1.conv1 {MATMUL_18}"):
        assert run(f".cores 2\n {send}\n {conv}")["sdma"] == [(0, 16)]


# ----------------------------------------------------------------------------------------------------- several cores


def test_two_cores_take_turns_at_the_dram(run):
    # both request at 2. core 0: miss 10 + 4 -> 16; core 1: 20; core 0: 24, + 6 -> 30; core 1: 28, + 6 -> 34
    text = f"{load_offsets(0, run=128)} core1.sdma load ocm=0x0 segment=in offset=128 run=128"
    assert run(text) == {"sdma": [(0, 30)], "core1.sdma": [(0, 34)]}


def test_two_cores_in_two_pages_of_a_bank_close_each_others_page(run):
    # pages 0 and 2 of bank 0, four groups, each a miss of 10 + 4: 16, 30, 44 (+ 6 -> 50), 58 (+ 6 -> 64)
    text = f"{load_offsets(0, run=128)} core1.sdma load ocm=0x0 segment=in offset=512 run=128"
    assert run(text) == {"sdma": [(0, 50)], "core1.sdma": [(0, 64)]}


def test_three_cores_in_turn_from_core_0_whatever_their_logical_number(run):
    # logical cores 0, 1, 2 sit on physical 2, 0, 1; all request at 2; physical order: 16, 20, 24, then 28, 32, 36
    text = SEGMENTS + "".join(
        f"core{c}.sdma load ocm=0x0 segment=in offset={128 * (c % 2)} run=128\n" for c in range(3)
    )
    assert run((text, (2, 0, 1))) == {"sdma": [(0, 34)], "core1.sdma": [(0, 38)], "core2.sdma": [(0, 42)]}


def test_the_turn_goes_on_behind_the_core_served_last(run):
    # core 1 alone first: request 2, 16. core 2 asks at 1 + 2 = 3 and core 0 at 2 + 2 = 4; both wait for 16.
    # Behind core 1 comes core 2: 20, then core 0: 24. Each + 6.
    text = f"""{SEGMENTS}
        core1.sdma load ocm=0x0 segment=in run=64
        core2.sdma sync
        core2.sdma load ocm=0x0 segment=in run=64
        core0.sdma sync
        core0.sdma sync
        core0.sdma load ocm=0x0 segment=in run=64"""
    spans = run(text)
    assert spans["core1.sdma"] == [(0, 22)]
    assert spans["core2.sdma"] == [(0, 1), (1, 26)]
    assert spans["sdma"] == [(0, 1), (1, 2), (2, 30)]


def test_a_request_comes_before_a_later_one_of_any_core(run):
    # core 1 asks at 2 and is served: 16, + 6 = 22; core 0, whose turn would come first, asks at 1 + 2 = 3: 20, + 6 = 26
    text = f"""{SEGMENTS}
        core0.sdma sync
        core0.sdma load ocm=0x0 segment=in run=64
        core1.sdma load ocm=0x0 segment=in run=64"""
    assert run(text) == {"sdma": [(0, 1), (1, 26)], "core1.sdma": [(0, 22)]}


def test_a_multicast_reads_the_dram_once_for_all_its_cores(run):
    # 22 as any load of 64 bytes; the cores see it 2 and 4 cycles later
    text = f"""{SEGMENTS}
        .cores 3
        sdma multicast ocm=0x0 segment=in run=64 cores=7
        conv0 sync wait(sdma, 1)
        core2.conv0 sync wait(core0.sdma, 1)"""
    assert run(text) == {"sdma": [(0, 22)], "conv0": [(24, 25)], "core2.conv0": [(26, 27)]}


def test_a_multicast_conflicts_on_any_core_it_writes(run):
    # core 1 works in bank 0: 2 + 10 + 5 + 4 + 6 = 27 if core 1 is among the receivers (mask 6: cores 1 and 2)
    for mask, retire in ((6, 27), (5, 22)):
        text = f"{SEGMENTS}.cores 3\n sdma multicast ocm=0x0 segment=in run=64 cores={mask}\n core1.conv0 {MATMUL_18}"
        assert run(text)["sdma"] == [(0, retire)]


def test_another_sdma_is_never_in_the_way(run):
    # core 1's sdma fills bank 0 from 0 to 2 + 4 = 6, while the group for that bank is granted at 2: no conflict, 22
    text = f"{SEGMENTS}sdma multicast ocm=0x0 segment=in run=64 cores=2\n core1.sdma fill dst=0x100 run=64"
    assert run(text) == {"sdma": [(0, 22)], "core1.sdma": [(0, 6)]}


def test_a_send_goes_over_the_path_in_groups_of_flits(run):
    # 3 runs of ceil(40/16) = 3 flits: 9 in groups of 4, 4, 1: 2 -> 6 -> 10 -> 11, + latency 5 = 16
    # runs that touch do not merge: a flit belongs to one run
    text = ".cores 2\n sdma send src=0x0 dst_core=1 dst=0x0 run=40 count_1=3 src_stride_1=40 dst_stride_1=40"
    assert run(text) == {"sdma": [(0, 16)]}


def test_two_sends_share_the_path_and_a_load_does_not_mind(run):
    # 8 flits each, requested at 2: core 0 -> 6, core 1 -> 10, core 0 -> 14 (+ 5 = 19), core 1 -> 18 (+ 5 = 23)
    # core 2 loads meanwhile, in 22 cycles
    text = f"""{SEGMENTS}
        core0.sdma send src=0x0 dst_core=1 dst=0x4000 run=128
        core1.sdma send src=0x0 dst_core=0 dst=0x4000 run=128
        core2.sdma load ocm=0x0 segment=in run=64"""
    assert run(text) == {"sdma": [(0, 19)], "core1.sdma": [(0, 23)], "core2.sdma": [(0, 22)]}


# ----------------------------------------------------------------------------------------------------------- barriers


def test_a_barrier_on_one_core_ends_with_the_last_arrival(run):
    # sdma is there at 0, conv0 at 18: both leave at 18 + 2 = 20
    text = (
        f"conv0 {MATMUL_18}\n conv0 barrier units=conv0+sdma\n conv0 sync\n sdma barrier units=conv0+sdma\n sdma sync"
    )
    assert run(text) == {"conv0": [(0, 18), (18, 20), (20, 21)], "sdma": [(0, 20), (20, 21)]}


def test_a_barrier_across_cores_takes_the_longer_latency(run):
    # core 1 is there at 18: 18 + 4 = 22
    everyone = "units=core0.teng+core1.conv0+core2.cv"
    text = f"""
        core1.conv0 {MATMUL_18}
        core0.teng barrier {everyone}
        core1.conv0 barrier {everyone}
        core2.cv barrier {everyone}"""
    assert run(text) == {"teng": [(0, 22)], "core1.conv0": [(0, 18), (18, 22)], "core2.cv": [(0, 22)]}


def test_a_barrier_waits_as_any_instruction_and_meets_again(run):
    # conv0 retires at 18, seen by teng at 20; the first meeting ends at 20 + 2 = 22, the second at 22 + 2 = 24
    meet = "barrier units=teng+cv id=7"
    text = f"conv0 {MATMUL_18}\n teng {meet} wait(conv0, 1)\n teng {meet}\n cv {meet}\n cv {meet}"
    assert run(text) == {"conv0": [(0, 18)], "teng": [(20, 22), (22, 24)], "cv": [(0, 22), (22, 24)]}


# ---------------------------------------------------------------------------------------------- programs side by side


@pytest.mark.parametrize(
    ("segment_bytes", "second_load"),
    [
        # The first program's segment takes page 0, the second program's begins at the next page: page 1, bank 1.
        # At 30 the first program's second load, asked at 24, finds page 0 open: 34, + 6 = 40.
        (100, 40),
        # A segment of 300 bytes takes pages 0 and 1; the other program gets page 2, which closes page 0: 44, + 6 = 50
        (300, 50),
    ],
)
def test_two_programs_side_by_side(run, segment_bytes, second_load):
    # both ask at 2: core 0 -> 16, + 6 = 22; core 1, a miss whatever its page: 16 + 14 = 30, + 6 = 36
    load = "sdma load ocm=0x0 segment=in run=64"
    one = f".segment in input {segment_bytes}\n {load}\n {load}"
    other = f".segment in input 64\n {load}\n conv0 sync wait(sdma, 1)"
    spans = run((one, (0,)), (other, (1,)))
    assert spans["sdma"] == [(0, 22), (22, second_load)]
    assert spans["core1.sdma"] == [(0, 36)]
    assert spans["core1.conv0"] == [(38, 39)]  # its own core's counter: 2 later
