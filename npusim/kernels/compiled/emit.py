"""Pieces of LLVM IR shared by the intrinsics: vector types, splats, loads and stores at raw addresses, dot products.

Called while numba generates code for the intrinsics beside it. Nothing in here is a kernel.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from ..tier import compiled_features

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
F32, F64 = ir.FloatType(), ir.DoubleType()


def vector(element: Any, lanes: int) -> Any:
    """The LLVM type of ``lanes`` elements."""
    return ir.VectorType(element, lanes)


V16I32, V16F32, V64I8, V32I16 = vector(I32, 16), vector(F32, 16), vector(I8, 64), vector(I16, 32)


def splat(builder: Any, scalar: Any, lanes: int) -> Any:
    """A vector holding ``scalar`` in every lane."""
    undefined = ir.Constant(vector(scalar.type, lanes), ir.Undefined)
    seed = builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(seed, undefined, ir.Constant(vector(I32, lanes), [0] * lanes))


def shuffle(builder: Any, left: Any, right: Any, indices: list[int]) -> Any:
    """Elements of the concatenation of two vectors."""
    return builder.shuffle_vector(left, right, ir.Constant(vector(I32, len(indices)), indices))


def load(builder: Any, address: Any, kind: Any) -> Any:
    """An unaligned load from an integer address."""
    value = builder.load(builder.inttoptr(address, kind.as_pointer()))
    value.align = 1
    return value


def store(builder: Any, value: Any, address: Any) -> None:
    """An unaligned store to an integer address."""
    builder.store(value, builder.inttoptr(address, value.type.as_pointer())).align = 1


def first_lanes(builder: Any, count: Any, lanes: int) -> Any:
    """The mask of the first ``count`` lanes; ``count`` is an i64 of any value, saturated to ``0..lanes``."""
    indices = ir.Constant(vector(I64, lanes), list(range(lanes)))
    return builder.icmp_signed("<", indices, splat(builder, count, lanes))


def low_mask(builder: Any, count: Any, lanes: int) -> Any:
    """As ``first_lanes`` for ``0 <= count <= lanes``, in two scalar instructions where lanes is 64 or less."""
    if lanes == 64:
        wide = ir.IntType(64)
        ones = builder.lshr(ir.Constant(wide, -1), builder.sub(ir.Constant(I64, 64), count))
        # A shift by 64 is undefined: no lane at all is chosen separately.
        bits = builder.select(builder.icmp_signed(">", count, ir.Constant(I64, 0)), ones, ir.Constant(wide, 0))
    else:
        ones = builder.sub(builder.shl(ir.Constant(I64, 1), count), ir.Constant(I64, 1))
        bits = builder.trunc(ones, ir.IntType(lanes))
    return builder.bitcast(bits, vector(I1, lanes))


def masked_load(builder: Any, address: Any, mask: Any, kind: Any) -> Any:
    """Load the lanes that the mask chooses, zero elsewhere; memory under other lanes is not touched."""
    pointer = builder.inttoptr(address, kind.as_pointer())
    name = f"llvm.masked.load.{_suffix(kind)}.p0"
    signature = ir.FunctionType(kind, [pointer.type, I32, mask.type, kind])
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    return builder.call(function, [pointer, ir.Constant(I32, 1), mask, ir.Constant(kind, [0] * kind.count)])


def masked_store(builder: Any, value: Any, address: Any, mask: Any) -> None:
    """Store the lanes that the mask chooses; memory under other lanes is not touched."""
    pointer = builder.inttoptr(address, value.type.as_pointer())
    name = f"llvm.masked.store.{_suffix(value.type)}.p0"
    signature = ir.FunctionType(ir.VoidType(), [value.type, pointer.type, I32, mask.type])
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    builder.call(function, [value, pointer, ir.Constant(I32, 1), mask])


def call(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """Call an LLVM intrinsic."""
    signature = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), arguments)


def _suffix(kind: Any) -> str:
    element = kind.element
    letter = "f" if isinstance(element, (ir.FloatType, ir.DoubleType)) else "i"
    bits = {F32: 32, F64: 64}.get(element) or element.width
    return f"v{kind.count}{letter}{bits}"


def dot_bytes(builder: Any, acc: Any, unsigned: Any, signed: Any) -> Any:
    """``acc`` of sixteen i32 plus the dot products of four u8 and four s8 each: one ``vpdpbusd``."""
    u, s = builder.bitcast(unsigned, V64I8), builder.bitcast(signed, V64I8)
    return call(builder, "llvm.x86.avx512.vpdpbusd.512", V16I32, [acc, u, s])


def dot_pairs(builder: Any, acc: Any, left: Any, right: Any) -> Any:
    """``acc`` of sixteen i32 plus the dot products of two i16 each, by the widest multiply-add there is."""
    features = compiled_features()
    left, right = builder.bitcast(left, V32I16), builder.bitcast(right, V32I16)
    if "avx512bw" in features:
        return builder.add(acc, call(builder, "llvm.x86.avx512.pmaddw.d.512", V16I32, [left, right]))
    if "avx2" in features:
        return builder.add(acc, _split(builder, "llvm.x86.avx2.pmadd.wd", left, right, 2))
    if "sse2" in features:
        return builder.add(acc, _split(builder, "llvm.x86.sse2.pmadd.wd", left, right, 4))
    wide = vector(I32, 32)
    products = builder.mul(builder.sext(left, wide), builder.sext(right, wide))
    even = shuffle(builder, products, products, list(range(0, 32, 2)))
    odd = shuffle(builder, products, products, list(range(1, 32, 2)))
    return builder.add(acc, builder.add(even, odd))


def _split(builder: Any, name: str, left: Any, right: Any, parts: int) -> Any:
    """Call a two-operand intrinsic on ``parts`` pieces of 32 i16 and join the sixteen i32."""
    lanes = 32 // parts
    pieces = []
    for part in range(parts):
        window = list(range(part * lanes, (part + 1) * lanes))
        operands = [shuffle(builder, x, x, window) for x in (left, right)]
        pieces.append(call(builder, name, vector(I32, lanes // 2), operands))
    while len(pieces) > 1:
        pieces = [
            shuffle(builder, a, b, list(range(2 * a.type.count)))
            for a, b in zip(pieces[::2], pieces[1::2], strict=True)
        ]
    return pieces[0]


def minimum(builder: Any, left: Any, right: Any) -> Any:
    """Elementwise, of floats that are not NaN."""
    return builder.select(builder.fcmp_ordered("<", left, right), left, right)


def maximum(builder: Any, left: Any, right: Any) -> Any:
    """Elementwise, of floats that are not NaN."""
    return builder.select(builder.fcmp_ordered(">", left, right), left, right)


def round_to_int(builder: Any, value: Any) -> Any:
    """Sixteen f32 of magnitude below 2**22, rounded half to even, as i32."""
    if "avx512f" in compiled_features():
        mask, mode = ir.Constant(I16, -1), ir.Constant(I32, 4)
        return call(builder, "llvm.x86.avx512.mask.cvtps2dq.512", V16I32,
                    [value, ir.Constant(V16I32, [0] * 16), mask, mode])  # fmt: skip
    # Adding 1.5 * 2**23 leaves no room for a fraction: the addition itself rounds half to even.
    magic = ir.Constant(V16F32, [12582912.0] * 16)
    return builder.fptosi(builder.fsub(builder.fadd(value, magic), magic), V16I32)


def _round_doubles(builder: Any, value: Any) -> Any:
    """Sixteen f64 up to 2**30, rounded half to even, as i32; what lies below i32 becomes its smallest value."""
    mask, mode, half = ir.Constant(I8, -1), ir.Constant(I32, 4), vector(I32, 8)
    parts = [shuffle(builder, value, value, list(range(first, first + 8))) for first in (0, 8)]
    rounded = [
        call(builder, "llvm.x86.avx512.mask.cvtpd2dq.512", half, [part, ir.Constant(half, [0] * 8), mask, mode])
        for part in parts
    ]
    return shuffle(builder, rounded[0], rounded[1], list(range(16)))


class ByteRounding:
    """Clamp sixty-four f32, round half to even, add the zero point: the last steps of ``law.requantize``, to bytes.

    With AVX512 the clamp is done by saturating packs: values are limited from above only, so that their conversion is
    defined, packed to i16 and, less 128 where the result is unsigned, to s8, and limited there.

    Args:
        low: smallest result less the zero point, an f32 that holds an integer of 16 bits.
        high: largest result less the zero point.
        zero: zero point, an i64 within 16 bits.
    """

    def __init__(self, builder: Any, low: Any, high: Any, zero: Any) -> None:
        self._builder = builder
        self._saturates = "avx512bw" in compiled_features()
        word = builder.trunc(zero, I32)
        self._limits = (low, high)
        if not self._saturates:
            self._lows, self._highs = splat(builder, low, 16), splat(builder, high, 16)
            self._zeros = splat(builder, word, 16)
            return
        least, most = (builder.add(builder.fptosi(limit, I32), word) for limit in (low, high))
        unsigned = builder.icmp_signed(">", most, ir.Constant(I32, 127))
        flip = builder.select(unsigned, ir.Constant(I32, 128), ir.Constant(I32, 0))
        self._lows, self._highs = (
            splat(builder, builder.trunc(builder.sub(limit, flip), I8), 64) for limit in (least, most)
        )
        self._flips = splat(builder, builder.trunc(flip, I8), 64)
        self._zeros = splat(builder, builder.trunc(builder.sub(word, flip), I16), 32)
        self._ceiling = ir.Constant(V16F32, [2.0**30] * 16)

    def apply(self, values: list[Any]) -> Any:
        """Four vectors of sixteen f32 as one of sixty-four i8, in order."""
        builder = self._builder
        if not self._saturates:
            parts = []
            for value in values:
                clamped = minimum(builder, maximum(builder, value, self._lows), self._highs)
                parts.append(builder.trunc(builder.add(round_to_int(builder, clamped), self._zeros), vector(I8, 16)))
            halves = [shuffle(builder, parts[i], parts[i + 1], list(range(32))) for i in (0, 2)]
            return shuffle(builder, halves[0], halves[1], list(range(64)))
        return self._pack([round_to_int(builder, minimum(builder, value, self._ceiling)) for value in values])

    def apply_doubles(self, values: list[Any]) -> tuple[Any, list[Any]]:
        """Two vectors of sixteen f64 as one of thirty-two i8, in order, and the values rounded to integers, as f64."""
        builder, double = self._builder, values[0].type
        if self._saturates:
            ceiling = ir.Constant(double, [2.0**30] * 16)
            words = [_round_doubles(builder, minimum(builder, value, ceiling)) for value in values]
            octets = self._pack([*words, *words])
            return shuffle(builder, octets, octets, list(range(32))), [builder.sitofp(word, double) for word in words]
        # Adding 1.5 * 2**52 leaves no room for a fraction, and the integer in the low bits.
        magic = ir.Constant(double, [6755399441055744.0] * 16)
        low, high = (splat(builder, builder.fpext(limit, F64), 16) for limit in self._limits)
        lifted = [builder.fadd(minimum(builder, maximum(builder, value, low), high), magic) for value in values]
        octet = vector(I8, 16)
        zeros = builder.trunc(self._zeros, octet)
        parts = [builder.add(builder.trunc(builder.bitcast(x, vector(I64, 16)), octet), zeros) for x in lifted]
        return shuffle(builder, parts[0], parts[1], list(range(32))), [builder.fsub(x, magic) for x in lifted]

    def _pack(self, words: list[Any]) -> Any:
        """Four vectors of sixteen i32, saturated and shifted, as sixty-four i8."""
        builder = self._builder
        pairs = [call(builder, "llvm.x86.avx512.packssdw.512", V32I16, words[i : i + 2]) for i in (0, 2)]
        moved = [call(builder, "llvm.sadd.sat.v32i16", V32I16, [pair, self._zeros]) for pair in pairs]
        octets = builder.bitcast(call(builder, "llvm.x86.avx512.packsswb.512", V64I8, moved), V16I32)
        # Packs work within 128-bit lanes: group i of vector v is in lane i at place v.
        order = [4 * (i % 4) + i // 4 for i in range(16)]
        octets = builder.bitcast(shuffle(builder, octets, octets, order), V64I8)
        raised = call(builder, "llvm.smax.v64i8", V64I8, [octets, self._lows])
        return builder.xor(call(builder, "llvm.smin.v64i8", V64I8, [raised, self._highs]), self._flips)
