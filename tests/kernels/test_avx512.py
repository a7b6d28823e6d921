"""The meanings in ``avx512.py`` against NumPy; the instructions themselves too, on a CPU that has them."""

from __future__ import annotations

import ctypes
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir

from npusim.kernels import tier
from npusim.kernels.compiled import emit
from tests.kernels import avx512

REAL = emit.call if tier.compiled_features() >= avx512.FEATURES else None
CALLS = [avx512.call, *([REAL] if REAL else [])]
IR_TYPES = {"b": 8, "B": 8, "h": 16, "i": 32}

pytestmark = pytest.mark.parametrize("call", CALLS, ids=["emulated", "real"][: len(CALLS)])


def kind(array: Any) -> Any:
    """The vector type of an array."""
    real = {"f": ir.FloatType(), "d": ir.DoubleType()}.get(array.dtype.char)
    return ir.VectorType(real or ir.IntType(IR_TYPES[array.dtype.char]), array.size)


def compiled(build: Any, addresses: list[int]) -> None:
    """Let ``build`` emit code that knows some addresses, and run it on this CPU."""
    module, address = ir.Module(), ir.IntType(64)
    signature = ir.FunctionType(ir.VoidType(), [address] * len(addresses))
    function = ir.Function(module, signature, "probe")
    builder = ir.IRBuilder(function.append_basic_block())
    build(builder, *function.args)
    builder.ret_void()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten()
    )
    with llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine) as engine:
        engine.finalize_object()
        entry = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * len(addresses))(engine.get_function_address("probe"))
        entry(*addresses)


def run(call: Any, name: str, operands: list[Any], like: Any, immediates: tuple[Any, ...] = ()) -> Any:
    """What an intrinsic makes of vectors, and of constants behind them."""

    def build(builder: Any, result: Any, *places: Any) -> None:
        values = [emit.load(builder, place, kind(x)) for place, x in zip(places, operands, strict=True)]
        emit.store(builder, call(builder, name, kind(like), [*values, *immediates]), result)

    made = np.zeros_like(like)
    compiled(build, [made.ctypes.data, *(operand.ctypes.data for operand in operands)])
    return made


def some(rng: Any, dtype: Any, count: int) -> Any:
    """Values of an integer type, half of them its ends."""
    info = np.iinfo(dtype)
    values = rng.integers(info.min, info.max, count, dtype=dtype, endpoint=True)
    ends = rng.choice(np.array([info.min, info.min + 1, info.max], dtype), count)
    return np.where(rng.random(count) < 0.5, ends, values)


def wrapped(sums: Any) -> Any:
    return sums.astype(np.uint64).astype(np.uint32).view(np.int32)


@pytest.mark.parametrize("seed", range(4))
def test_dot_of_bytes(call, seed):
    rng = np.random.default_rng(seed)
    acc, u, s = some(rng, np.int32, 16), some(rng, np.uint8, 64), some(rng, np.int8, 64)
    wanted = wrapped(acc.astype(np.int64) + (u.astype(np.int64) * s).reshape(16, 4).sum(axis=1))
    np.testing.assert_array_equal(run(call, "llvm.x86.avx512.vpdpbusd.512", [acc, u, s], acc), wanted)


@pytest.mark.parametrize("seed", range(4))
def test_dot_of_pairs(call, seed):
    rng = np.random.default_rng(seed)
    a, b = some(rng, np.int16, 32), some(rng, np.int16, 32)
    a[:2] = b[:2] = -(1 << 15)  # the one sum that wraps
    wanted = wrapped((a.astype(np.int64) * b).reshape(16, 2).sum(axis=1))
    np.testing.assert_array_equal(run(call, "llvm.x86.avx512.pmaddw.d.512", [a, b], np.empty(16, np.int32)), wanted)


@pytest.mark.parametrize(("name", "wide", "narrow"), [("packssdw", "i4", "i2"), ("packsswb", "i2", "i1")])
def test_packs_saturate_within_quarters(call, name, wide, narrow):
    rng, info = np.random.default_rng(0), np.iinfo(narrow)
    count = 64 // np.dtype(wide).itemsize
    near = rng.integers(info.max - 3, info.max + 4, count) * rng.choice([-1, 1], count)
    a, b = some(rng, wide, count), near.astype(wide)
    quarters = np.stack([a.reshape(4, -1), b.reshape(4, -1)], axis=1)
    wanted = np.clip(quarters.ravel(), info.min, info.max).astype(narrow)
    np.testing.assert_array_equal(run(call, f"llvm.x86.avx512.{name}.512", [a, b], wanted), wanted)


@pytest.mark.parametrize(("name", "dtype"), [("cvtps2dq", np.float32), ("cvtpd2dq", np.float64)])
def test_conversions_round_half_to_even_and_mark_what_does_not_fit(call, name, dtype):
    values = [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.49999997, -3.49, 2**22 + 0.5, 2.0**31, 2.0**31 - 128, -(2.0**31),
              -(2.0**31) - 512, 1e30, np.inf, np.nan]  # fmt: skip
    lanes = 64 // np.dtype(dtype).itemsize
    for first in range(0, 16, lanes):
        x = np.array(values[first : first + lanes], dtype)
        fits = (np.rint(x) >= -(2.0**31)) & (np.rint(x) < 2.0**31)
        wanted = np.where(fits, np.rint(np.where(fits, x, 0)).astype(np.int64), -(1 << 31)).astype(np.int32)
        for bits in ((1 << lanes) - 1, 0b10110101):
            others = np.arange(lanes, dtype=np.int32)
            mask, mode = ir.Constant(ir.IntType(lanes), bits), ir.Constant(ir.IntType(32), 4)
            made = run(call, f"llvm.x86.avx512.mask.{name}.512", [x, others], others, (mask, mode))
            chosen = (bits >> np.arange(lanes)) & 1 == 1
            np.testing.assert_array_equal(made, np.where(chosen, wanted, others))


def test_permute_reads_seven_bits_of_an_index(call):
    rng = np.random.default_rng(0)
    first, index, second = (rng.integers(0, 256, 64, dtype=np.uint8) for _ in range(3))
    wanted = np.concatenate([first, second])[index & 127]
    made = run(call, "llvm.x86.avx512.vpermi2var.qi.512", [first, index, second], first)
    np.testing.assert_array_equal(made, wanted)


@pytest.mark.parametrize("lanes", [32, 64])
@pytest.mark.parametrize("count", [0, 1, 17, 31, 32, 63, 64])
def test_masked_loads_and_stores_leave_other_bytes_alone(call, lanes, count):
    count, vector = min(count, lanes), ir.VectorType(ir.IntType(8), lanes)
    source, target = np.arange(1, lanes + 1, dtype=np.uint8), np.full(lanes, 200, np.uint8)
    loaded = np.full(lanes, 100, np.uint8)
    mask = ir.Constant(ir.VectorType(ir.IntType(1), lanes), [i < count for i in range(lanes)])
    align = ir.Constant(ir.IntType(32), 1)

    def build(builder: Any, source: Any, target: Any, loaded: Any) -> None:
        pointers = [builder.inttoptr(address, vector.as_pointer()) for address in (source, target)]
        zeros = ir.Constant(vector, [0] * lanes)
        value = call(builder, f"llvm.masked.load.v{lanes}i8.p0", vector, [pointers[0], align, mask, zeros])
        emit.store(builder, value, loaded)
        store = [emit.load(builder, loaded, vector), pointers[1], align, mask]
        call(builder, f"llvm.masked.store.v{lanes}i8.p0", ir.VoidType(), store)

    compiled(build, [array.ctypes.data for array in (source, target, loaded)])
    there = np.arange(lanes) < count
    np.testing.assert_array_equal(loaded, np.where(there, source, 0))
    np.testing.assert_array_equal(target, np.where(there, source, 200))
