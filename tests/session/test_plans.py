"""Plans for a mix of models: the ways to place them, the marks, and the verdict."""

import csv
import json
import re
from dataclasses import replace

import onnx
import pytest

import models
import npusim
from models.quantize import quantize
from npusim.config import load
from npusim.errors import UsageError
from npusim.session.calls import alone_ms
from npusim.session.fleet import member_of
from npusim.session.plans import Marks, PlanResult, Plans, compare_plans, parse_plan, placements
from tests.session import small

MACHINE = load("ax650n")
THREE = [(0,), (1,), (2,)]


# Partitions of n models into at most three equal blocks (sums of Stirling numbers of the second kind): 1, 2, 5, 14, 41.
# Blocks of two sizes are all different: 2^n.
@pytest.mark.parametrize(("models", "expected"), [(1, 1), (2, 2), (3, 5), (4, 14), (5, 41)])
def test_every_way_counts_once(models, expected):
    ways = placements("1+1+1", THREE, models)
    assert len(ways) == len(set(ways)) == expected
    assert len(placements("2+1", [(0, 1), (2,)], models)) == 2**models
    assert placements("3", [(0, 1, 2)], models) == [(0,) * models]


def test_ways_of_three_models():
    found = {
        tuple(sorted(tuple(m for m in range(3) if way[m] == b) for b in set(way))) for way in placements("", THREE, 3)
    }
    assert found == {
        ((0, 1, 2),), ((0, 1), (2,)), ((0, 2), (1,)), ((0,), (1, 2)), ((0,), (1,), (2,))
    }  # fmt: skip


def test_plans_are_blocks_from_core_0_on():
    assert parse_plan("1+2", MACHINE) == ((0,), (1, 2))
    assert parse_plan("2", MACHINE) == ((0, 1),)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"plans": ["2+2"]}, "plan 2+2 has 4 cores; ax650n has 3"),
        ({"plans": ["two"]}, "a plan is the sizes of blocks of cores, such as 3 or 1+1, not 'two'"),
        ({"plans": ["1+0"]}, "not '1+0'"),
        ({"plans": []}, "at least one model and one plan"),
        ({"plans": ["1+1+1"], "models": ["x.onnx"] * 6}, "6 models have more than 64 ways into 3 blocks"),
        ({"plans": ["3"], "fps": [1, 2]}, "fps takes one value for all models or one for each of 1, not 2"),
        ({"plans": ["3"], "repeat": 0}, "repeat is a whole number from 1"),
    ],
)
def test_plans_that_make_no_sense_are_refused_before_anything_is_built(monkeypatch, tmp_path, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.onnx").write_bytes(b"never read")
    with pytest.raises(UsageError) as caught:
        compare_plans(**{"models": ["x.onnx"], **options})
    assert message in str(caught.value)


def test_a_built_model_needs_a_block_of_its_size(chain_built):
    with pytest.raises(UsageError, match=r"plan 1\+1: tiny is built for NPU2, and no block is so large"):
        compare_plans([chain_built], ["1+1"])
    # in a block that is larger it fits, in the smaller one it does not: one way of two
    (result,) = compare_plans([chain_built], ["2+1"], repeat=1).results
    assert (result.ways, result.fleet.models[0].cores) == (1, (0, 1))


# ---------------------------------------------------------------------------------------------------- marks and verdict


@pytest.fixture(scope="module")
def mix(chain, several):
    """Both small models under three plans, as fast as possible."""
    return compare_plans([chain, several], ["3", "1+1+1", "2+1"], repeat=2)


def test_each_plan_stands_for_its_best_way(mix, chain_built, several_built):
    by_plan = {result.plan: result for result in mix.results}
    assert {plan: result.ways for plan, result in by_plan.items()} == {"3": 1, "1+1+1": 2, "2+1": 4}
    # the quickest build of each, alone, is what speed refers to
    one = by_plan["1+1+1"].fleet
    assert [model.npu_mode for model in one.models] == ["NPU1", "NPU1"]
    assert {model.cores for model in one.models} == {(0,), (1,)}
    shared = by_plan["3"].fleet
    assert list(shared.shared())
    for result in mix.results:
        assert result.marks.speed is not None
        # a warm machine may beat one at rest by a few open pages
        assert 0.3 < result.marks.speed <= 1.01
        assert (result.marks.missed, result.marks.deadline_use) == (0.0, None)


def test_a_block_gets_the_quickest_build_that_fits():
    model = quantize(models.build("conv_stack", channels=64, layers=2, size=28))  # large enough to be shared out
    alone = [npusim.build(model, npu_mode=f"NPU{cores}").summary.latency_ms for cores in (1, 2, 3)]
    found = {result.plan: result.fleet.models[0].alone_ms for result in compare_plans([model], ["3", "1"]).results}
    assert min(alone) < alone[0]
    assert found["3"] == min(alone)
    assert found["1"] == alone[0]


def test_speed_is_the_geometric_mean_of_shares(several_built):
    # alone in its only block: as fast as alone on the machine
    (result,) = compare_plans([several_built], ["1"], repeat=3).results
    fps = result.fleet.models[0].together.fps
    alone = alone_ms(MACHINE, member_of(several_built.axmodel, MACHINE, (0,)))
    assert result.marks.speed == pytest.approx(fps * alone / 1e3)


def test_deadlines_decide_before_speed(several_built):
    # a deadline nobody can keep, and one everybody keeps
    late, fine = (compare_plans([several_built], ["1"], fps=100, deadline_ms=d, repeat=2) for d in (0.001, 5))
    assert late.best.marks.missed == 1.0
    assert fine.best.marks.missed == 0.0
    assert 0 < fine.best.marks.deadline_use < 0.1
    one, two = (compare_plans([several_built] * 2, ["1+1"], fps=100, deadline_ms=d, repeat=2) for d in (5, [5, 10]))
    assert two.best.marks.deadline_use == pytest.approx(0.75 * one.best.marks.deadline_use, rel=0.01)
    assert fine.best.marks.speed is None


MARKS = {
    "a": Marks(missed=0.0, speed=0.5, deadline_use=0.5),
    "slower": Marks(missed=0.0, speed=0.4, deadline_use=0.1),
    "late": Marks(missed=0.25, speed=0.9, deadline_use=1.5),
    "tight": Marks(missed=0.0, speed=0.5, deadline_use=0.9),
    "same": Marks(missed=0.0, speed=0.5, deadline_use=0.5),
}


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ("late", "a serves this mix best: it misses 0.00% of the deadlines, late 25.00%"),
        ("slower", "a serves this mix best: its models run at 50.0% of their speed alone on the whole machine"),
        (
            "tight",
            "a serves this mix best: 99 % of its calls use 50.0% of their deadline at most (mean of the models), ",
        ),
        (
            "same",
            "a serves this mix as well as same: 0.00% of the deadlines missed, 99 % of calls use 50.0%",
        ),
        (None, "a is the only plan: "),
    ],
)
def test_the_verdict_names_what_decided(mix, other, sentence):
    names = ["a"] if other is None else ["a", other]
    results = [PlanResult(plan=name, fleet=mix.results[0].fleet, marks=MARKS[name], ways=1) for name in names]
    for order in (results, results[::-1]) if other != "same" else (results,):
        plans = Plans(results=tuple(order))
        assert plans.best.plan == "a"
        assert plans.verdict.startswith(sentence)
        assert sentence in repr(plans)
        assert [row["best"] for row in plans.records()].count(True) == 2  # both of its models


def test_marks_rank_in_the_stated_order():
    assert sorted(MARKS, key=lambda name: MARKS[name].rank) == ["a", "same", "tight", "slower", "late"]
    assert replace(MARKS["a"], speed=None).rank[1] == 0


# --------------------------------------------------------------------------------------------------------- the command


def compare(capsys, *words):
    from npusim.cli import main

    code = main(["compare", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plans")
    onnx.save(small.chain(), folder / "chain.onnx")
    onnx.save(small.several(), folder / "several.onnx")
    return folder


def test_compare_prints_plans_and_a_verdict(capsys, folder):
    words = ["-m", folder / "chain.onnx", "-m", folder / "several.onnx", "--plan", "1+1", "--plan", "2", "-r", "2"]
    code, out, err = compare(
        capsys, *words, "--fps", "max", "--fps", "200", "--json", folder / "p.json", "--csv", folder / "p.csv"
    )
    assert (code, err) == (0, "")
    record = json.loads((folder / "p.json").read_text())
    assert [plan["plan"] for plan in record["plans"]] == ["1+1", "2"]
    assert record["best"] == "1+1"
    assert out.splitlines()[-1] == record["verdict"]
    fixed = {"model", "npu_mode", "hardware", "cycles", "latency_ms", "fps", "macs", "mac_utilization", "dram_bytes"}
    assert all(fixed | {"layers", "plan", "together"} <= set(row) for row in record["rows"])
    assert re.search(r"^1\+1 +tiny +NPU1 +0b001 ", out, flags=re.MULTILINE)
    assert re.search(r"^ +tiny +NPU1 +0b010 .* 200 .* 0 of \d+$", out, flags=re.MULTILINE)
    with (folder / "p.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["plan"] for row in table] == ["1+1", "1+1", "2", "2"]
    assert [row["fps_asked"] for row in table] == ["", "200.0", "", "200.0"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-m", "chain.onnx", "-m", "several.onnx"], "several models are compared by plans: give --plan"),
        (["-m", "chain.onnx", "--fps", "30"], "--fps needs --plan"),
        (["-m", "chain.onnx", "-w", "1"], "--warmup needs --plan"),
        (["-m", "chain.onnx", "--plan", "3", "--npu_modes", "NPU1"], "--plan tries every npu_mode that fits a block"),
        (["-m", "chain.onnx", "--plan", "3", "--hardware", "ax650n,small"], "allocations of one machine"),
        (["-m", "chain.onnx", "--plan", "1+3"], "plan 1+3 has 4 cores"),
        (["-m", "chain.onnx", "--plan", "3", "-r", "none"], "-r takes a whole number from 1 on, not 'none'"),
        (["-m", "gone.onnx", "--plan", "3"], "gone.onnx: No such file"),
    ],
)
def test_compare_refuses_in_one_line(capsys, monkeypatch, folder, words, message):
    monkeypatch.chdir(folder)
    code, out, err = compare(capsys, *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
