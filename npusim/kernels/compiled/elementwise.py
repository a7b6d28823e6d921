"""Arithmetic on two tensors: add and multiply of bytes in vector code, everything else through float64.

Called by ``npusim.kernels.elementwise``, operands checked and broadcast to four axes (a stride of 0 repeats).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from . import emit
from .build import kernel
from .convert import activation, put_activation
from .emit import I8, I32, V16F32, V16I32, V64I8
from .laws import dequantize, quantize_real
from .rows import each, give, take
from .signatures import BYTE_BATCH, BYTE_BATCH_OUT

ADD, MUL, SUB, DIV, MIN, MAX = range(6)
LANES = 64


def _bytes(builder: Any, address: Any, broadcast: Any, flip: Any, mask: Any) -> Any:
    """Sixty-four bytes, or one byte sixty-four times, as ``u ^ flip``."""
    same = builder.icmp_signed("!=", broadcast, ir.Constant(emit.I64, 0))
    with builder.if_else(same) as (then, otherwise):
        with then:
            repeated = emit.splat(builder, emit.load(builder, address, I8), LANES)
            from_one = builder.block
        with otherwise:
            loaded = take(builder, address, V64I8, mask)
            from_many = builder.block
    octets = builder.phi(V64I8)
    octets.add_incoming(repeated, from_one)
    octets.add_incoming(loaded, from_many)
    return builder.xor(octets, flip)


def _row(typingctx: Any, combine: Any) -> Any:
    """The typing and code of a row of bytes; ``combine`` turns sixteen i32 operands into the f32 before rounding.

    Arguments: destination, a, b, count, step of a and of b (0 or 1), flip and shift of a and of b, three float32
    constants, clamp limits.
    """
    integer, real = types.int64, types.float32

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        (dst, a, b, count, a_step, b_step, a_flip, a_shift, b_flip, b_shift, x, y, z, low, high) = args
        flips = [emit.splat(builder, builder.trunc(flip, I8), LANES) for flip in (a_flip, b_flip)]
        shifts = [emit.splat(builder, builder.trunc(shift, I32), 16) for shift in (a_shift, b_shift)]
        constants = [emit.splat(builder, value, 16) for value in (x, y, z)]
        zero = ir.Constant(emit.I64, 0)
        rounding = emit.ByteRounding(builder, low, high, zero)
        repeats = [builder.zext(builder.icmp_signed("==", step, zero), emit.I64) for step in (a_step, b_step)]

        def body(here: Any, mask: Any) -> None:
            places = [builder.add(address, builder.mul(here, step)) for address, step in ((a, a_step), (b, b_step))]
            octets = [_bytes(builder, *operand, mask) for operand in zip(places, repeats, flips, strict=True)]
            values = []
            for quarter in range(0, LANES, 16):
                lanes = list(range(quarter, quarter + 16))
                words = [builder.zext(emit.shuffle(builder, x, x, lanes), V16I32) for x in octets]
                left, right = (builder.sub(word, shift) for word, shift in zip(words, shifts, strict=True))
                values.append(combine(builder, left, right, constants))
            give(builder, rounding.apply(values), builder.add(dst, here), mask)

        each(builder, count, LANES, body)
        return context.get_dummy_value()

    return types.void(*[integer] * 10, *[real] * 5), codegen


@intrinsic
def _add_row(typingctx, dst, a, b, count, a_step, b_step, a_flip, a_shift, b_flip, b_shift, x, y, z, low, high):
    """``law.add``: ``fma(a, x, fma(b, y, z))``."""

    def combine(builder: Any, a: Any, b: Any, constants: Any) -> Any:
        x, y, z = constants
        name, real = "llvm.fma.v16f32", V16F32
        inner = emit.call(builder, name, real, [builder.sitofp(b, real), y, z])
        return emit.call(builder, name, real, [builder.sitofp(a, real), x, inner])

    return _row(typingctx, combine)


@intrinsic
def _mul_row(typingctx, dst, a, b, count, a_step, b_step, a_flip, a_shift, b_flip, b_shift, x, y, z, low, high):
    """``law.mul``: ``f32(f32(a * b) * x) + y``; the shifts hold the zero points."""

    def combine(builder: Any, a: Any, b: Any, constants: Any) -> Any:
        x, y, _ = constants
        return builder.fadd(builder.fmul(builder.sitofp(builder.mul(a, b), V16F32), x), y)

    return _row(typingctx, combine)


@njit
def _strides(array, shape, item):
    """Byte strides of an operand along four axes, 0 where it repeats."""
    return (
        0 if array.shape[0] == 1 else array.strides[0],
        0 if array.shape[1] == 1 else array.strides[1],
        0 if array.shape[2] == 1 else array.strides[2],
        0 if array.shape[3] == item and shape[3] > 1 else item,
    )


@kernel(types.void(
    BYTE_BATCH, BYTE_BATCH, BYTE_BATCH_OUT, types.int64, types.UniTuple(types.int64, 4),
    types.UniTuple(types.float32, 5),
))  # fmt: skip
def bytes_by_bytes(a, b, dst, operation, signs, constants):
    """Add or multiply bytes.

    Args:
        a: uint8 view; axes of length 1 repeat.
        b: likewise.
        dst: uint8 view [c3, c2, c1, count].
        operation: ``ADD`` or ``MUL``.
        signs: flip and shift of a and of b: operands are ``(u ^ flip) - shift``.
        constants: three of the operation's formula, then the clamp limits.
    """
    c3, c2, c1, count = dst.shape
    a3, a2, a1, a0 = _strides(a, dst.shape, 1)
    b3, b2, b1, b0 = _strides(b, dst.shape, 1)
    d3, d2, d1 = dst.strides[0], dst.strides[1], dst.strides[2]
    # Axes that continue one another in all three operands become one row.
    for _ in range(3):
        if c1 == 1:
            c1, a1, b1, d1 = c2, a2, b2, d2
            c2, a2, b2, d2 = c3, a3, b3, d3
            c3 = 1
    while c1 > 1 and d1 == count and a1 == a0 * count and b1 == b0 * count:
        count *= c1
        c1, a1, b1, d1 = c2, a2, b2, d2
        c2, a2, b2, d2 = c3, a3, b3, d3
        c3 = 1
    a_flip, a_shift, b_flip, b_shift = signs
    x, y, z, low, high = constants
    for i in range(c3):
        for j in range(c2):
            for k in range(c1):
                there = dst.ctypes.data + i * d3 + j * d2 + k * d1
                first = a.ctypes.data + i * a3 + j * a2 + k * a1
                second = b.ctypes.data + i * b3 + j * b2 + k * b1
                if operation == ADD:
                    _add_row(there, first, second, count, a0, b0, a_flip, a_shift, b_flip, b_shift, x, y, z, low, high)
                else:
                    _mul_row(there, first, second, count, a0, b0, a_flip, a_shift, b_flip, b_shift, x, y, z, low, high)


@kernel(types.void(
    BYTE_BATCH, BYTE_BATCH, BYTE_BATCH_OUT, types.int64, types.UniTuple(types.int64, 8),
    types.UniTuple(types.float32, 3),
))  # fmt: skip
def through_reals(a, b, dst, operation, integers, scales):
    """Dequantize, compute in float64, quantize, for any types.

    ``integers``: kinds of a and b, item bytes of the destination, zero points of a, b and dst, clamp limits.
    """
    a_kind, b_kind, item, a_zero, b_zero, zero, low, high = integers
    a_scale, b_scale, scale = scales
    a_item, b_item = 1 + (a_kind >> 1), 1 + (b_kind >> 1)
    count = dst.shape[3] // item
    shape = (dst.shape[0], dst.shape[1], dst.shape[2], count)
    a3, a2, a1, a0 = _strides(a, shape, a_item)
    b3, b2, b1, b0 = _strides(b, shape, b_item)
    for i in range(shape[0]):
        for j in range(shape[1]):
            for k in range(shape[2]):
                there = dst.ctypes.data + i * dst.strides[0] + j * dst.strides[1] + k * dst.strides[2]
                first = a.ctypes.data + i * a3 + j * a2 + k * a1
                second = b.ctypes.data + i * b3 + j * b2 + k * b1
                for e in range(count):
                    left = np.float64(dequantize(activation(first + e * a0, a_kind), a_scale, a_zero))
                    right = np.float64(dequantize(activation(second + e * b0, b_kind), b_scale, b_zero))
                    if operation == ADD:
                        value = left + right
                    elif operation == MUL:
                        value = left * right
                    elif operation == SUB:
                        value = left - right
                    elif operation == DIV:
                        value = left / right
                    elif operation == MIN:
                        value = min(left, right)
                    else:
                        value = max(left, right)
                    put_activation(there + e * item, quantize_real(value, scale, zero, low, high), item)
