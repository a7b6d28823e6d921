"""Models side by side: figures against sums by hand, and what a user may ask for."""

import csv
import json
import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import npusim
from isa.assembler import assemble
from npusim.config import load
from npusim.errors import UsageError
from npusim.session.calls import Member, alone_ms, call_together, parse_fps, percentile
from npusim.session.fleet import simulate_fleet

# a cycle is a microsecond, so that 1000 cycles are 1 ms; a call costs the host 5 of them
SLOW = load("small").with_values(
    {"machine.clock_hz": 1_000_000, "machine.launch_ms": 0.005, "dram.bytes_per_second": 16_000_000}
)


def busy(cycles, name="m"):
    """A program that keeps a core busy so long."""
    return assemble(f".program {name}\n" + "cv sync\n" * (cycles - 1))


def member(cycles, core=0, **changes):
    return Member(name=f"m{cycles}", program=busy(cycles), cores=(core,), **changes)


def together(*members, repeat=4, warmup=0):
    return call_together(SLOW, members, repeat, warmup).together


# ------------------------------------------------------------------------------------------------------ sums by hand


def test_a_lone_model_does_not_vary():
    # each call: 5 to launch, 10 to run; asked again at once: 15 us a call
    one = together(member(10))[0]
    assert one.min_ms == one.avg_ms == one.p50_ms == one.p99_ms == one.max_ms == pytest.approx(0.015)
    assert one.fps == pytest.approx(1e6 / 15)
    assert one.busy == pytest.approx(10 / 15)
    assert (one.wait_ms, one.calls, one.missed, one.deadline_ms) == (0, 4, 0, None)
    assert alone_ms(SLOW, member(10, fps=Fraction(1))) == pytest.approx(0.015)


def test_a_batch_pays_the_host_once():
    # 5 + 4 * 10 for four inferences
    one = together(member(10, batch=4))[0]
    assert one.avg_ms == pytest.approx(0.045)
    assert one.fps == pytest.approx(4e6 / 45)
    assert alone_ms(SLOW, member(10, batch=4)) == pytest.approx(0.045)


def test_the_host_works_for_every_inference():
    # 5 to launch + 2 * 7 on the host + 2 * 10; the core is free for another model in the meantime
    one, other = together(member(10, batch=2, host_ms=0.007), member(3))
    assert one.min_ms == pytest.approx(0.039)
    assert one.wait_ms < 0.003
    assert other.max_ms <= 0.008 + 0.020


def test_models_on_one_core_wait_for_one_another():
    # Both ask at 0, are launched at 5. a (30) runs 5..35, b (10) 35..45. a asks at 35, is launched at 40, runs 45..75;
    # b asks at 45, launched at 50, runs 75..85; and so on: a takes 40 us from asking to answer, 5 of them waiting; b
    # takes 40, 25 of them waiting.
    a, b = together(member(30), member(10), repeat=3, warmup=1)
    assert (a.min_ms, a.max_ms, a.wait_ms) == pytest.approx((0.040, 0.040, 0.005))
    assert (b.min_ms, b.max_ms, b.wait_ms) == pytest.approx((0.040, 0.040, 0.025))
    assert a.busy == pytest.approx(0.75)
    assert b.busy == pytest.approx(0.25)


def test_deadlines_of_requests_by_the_clock():
    # 20,000 a second: every 50 us. Alone 5 + 40 = 45 each: in time. Deadline 44 us: late, all of them.
    one = together(member(40, fps=Fraction(20_000)))[0]
    assert (one.missed, one.due, one.deadline_ms) == (0, 4, pytest.approx(0.05))
    one = together(member(40, fps=Fraction(20_000), deadline_ms=0.044))[0]
    assert (one.missed, one.due, one.deadline_ms) == (4, 4, 0.044)
    one = together(member(40, fps=Fraction(20_000), deadline_ms=0.045))[0]
    assert one.missed == 0  # to the cycle


def test_a_queue_that_grows():
    # every 20 us, 30 each. Call k asks at 20k, has the core at 5 + 30k and ends at 35 + 30k: 35 + 10k us.
    # Latencies 35, 45, 55, 65; the period is the deadline: all late. At 125, when the fourth ends, the requests of 80
    # and 100 have no answer and are 45 and 25 us old: late, too. That of 120 is 5 us old: not yet.
    one = together(member(30, fps=Fraction(50_000)))[0]
    assert [one.min_ms, one.p50_ms, one.p90_ms, one.p99_ms, one.max_ms] == pytest.approx(
        [0.035, 0.045, 0.065, 0.065, 0.065]
    )
    assert (one.missed, one.due, one.unanswered) == (6, 6, 3)
    assert one.wait_ms == pytest.approx(0.015)


def test_warm_up_calls_are_not_measured():
    # a is asked every 10 ms and takes 1 ms, b every ms and takes 10 us. b's first call waits for a and is late, the
    # other nine are not; that of 10 ms waits for a's second, and has no answer when that ends and all is over: late.
    models = member(1_000, fps=Fraction(100)), member(10, fps=Fraction(1_000), deadline_ms=0.5)
    _, cold = together(*models, repeat=2)
    assert (cold.calls, cold.due, cold.missed) == (10, 11, 2)
    _, warm = together(*models, repeat=1, warmup=1)
    assert (warm.calls, warm.due, warm.missed) == (9, 10, 1)


def test_bandwidth_is_counted():
    # 64 bytes a call and 26 cycles each (5 to launch, 21 + end 1 once its page is open; the first pays the miss)
    load_64 = assemble(".segment in input 256\nsdma load ocm=0x4000 segment=in run=64")
    one = call_together(SLOW, [Member(name="l", program=load_64, cores=(0,))], 3, 1).together[0]
    assert one.dram_gb_per_second == pytest.approx(64 / (one.avg_ms * 1e6))


@given(st.lists(st.integers(0, 99), min_size=1), st.sampled_from([50, 90, 99]))
def test_percentiles_are_the_smallest_that_so_many_do_not_exceed(values, percent):
    ordered = sorted(values)
    found = percentile(ordered, percent)
    assert sum(v <= found for v in ordered) * 100 >= percent * len(ordered)
    assert sum(v < found for v in ordered) * 100 < percent * len(ordered)


# ----------------------------------------------------------------------------------------------------- built models


def test_a_fleet_of_built_models(chain_built, several_built):
    # two cores and one: side by side
    fleet = simulate_fleet([chain_built, several_built], repeat=3)
    assert [m.cores for m in fleet.models] == [(0, 1), (2,)]
    for model, built in zip(fleet.models, (chain_built, several_built), strict=True):
        assert model.alone_ms == built.summary.latency_ms
        assert model.together.calls >= 3
        assert model.slowdown >= 0.99
    assert list(fleet.shared()) == []
    assert "<Fleet on ax650n: " in repr(fleet)
    assert "<td>0b011</td>" in fleet._repr_html_()
    again = simulate_fleet([chain_built, several_built], repeat=3)
    assert again.records() == fleet.records()


def test_progress_is_told(chain_built):
    shares: list[float] = []
    simulate_fleet([chain_built], fps=1_000, repeat=3, warmup=1, report=shares.append)
    assert shares == [0.25, 0.5, 0.75, 1.0]


def test_records_are_flat(chain_built):
    for row in simulate_fleet([chain_built, chain_built], affinity=[0b011, 0b110], fps=100).records():
        assert {"model", "npu_mode", "affinity", "alone_ms", "avg_ms", "p99_ms", "fps", "missed", "slowdown"} <= set(
            row
        )
        assert all(isinstance(value, str | int | float) for value in row.values())


def test_models_on_the_same_cores_take_turns(chain_built):
    fleet = simulate_fleet([chain_built, chain_built], affinity=[0b011, 0b110], repeat=1, warmup=0)
    assert list(fleet.shared()) == [("tiny", "tiny", (1,))]
    # both ask at once: the second has core 1 when the first is through
    first, second = (model.together for model in fleet.models)
    assert second.wait_ms == pytest.approx(first.max_ms - 0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeat": 0}, "repeat is a whole number from 1 to"),
        ({"warmup": -1}, "warmup is a whole number from 0"),
        ({"batch": [1, 0]}, "batch is a whole number from 1"),
        ({"batch": 1.5}, "batch is a whole number from 1"),
        ({"fps": 0}, "fps takes a positive number or max"),
        ({"fps": [30, "often"]}, "not 'often'"),
        ({"fps": [1, 2, 3]}, "fps takes one value for all models or one for each of 2, not 3"),
        ({"deadline_ms": -1}, "deadline_ms is a positive number, not -1"),
        ({"affinity": [0b1000, None]}, "affinity 0b1000: the masks of ax650n"),
        ({"affinity": [0b001, None]}, "tiny: an NPU2 model needs 2 cores in one block"),
        ({"vnpu": 1}, "-v 1 (STD, 1+1+1) has no block"),
        ({"fps": 10**10}, "requests are at least a cycle apart"),
    ],
)
def test_fleets_that_make_no_sense(chain_built, options, message):
    with pytest.raises(UsageError) as caught:
        simulate_fleet([chain_built, chain_built], **options)
    assert message in str(caught.value)


def test_a_fleet_has_one_machine(chain, chain_built):
    other = npusim.build(chain, hardware=load("ax650n").with_values({"teng.bytes_per_cycle": 16}))
    with pytest.raises(UsageError, match="name one with --target_hardware"):
        simulate_fleet([chain_built.data, other.data])
    assert simulate_fleet([chain_built.data, other.data], hardware="ax650n", repeat=1).hardware.machine.name == "ax650n"
    with pytest.raises(UsageError, match="at least one"):
        simulate_fleet([])


def test_rates_as_users_write_them():
    assert [parse_fps(text) for text in ("30", "29.97", "30000/1001", "max", None)] == [
        30, Fraction("29.97"), Fraction(30000, 1001), None, None
    ]  # fmt: skip
    for text in ("0", "-1", "nan", "1/0", "fast"):
        with pytest.raises(UsageError, match="positive number or max"):
            parse_fps(text)


# ------------------------------------------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def files(tmp_path_factory, chain_built, several_built):
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "a.axmodel").write_bytes(chain_built.data)
    (folder / "b.axmodel").write_bytes(several_built.data)
    return folder


def bench(capsys, *words):
    from npusim.cli import main

    code = main(["bench", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


def test_bench_of_two_models(capsys, files):
    words = ["-m", files / "a.axmodel", "-a", "0b011", "-m", files / "b.axmodel", "-a", "0b100", "-r", "5"]
    code, out, err = bench(capsys, *words, "--json", files / "f.json", "--csv", files / "f.csv")
    assert (code, err) == (0, "")
    record = json.loads((files / "f.json").read_text())
    assert [row["cores"] for row in record["rows"]] == [[0, 1], [2]]
    fixed = {"model", "npu_mode", "hardware", "cycles", "latency_ms", "fps", "macs", "mac_utilization", "dram_bytes"}
    assert all(fixed | {"layers", "alone_ms", "slowdown", "together"} <= set(row) for row in record["rows"])
    with (files / "f.csv").open() as file:
        table = list(csv.DictReader(file))
    for row, line in zip(record["rows"], table, strict=True):
        assert float(line["avg_ms"]) == row["together"]["avg_ms"]
        assert f"{row['alone_ms']:.3f}" in out
    assert "\033" not in out
    assert "DRAM " in out
    assert "take turns" not in out
    assert "missed" not in out


def test_bench_by_the_clock_says_what_was_missed(capsys, files):
    code, out, _ = bench(capsys, "-m", files / "a.axmodel", "--fps", "1000000", "-r", "5")
    assert code == 0
    assert re.search(r" [1-9]\d* of \d+$", out, flags=re.MULTILINE)
    assert "requests had no answer when the run ended" in out
    code, out, _ = bench(capsys, "-m", files / "a.axmodel", "--fps", "30", "--deadline", "5", "-r", "2", "--json", "-")
    row = json.loads(out)["rows"][0]["together"]
    assert (row["missed"], row["deadline_ms"]) == (0, 5.0)


def test_bench_in_one_block_takes_turns(capsys, files):
    code, out, _ = bench(capsys, "-m", files / "a.axmodel", "-m", files / "b.axmodel", "-a", "0b011", "-r", "2")
    assert code == 0
    assert "take turns on core 0" in out


def test_bench_of_a_batch(capsys, files):
    _, out, _ = bench(capsys, "-m", files / "a.axmodel", "--json", "-")
    one = json.loads(out)
    _, out, _ = bench(capsys, "-m", files / "a.axmodel", "-b", "4", "--csv", "-")
    four = next(iter(csv.DictReader(out.splitlines())))
    assert four["batch"] == "4"
    assert not [key for key, cell in four.items() if cell.startswith(("(", "[", "{"))]  # a table has no nested cells
    # four inferences, and the call (0.05 ms) once
    assert float(four["avg_ms"]) == pytest.approx(0.05 + 4 * (one["avg_ms"] - 0.05), rel=0.1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-b", "0"], "-b takes a whole number from 1 on, not '0'"),
        (["-a", "1", "-a", "2"], "-a was given 2 times, for one model"),
        (["--fps", "-3"], "fps takes a positive number or max (as fast as possible), not '-3'"),
        (["--fps", "3", "--fps", "4"], "--fps takes one value for all models or one for each of 1, not 2"),
        (["--deadline", "soon"], "--deadline takes milliseconds such as 33.3, not 'soon'"),
        (["--fps", "3", "-a", "9"], "affinity 0b1001: the masks of ax650n are 0b1 to 0b111"),
        (["--fps", "3", "-v", "7"], "-v takes 0 (Disable)"),
    ],
)
def test_bench_refuses_in_one_line(capsys, files, words, message):
    code, out, err = bench(capsys, "-m", files / "a.axmodel", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
