"""What a program can get wrong at run time is an AccessError, and never a NumPy warning or a silent number."""

from __future__ import annotations

import contextlib
import functools
import warnings

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from isa import instructions as I
from isa.dtypes import DType
from isa.errors import AccessError
from isa.instruction import OPCODES
from isa.instructions import Interpolation, Parameters
from isa.law import exp_table
from isa.memory import Memory
from isa.region import Region, Space, dram, ocm
from npusim.testing import runnable

WITH_BLOCK = [
    cls for cls in OPCODES.values() if any(field.name == "params" for field in cls.layout.fields)
]  # fmt: skip
each_with_block = pytest.mark.parametrize("cls", WITH_BLOCK, ids=lambda cls: cls.layout.mnemonic)

SIGNALLING_NAN = np.array([0x7F800001], "<u4").view("<f4")[0]


def first_case(cls, which=None):
    """A runnable case that ``which`` accepts, with a memory of its own."""
    made, memory = cached_case(cls, which)
    return made, Memory([b.copy() for b in memory.ocm], [b.copy() for b in memory.dram])


@functools.cache
def cached_case(cls, which):
    quick = settings(max_examples=2000, database=None, phases=[Phase.generate])  # shrinking would take its time
    return find(runnable(cls), lambda case: which is None or bool(which(case[0])), settings=quick)


def head_view(made, memory, dtype):
    return memory.ocm[0][made.params : made.params + 32].view(dtype)


@each_with_block
@pytest.mark.parametrize(
    ("index", "value"),
    [
        (5, np.nan),
        (6, np.nan),
        (7, np.nan),
        (5, np.inf),
        (5, -1.0),
        (7, 2.0**25),
        (7, 0.0),
        (7, 2.0**-65),
        (6, -np.inf),
    ],
)
def test_factor_out_of_range(cls, index, value):
    made, memory = first_case(cls)
    head_view(made, memory, "<f4")[index] = value
    with pytest.raises(AccessError, match="holds a factor out of range"):
        made.operation(memory)


@each_with_block
def test_signalling_nan_does_not_warn(cls):
    made, memory = first_case(cls)
    head_view(made, memory, "<u4")[5] = 0x7F800001
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(AccessError):
            made.operation(memory)


@each_with_block
@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("value", [1 << 16, -(1 << 16), -(1 << 31)])
def test_zero_point_beyond_16_bits(cls, index, value):
    made, memory = first_case(cls)
    head_view(made, memory, "<i4")[index] = value
    with pytest.raises(AccessError, match="holds a zero point beyond 16 bits"):
        made.operation(memory)


@each_with_block
@pytest.mark.parametrize(("low", "high"), [(-129, 0), (0, 256), (5, 4), (-(1 << 31), (1 << 31) - 1)])
def test_clamp_outside_of_the_type(cls, low, high):
    if not hasattr(cls, "dst_type"):
        pytest.skip("dequantize: its f32 destination has no clamp")
    made, memory = first_case(cls, has_byte_result)
    head_view(made, memory, "<i4")[3:5] = low, high
    with pytest.raises(AccessError, match="clamps to"):
        made.operation(memory)


def has_byte_result(made):
    return made.dst_type in (DType.S8, DType.U8)


def has_multipliers(made):
    return made.per_channel and has_byte_result(made)


def is_linear(made):
    return made.interpolation is Interpolation.LINEAR


def is_nearest(made):
    return made.interpolation is Interpolation.NEAREST


@pytest.mark.parametrize("cls", [I.Conv, I.DepthwiseConv, I.ConvTranspose, I.Matmul, I.Requantize])
@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38, -1.0, SIGNALLING_NAN])
def test_channel_multiplier_out_of_range(cls, value):
    made, memory = first_case(cls, has_multipliers)
    for region in made.reads():
        if region.dtype == DType.F32 and region.run:
            memory.view(region)[..., -1] = value
    with pytest.raises(AccessError, match="the multiplier array"):
        made.operation(memory)


@pytest.mark.parametrize("cls", [I.LayerNorm, I.RmsNorm])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_gain_that_is_not_finite(cls, value):
    made, memory = first_case(cls)
    memory.view(made.gain())[0] = value
    with pytest.raises(AccessError, match="the gain holds values that are not finite"):
        made.operation(memory)


@pytest.mark.parametrize("cls", [I.LayerNorm, I.RmsNorm])
@pytest.mark.parametrize("index", [5, 6])
def test_normalization_without_scale_or_epsilon(cls, index):
    made, memory = first_case(cls)
    head_view(made, memory, "<f4")[index] = 0
    with pytest.raises(AccessError, match="source scale and epsilon must be positive"):
        made.operation(memory)


@pytest.mark.parametrize("value", [0, (1 << 31) - 1, (1 << 32) - 1])
def test_softmax_table_entry_0(value):
    made, memory = first_case(I.Softmax)
    memory.view(made.table()).view("<u4")[0] = value
    with pytest.raises(AccessError, match=r"entry 0 of an exponential table must be 2\*\*31"):
        made.operation(memory)


@pytest.mark.parametrize("value", [-1, 1 << 20, -(1 << 31)])
def test_gather_index(value):
    made, memory = first_case(I.Gather)
    memory.view(made.reads()[1])[-1] = value
    with pytest.raises(AccessError, match=f"gather: index {value} is outside the table of {made.table_rows} rows"):
        made.operation(memory)


@pytest.mark.parametrize("which", [is_nearest, is_linear])
@pytest.mark.parametrize("value", [-1, 7, 1 << 30])
def test_resize_position(which, value):
    made, memory = first_case(I.Resize, which)
    memory.view(made.table_region())[0] = value
    with pytest.raises(AccessError, match="resize: a position lies outside"):
        made.operation(memory)


@pytest.mark.parametrize("value", [np.nan, -0.1, 1.5, np.inf])
def test_resize_weight(value):
    made, memory = first_case(I.Resize, is_linear)
    memory.view(made.table_region()).view("<f4")[2 * made.out_height] = value
    with pytest.raises(AccessError, match=r"resize: a weight lies outside \[0, 1\]"):
        made.operation(memory)


# ----------------------------------------------- any bytes at all: an AccessError or a result, never a warning


@each_with_block
@settings(max_examples=25)
@given(data=st.data())
def test_extreme_but_legal_blocks_do_not_warn(cls, data):
    made, memory = data.draw(runnable(cls))
    factors = st.sampled_from((0.0, 1e-45, 2.0**-64, 1.0, 2.0**24))
    head = head_view(made, memory, "<f4")
    head[5], head[6] = data.draw(factors), data.draw(factors)
    head[7] = data.draw(st.sampled_from((2.0**-64, 1.0, 2.0**24)))
    head_view(made, memory, "<i4")[:3] = [data.draw(st.sampled_from((-65535, 0, 65535))) for _ in range(3)]
    try:
        made.operation(memory)
    except AccessError:
        assert cls in (I.LayerNorm, I.RmsNorm)  # a scale or epsilon of 0


@pytest.mark.parametrize("cls", OPCODES.values(), ids=lambda cls: cls.layout.mnemonic)
@settings(max_examples=25)
@given(data=st.data())
def test_random_memory_is_refused_or_computed(cls, data):
    made, memory = data.draw(runnable(cls))
    noise = np.random.default_rng(data.draw(st.integers(0, 1000)))
    for buffer in memory.ocm:
        where = noise.random(buffer.size) < data.draw(st.sampled_from((0.02, 0.5)))
        buffer[where] = noise.integers(0, 256, int(where.sum()), np.uint8)
    with contextlib.suppress(AccessError):
        made.operation(memory)


# ----------------------------------------------- the memory


def small_memory():
    return Memory([np.arange(64, dtype=np.uint8), np.zeros(64, np.uint8)], [np.zeros(16, np.uint8)])


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (ocm(60, 5), "core0 OCM 0x3c ends at 0x41, past 0x40"),
        (ocm(0, 1, DType.U8, (3,), (32,)), "ends at 0x41"),
        (ocm(1, 1, DType.S32), "core0 OCM 0x1 is not aligned to 4 bytes"),
        (ocm(0, 1, DType.S16, (2,), (3,)), "is not aligned to 2 bytes"),
        (ocm(32, 1, align=64), "is not aligned to 64 bytes"),
        (ocm(0, 1, place=2), "the program has no core 2"),
        (dram(1, 0, 1), "the program has no DRAM segment 1"),
        (dram(0, 10, 7), "segment 0 offset 0xa ends at 0x11"),
    ],
)
def test_access_is_checked(region, message):
    with pytest.raises(AccessError, match=message):
        small_memory().view(region)


def test_views_are_views_and_loads_are_copies():
    memory = small_memory()
    region = Region(Space.OCM, 4, 2, DType.U8, (3, 2), (10, 4))
    assert memory.load(region).tolist() == [[[4, 5], [8, 9]], [[14, 15], [18, 19]], [[24, 25], [28, 29]]]
    memory.load(region)[...] = 0
    assert memory.ocm[0][4] == 4
    memory.store(region, np.full((3, 2, 2), 99))
    assert memory.ocm[0][[4, 5, 6, 8, 29, 30]].tolist() == [99, 99, 6, 99, 99, 30]


def test_a_copy_may_overlap_its_source():
    memory = small_memory()
    memory.copy(ocm(4, 8), ocm(0, 8))
    assert memory.ocm[0][:13].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7, 12]


def test_core_names_the_own_memory():
    memory = small_memory()
    other = Memory(memory.ocm, memory.dram, core=1)
    other.store(ocm(0, 1), 7)
    assert (memory.ocm[0][0], memory.ocm[1][0]) == (0, 7)
    assert other.describe(ocm(0, 1)) == "core1 OCM 0x0"


def test_softmax_block_is_read_where_it_is_said():
    memory = Memory([np.zeros(2048, np.uint8)], [])
    packed = Parameters(low=0, high=255, factor=np.float32(1 / 256)).pack(exp_table(0.5))
    memory.ocm[0][64 : 64 + len(packed)] = np.frombuffer(packed, np.uint8)
    I.Softmax(src=0, dst=32, params=64, length=4).operation(memory)
    assert memory.ocm[0][32:36].tolist() == [64] * 4


def test_mul_beyond_float32_saturates_without_a_warning(board):
    # 65536**2 * 2**(24 + 24 + 64) passes 2**128
    here = board()
    params = here.block(
        zero_a=-65535, zero_b=-65535, low=0, high=200, factor_a=2.0**24, factor_b=2.0**24, factor=2.0**-64
    )
    made = I.Mul(a=here.put(np.ones(3, np.uint8)), b=here.put(np.ones(3, np.uint8)), dst=0, params=params, count=3)
    assert here.run(made, DType.U8, (3,)).tolist() == [200] * 3
