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


def _masks_bytes() -> bool:
    """Whether the CPU loads and stores bytes under a mask; LLVM would make a branch for each byte of it."""
    return "avx512bw" in compiled_features()


def masked_load(builder: Any, address: Any, mask: Any, kind: Any) -> Any:
    """Load the first lanes, as ``low_mask`` chooses them, zero elsewhere; memory under other lanes is not touched."""
    if kind.element == I8 and not _masks_bytes():
        room = cgutils.alloca_once(builder, kind)
        builder.store(ir.Constant(kind, [0] * kind.count), room)
        _copy_pieces(builder, builder.ptrtoint(room, I64), address, mask)
        return builder.load(room)
    pointer = builder.inttoptr(address, kind.as_pointer())
    zeros = ir.Constant(kind, [0] * kind.count)
    return call(builder, f"llvm.masked.load.{_suffix(kind)}.p0", kind, [pointer, ir.Constant(I32, 1), mask, zeros])


def masked_store(builder: Any, value: Any, address: Any, mask: Any) -> None:
    """Store the first lanes, as ``low_mask`` chooses them; memory under other lanes is not touched."""
    if value.type.element == I8 and not _masks_bytes():
        room = cgutils.alloca_once(builder, value.type)
        builder.store(value, room)
        _copy_pieces(builder, address, builder.ptrtoint(room, I64), mask)
        return
    pointer = builder.inttoptr(address, value.type.as_pointer())
    name = f"llvm.masked.store.{_suffix(value.type)}.p0"
    call(builder, name, ir.VoidType(), [value, pointer, ir.Constant(I32, 1), mask])


def _copy_pieces(builder: Any, target: Any, source: Any, mask: Any) -> None:
    """Copy as many bytes as the mask has lanes set, less than all of them, in pieces of 32, 16, 8, 4, 2 and 1."""
    lanes = mask.type.count
    bits = builder.bitcast(mask, ir.IntType(lanes))
    count = call(builder, f"llvm.ctpop.i{lanes}", bits.type, [bits])
    count = count if lanes == 64 else builder.zext(count, I64)
    done = ir.Constant(I64, 0)
    piece = lanes // 2
    while piece:
        kind = vector(I8, piece) if piece > 1 else I8
        with builder.if_then(builder.icmp_signed("!=", builder.and_(count, ir.Constant(I64, piece)), done.type(0))):
            store(builder, load(builder, builder.add(source, done), kind), builder.add(target, done))
        done = builder.or_(done, builder.and_(count, ir.Constant(I64, piece)))
        piece //= 2


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
    """``acc`` of i32 plus the dot products of two i16 each, by the widest multiply-add there is."""
    lanes = acc.type.count
    pairs = vector(I16, 2 * lanes)
    left, right = builder.bitcast(left, pairs), builder.bitcast(right, pairs)
    for feature, widest, name in _MULTIPLY_ADDS:
        if feature in compiled_features() and lanes >= widest:
            return builder.add(acc, _split(builder, name, left, right, lanes // widest))
    wide = vector(I32, 2 * lanes)
    products = builder.mul(builder.sext(left, wide), builder.sext(right, wide))
    even = shuffle(builder, products, products, list(range(0, 2 * lanes, 2)))
    odd = shuffle(builder, products, products, list(range(1, 2 * lanes, 2)))
    return builder.add(acc, builder.add(even, odd))


_MULTIPLY_ADDS = (
    ("avx512bw", 16, "llvm.x86.avx512.pmaddw.d.512"),
    ("avx2", 8, "llvm.x86.avx2.pmadd.wd"),
    ("sse2", 4, "llvm.x86.sse2.pmadd.wd"),
)
"""Multiply-adds of 16-bit pairs: the feature, the lanes of the sums, the intrinsic."""


def _split(builder: Any, name: str, left: Any, right: Any, parts: int) -> Any:
    """Call a two-operand intrinsic on ``parts`` pieces of i16 vectors and join the i32 results."""
    lanes = left.type.count // parts
    pieces = []
    for part in range(parts):
        window = list(range(part * lanes, (part + 1) * lanes))
        operands = [left, right] if parts == 1 else [shuffle(builder, x, x, window) for x in (left, right)]
        pieces.append(call(builder, name, vector(I32, lanes // 2), operands))
    return _join(builder, pieces)


def _join(builder: Any, pieces: list[Any]) -> Any:
    """Vectors of one type, a power of two of them, as one."""
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
    """Sixteen f32 of magnitude below 2**22, rounded half to even, as i32; see ``ByteRounding`` for larger ones."""
    if "avx512f" in compiled_features():
        mask, mode = ir.Constant(I16, -1), ir.Constant(I32, 4)
        return call(builder, "llvm.x86.avx512.mask.cvtps2dq.512", V16I32,
                    [value, ir.Constant(V16I32, [0] * 16), mask, mode])  # fmt: skip
    if "avx" in compiled_features():
        return _join(builder, [call(builder, "llvm.x86.avx.cvt.ps2dq.256", vector(I32, 8), [part])
                               for part in _parts(builder, value, 8)])  # fmt: skip
    # Adding 1.5 * 2**23 leaves no room for a fraction: the addition itself rounds half to even.
    magic = ir.Constant(V16F32, [12582912.0] * 16)
    return builder.fptosi(builder.fsub(builder.fadd(value, magic), magic), V16I32)


def _parts(builder: Any, value: Any, lanes: int) -> list[Any]:
    """A vector in pieces of ``lanes``."""
    return [
        shuffle(builder, value, value, list(range(first, first + lanes)))
        for first in range(0, value.type.count, lanes)
    ]  # fmt: skip


def _round_doubles(builder: Any, value: Any) -> Any:
    """Sixteen f64 up to 2**30, rounded half to even, as i32; what lies below i32 becomes its smallest value."""
    if "avx512f" not in compiled_features():
        return _join(builder, [call(builder, "llvm.x86.avx.cvt.pd2dq.256", vector(I32, 4), [part])
                               for part in _parts(builder, value, 4)])  # fmt: skip
    mask, mode, half = ir.Constant(I8, -1), ir.Constant(I32, 4), vector(I32, 8)
    rounded = [
        call(builder, "llvm.x86.avx512.mask.cvtpd2dq.512", half, [part, ir.Constant(half, [0] * 8), mask, mode])
        for part in _parts(builder, value, 8)
    ]
    return _join(builder, rounded)


class ByteRounding:
    """Clamp f32 or f64, round half to even, add the zero point: the last steps of ``law.requantize``, to bytes.

    With AVX2 or AVX512 the clamp is done by saturating packs: values are limited from above only, so that their
    conversion is defined, packed to i16 and, less 128 where the result is unsigned, to s8, and limited there.

    Args:
        low: smallest result less the zero point, an f32 that holds an integer of 16 bits.
        high: largest result less the zero point.
        zero: zero point, an i64 within 16 bits.
    """

    def __init__(self, builder: Any, low: Any, high: Any, zero: Any) -> None:
        self._builder = builder
        self._octets = 64 if "avx512bw" in compiled_features() else 32
        self._saturates = bool({"avx512bw", "avx2"} & compiled_features())
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
            splat(builder, builder.trunc(builder.sub(limit, flip), I8), self._octets) for limit in (least, most)
        )
        self._flips = splat(builder, builder.trunc(flip, I8), self._octets)
        self._zeros = splat(builder, builder.trunc(builder.sub(word, flip), I16), self._octets // 2)
        self._ceiling = ir.Constant(V16F32, [2.0**30] * 16)

    def apply(self, values: list[Any]) -> Any:
        """Vectors of sixteen f32, two or four, as one of i8, in order."""
        builder = self._builder
        if self._saturates:
            return self._pack([round_to_int(builder, minimum(builder, value, self._ceiling)) for value in values])
        parts = []
        for value in values:
            clamped = minimum(builder, maximum(builder, value, self._lows), self._highs)
            parts.append(builder.trunc(builder.add(round_to_int(builder, clamped), self._zeros), vector(I8, 16)))
        return _join(builder, parts)

    def apply_doubles(self, values: list[Any]) -> tuple[Any, list[Any]]:
        """Two vectors of sixteen f64 as one of thirty-two i8, in order, and the values rounded to integers, as f64."""
        builder, double = self._builder, values[0].type
        if self._saturates:
            ceiling = ir.Constant(double, [2.0**30] * 16)
            words = [_round_doubles(builder, minimum(builder, value, ceiling)) for value in values]
            return self._pack(words), [builder.sitofp(word, double) for word in words]
        # Adding 1.5 * 2**52 leaves no room for a fraction, and the integer in the low bits.
        magic = ir.Constant(double, [6755399441055744.0] * 16)
        low, high = (splat(builder, builder.fpext(limit, F64), 16) for limit in self._limits)
        lifted = [builder.fadd(minimum(builder, maximum(builder, value, low), high), magic) for value in values]
        octet = vector(I8, 16)
        zeros = builder.trunc(self._zeros, octet)
        parts = [builder.add(builder.trunc(builder.bitcast(x, vector(I64, 16)), octet), zeros) for x in lifted]
        return shuffle(builder, parts[0], parts[1], list(range(32))), [builder.fsub(x, magic) for x in lifted]

    def _pack(self, words: list[Any]) -> Any:
        """Two or four vectors of sixteen i32, saturated and shifted, as one of i8."""
        if self._octets == 64:
            octets = self._pack_wide(words if len(words) == 4 else [*words, *words])
            return octets if len(words) == 4 else shuffle(self._builder, octets, octets, list(range(32)))
        return _join(self._builder, [self._pack_narrow(words[i : i + 2]) for i in range(0, len(words), 2)])

    def _pack_wide(self, words: list[Any]) -> Any:
        """Four vectors of sixteen i32 as sixty-four i8."""
        builder = self._builder
        pairs = [call(builder, "llvm.x86.avx512.packssdw.512", V32I16, words[i : i + 2]) for i in (0, 2)]
        moved = [call(builder, "llvm.sadd.sat.v32i16", V32I16, [pair, self._zeros]) for pair in pairs]
        octets = builder.bitcast(call(builder, "llvm.x86.avx512.packsswb.512", V64I8, moved), V16I32)
        # Packs work within 128-bit lanes: group i of vector v is in lane i at place v.
        order = [4 * (i % 4) + i // 4 for i in range(16)]
        octets = builder.bitcast(shuffle(builder, octets, octets, order), V64I8)
        raised = call(builder, "llvm.smax.v64i8", V64I8, [octets, self._lows])
        return builder.xor(call(builder, "llvm.smin.v64i8", V64I8, [raised, self._highs]), self._flips)

    def _pack_narrow(self, words: list[Any]) -> Any:
        """Two vectors of sixteen i32 as thirty-two i8, with AVX2."""
        builder, shorts, octet = self._builder, vector(I16, 16), vector(I8, 32)
        quarters = [part for word in words for part in _parts(builder, word, 8)]
        pairs = [call(builder, "llvm.x86.avx2.packssdw", shorts, quarters[i : i + 2]) for i in (0, 2)]
        moved = [call(builder, "llvm.sadd.sat.v16i16", shorts, [pair, self._zeros]) for pair in pairs]
        octets = builder.bitcast(call(builder, "llvm.x86.avx2.packsswb", octet, moved), vector(I32, 8))
        order = [4 * (i % 2) + i // 2 for i in range(8)]
        octets = builder.bitcast(shuffle(builder, octets, octets, order), octet)
        raised = call(builder, "llvm.smax.v32i8", octet, [octets, self._lows])
        return builder.xor(call(builder, "llvm.smin.v32i8", octet, [raised, self._highs]), self._flips)
