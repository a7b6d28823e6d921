"""The AVX512 instructions that kernels use, in LLVM IR that every CPU runs: the VNNI tier without its hardware.

``python -m pytest -p tests.kernels.avx512`` runs tests on a VNNI tier made of them, in a process whose kernels are
compiled into a directory that goes with it. Slow code: it is for finding wrong results, never for measuring.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from typing import Any

import numba
from llvmlite import ir
from numba.core import cgutils

from npusim.kernels import tier

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))

Meaning = Callable[[Any, list[Any]], Any]
MEANINGS: dict[str, Meaning] = {}
"""What each intrinsic computes, by its LLVM name: a function of an IR builder and the operands."""

FEATURES = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni", "avx512vbmi"})
"""What the kernels' code generators are told that the CPU has."""

used: set[str] = set()
"""Intrinsics that some kernel was compiled with."""

_held: list[Any] = []
"""The directory of compiled kernels, removed at exit."""


def means(name: str) -> Callable[[Meaning], Meaning]:
    """Register the meaning of an intrinsic."""

    def register(function: Meaning) -> Meaning:
        MEANINGS[name] = function
        return function

    return register


def emulate() -> None:
    """Make the VNNI tier of this process one that needs no AVX512. No kernel may have been compiled before."""
    real = tier.compiled_features
    tier.compiled_features = cache(lambda: real() | FEATURES)  # before the modules below import it from there
    from npusim.kernels.compiled import build, emit

    assert emit.compiled_features is tier.compiled_features, "kernels were imported too early"
    emit.call = call
    digest = build.sources_digest()
    build.sources_digest = cache(lambda: f"emulated {digest}")  # were they ever kept in one place, each finds its own
    _held.append(tempfile.TemporaryDirectory(prefix="npusim-emulated-"))
    os.environ["NUMBA_CACHE_DIR"] = _held[0].name
    numba.config.reload_config()


def call(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """As ``emit.call``, with the meaning of an AVX512 intrinsic in its place."""
    if name in MEANINGS:
        return builder.call(_function(builder.module, name, result, arguments), arguments)
    if "avx512" in name:
        raise NotImplementedError(f"{name} has no meaning here: write it down in tests/kernels/avx512.py")
    return _call_generic(builder, name, result, arguments)


def _call_generic(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    signature = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), arguments)


def _function(module: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """A function of the module that computes what the intrinsic does; calls keep the code of a tile small."""
    used.add(name)
    own = name.replace("llvm.", "emulated.")
    if own in module.globals:
        return module.globals[own]
    function = ir.Function(module, ir.FunctionType(result, [argument.type for argument in arguments]), own)
    function.linkage = "internal"
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block())
    computed = MEANINGS[name](builder, list(function.args))
    if computed is None:
        builder.ret_void()
    else:
        builder.ret(computed)
    return function


def _vector(element: Any, lanes: int) -> Any:
    return ir.VectorType(element, lanes)


def _fill(kind: Any, value: Any) -> Any:
    return ir.Constant(kind, [value] * kind.count)


def _take(builder: Any, left: Any, right: Any, lanes: list[int]) -> Any:
    """Elements of the concatenation of two vectors."""
    return builder.shuffle_vector(left, right, ir.Constant(_vector(I32, len(lanes)), lanes))


def _every(builder: Any, vector: Any, step: int) -> list[Any]:
    """A vector's elements 0, step, 2 step, ...; then 1, 1 + step, ...; and so on."""
    return [_take(builder, vector, vector, list(range(first, vector.type.count, step))) for first in range(step)]


def _sum_of_products(builder: Any, left: Any, right: Any, group: int) -> Any:
    """Products of i32 vectors, neighbours added in groups."""
    first, *others = _every(builder, builder.mul(left, right), group)
    for other in others:
        first = builder.add(first, other)
    return first


@means("llvm.x86.avx512.vpdpbusd.512")
def _dot_bytes(builder: Any, operands: list[Any]) -> Any:
    acc, unsigned, signed = operands
    wide = _vector(I32, 64)
    products = _sum_of_products(builder, builder.zext(unsigned, wide), builder.sext(signed, wide), 4)
    return builder.add(acc, products)


@means("llvm.x86.avx512.pmaddw.d.512")
def _multiply_add(builder: Any, operands: list[Any]) -> Any:
    left, right = (builder.sext(operand, _vector(I32, 32)) for operand in operands)
    return _sum_of_products(builder, left, right, 2)


def _pack(builder: Any, operands: list[Any], narrow: Any) -> Any:
    """Both operands' elements saturated to half their width, 128 bits of one and of the other in turn."""
    count = operands[0].type.count
    lane = count // 4
    order = [first + i for quarter in range(4) for first in (quarter * lane, count + quarter * lane)
             for i in range(lane)]  # fmt: skip
    values = _take(builder, *operands, order)
    for bound, comparison in ((-(1 << narrow.width - 1), ">"), ((1 << narrow.width - 1) - 1, "<")):
        limit = _fill(values.type, bound)
        values = builder.select(builder.icmp_signed(comparison, values, limit), values, limit)
    return builder.trunc(values, _vector(narrow, 2 * count))


@means("llvm.x86.avx512.packssdw.512")
def _pack_words(builder: Any, operands: list[Any]) -> Any:
    return _pack(builder, operands, I16)


@means("llvm.x86.avx512.packsswb.512")
def _pack_shorts(builder: Any, operands: list[Any]) -> Any:
    return _pack(builder, operands, I8)


def _to_words(builder: Any, operands: list[Any]) -> Any:
    """Round half to even to i32, its smallest value for what does not fit; lanes off the mask come from the second."""
    value, otherwise, mask, _ = operands
    letter = "f32" if isinstance(value.type.element, ir.FloatType) else "f64"
    rounded = _call_generic(builder, f"llvm.roundeven.v{value.type.count}{letter}", value.type, [value])
    inside = builder.and_(
        builder.fcmp_ordered(">=", rounded, _fill(value.type, -(2.0**31))),
        builder.fcmp_ordered("<", rounded, _fill(value.type, 2.0**31)),
    )
    safe = builder.select(inside, rounded, _fill(value.type, 0.0))
    words = builder.select(inside, builder.fptosi(safe, otherwise.type), _fill(otherwise.type, -(1 << 31)))
    return builder.select(builder.bitcast(mask, _vector(I1, value.type.count)), words, otherwise)


MEANINGS["llvm.x86.avx512.mask.cvtps2dq.512"] = _to_words
MEANINGS["llvm.x86.avx512.mask.cvtpd2dq.512"] = _to_words


@means("llvm.x86.avx512.vpermi2var.qi.512")
def _permute(builder: Any, operands: list[Any]) -> Any:
    """Bytes of the concatenation of two vectors, by the low seven bits of each index; through memory."""
    first, index, second = operands
    count = first.type.count
    table, places, result = (builder.alloca(_vector(I8, lanes)) for lanes in (2 * count, count, count))
    builder.store(_take(builder, first, second, list(range(2 * count))), table)
    builder.store(builder.and_(index, _fill(index.type, 2 * count - 1)), places)
    octets = [builder.bitcast(pointer, I8.as_pointer()) for pointer in (table, places, result)]
    for lane in range(count):
        at = ir.Constant(I32, lane)
        place = builder.zext(builder.load(builder.gep(octets[1], [at])), I32)
        builder.store(builder.load(builder.gep(octets[0], [place])), builder.gep(octets[2], [at]))
    return builder.load(result)


def _by_bytes(builder: Any, pointer: Any, mask: Any, act: Callable[[Any, Any], None]) -> None:
    """Do something for each byte that the mask has: its number, and where it is in memory."""
    octets = builder.bitcast(pointer, I8.as_pointer())
    bits = builder.alloca(_vector(I8, mask.type.count))
    builder.store(builder.zext(mask, bits.type.pointee), bits)
    wanted = builder.bitcast(bits, I8.as_pointer())
    with cgutils.for_range(builder, ir.Constant(I64, mask.type.count)) as loop:
        present = builder.load(builder.gep(wanted, [loop.index]))
        with builder.if_then(builder.icmp_unsigned("!=", present, I8(0))):
            act(loop.index, builder.gep(octets, [loop.index]))


@means("llvm.masked.load.v64i8.p0")
@means("llvm.masked.load.v32i8.p0")
def _masked_load(builder: Any, operands: list[Any]) -> Any:
    pointer, _, mask, otherwise = operands
    result = builder.alloca(otherwise.type)
    builder.store(otherwise, result)
    lanes = builder.bitcast(result, I8.as_pointer())
    _by_bytes(builder, pointer, mask, lambda i, place: builder.store(builder.load(place), builder.gep(lanes, [i])))
    return builder.load(result)


@means("llvm.masked.store.v64i8.p0")
@means("llvm.masked.store.v32i8.p0")
def _masked_store(builder: Any, operands: list[Any]) -> None:
    value, pointer, _, mask = operands
    held = builder.alloca(value.type)
    builder.store(value, held)
    lanes = builder.bitcast(held, I8.as_pointer())
    _by_bytes(builder, pointer, mask, lambda i, place: builder.store(builder.load(builder.gep(lanes, [i])), place))


def pytest_configure() -> None:
    """Being named to pytest as a plugin is the wish for it."""
    emulate()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what the tests have reached: a pass of a run that never came here proves nothing."""
    loaded = [name for name in ("matrix_vnni", "depthwise_vnni") if f"npusim.kernels.compiled.{name}" in sys.modules]
    terminalreporter.write_line(f"emulated {' '.join(sorted(used))}")
    terminalreporter.write_line(f"kernels {' '.join(loaded)}")
