"""Virtual NPU modes, affinity masks, and the cores that models get: the rules of the board's runtime."""

import pytest

from npusim.config import load
from npusim.errors import UsageError
from npusim.session.blocks import Claim, blocks_of, mask_of, parse_mask, place

MACHINE = load("ax650n")


def claim(cores, mask=None):
    return Claim(name=f"m{cores}", npu_mode=f"NPU{cores}", cores=cores, mask=parse_mask(mask, MACHINE))


# mask, virtual NPU mode, cores of the model -> physical cores, or None where the board would refuse as well
ALONE = [
    ("0b001", 0, 1, (0,)),
    ("4", 0, 1, (2,)),
    ("0b101", 0, 2, (0, 2)),
    ("0b111", 0, 2, (0, 1)),
    ("0x7", 0, 3, (0, 1, 2)),
    (None, 0, 3, (0, 1, 2)),
    ("0b011", 0, 3, None),
    ("0b010", 1, 1, (1,)),
    ("0b111", 1, 2, None),
    (None, 2, 2, (0, 1)),
    ("0b100", 2, 1, (2,)),
    ("0b110", 2, 2, None),
    (None, 2, 1, (2,)),
    (None, 3, 2, (1, 2)),
    (None, 3, 1, (0,)),
    (None, 3, 3, None),
]


@pytest.mark.parametrize(("mask", "vnpu", "needed", "expected"), ALONE)
def test_affinity_masks_name_physical_cores(mask, vnpu, needed, expected):
    if expected is None:
        with pytest.raises(UsageError, match="in one block"):
            place([claim(needed, mask)], vnpu, MACHINE)
    else:
        assert place([claim(needed, mask)], vnpu, MACHINE) == [expected]


# virtual NPU mode, (cores, mask) of each model -> physical cores of each
SEVERAL = [
    (0, [(1, "0b001"), (2, "0b110")], [(0,), (1, 2)]),
    (0, [(1, None), (1, None), (1, None)], [(0,), (1,), (2,)]),
    # the big one chooses first, whatever the order
    (0, [(1, None), (2, None)], [(2,), (0, 1)]),
    # four models on three cores: the fourth shares the first
    (1, [(1, None)] * 4, [(0,), (1,), (2,), (0,)]),
    # each in a block of its own, the small ones where they leave the big one room
    (2, [(1, None), (2, None)], [(2,), (0, 1)]),
    (3, [(1, None), (2, None)], [(0,), (1, 2)]),
    # nobody fits beside three cores: turns
    (0, [(3, None), (1, None)], [(0, 1, 2), (0,)]),
    (2, [(1, "0b011"), (2, None)], [(0,), (0, 1)]),
]


@pytest.mark.parametrize(("vnpu", "models", "expected"), SEVERAL)
def test_models_keep_out_of_each_others_way_where_they_can(vnpu, models, expected):
    assert place([claim(*model) for model in models], vnpu, MACHINE) == expected


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: blocks_of(4, MACHINE), "-v takes 0 (Disable), 1 (STD), 2 (BigLittle), 3 (LittleBig), not 4"),
        (
            lambda: blocks_of(2, MACHINE.with_values({"machine.cores": 2})),
            "-v 2 (BigLittle) parts three cores",
        ),
        (lambda: parse_mask("0b1000", MACHINE), "affinity 0b1000: the masks of ax650n are 0b1 to 0b111"),
        (lambda: parse_mask("0", MACHINE), "affinity 0b0: the masks"),
        (lambda: parse_mask("one", MACHINE), "-a takes a mask such as 0b001, 1 or 0x7, not 'one'"),
        (
            lambda: place([claim(2)], 1, MACHINE),
            "m2: an NPU2 model needs 2 cores in one block: affinity 0b111 with -v 1 (STD, 1+1+1) has no block",
        ),
    ],
)
def test_refusals_name_what_is_allowed(ask, message):
    with pytest.raises(UsageError) as caught:
        ask()
    assert message in str(caught.value)


def test_masks_show_every_core():
    assert mask_of((1,), MACHINE) == "0b010"
    assert mask_of((0,), load("small")) == "0b001"
