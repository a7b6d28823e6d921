"""Reading elements of any activation type as wider numbers less their zero point.

Called by the drivers of the portable tier and of 16-bit operands. ``kind`` is 0 for u8, 1 for s8, 2 for u16, 3 for s16,
4 for s32, 5 for s64.
"""

from __future__ import annotations

from numba import njit

from .memory import bytes_at, longs_at, shorts_at, signed_bytes_at, unsigned_shorts_at, words_at


@njit
def item_bytes(kind):
    """Bytes of an element."""
    if kind >= 4:
        return 4 if kind == 4 else 8
    return 2 if kind >= 2 else 1


@njit
def widen(target, source, count, kind, zero):
    """``target[i] = source[i] - zero`` for ``count`` elements at an address; returns nothing."""
    if kind == 0:
        octets = bytes_at(source, count)
        for i in range(count):
            target[i] = octets[i] - zero
    elif kind == 1:
        signed = signed_bytes_at(source, count)
        for i in range(count):
            target[i] = signed[i] - zero
    elif kind == 2:
        shorts = unsigned_shorts_at(source, count)
        for i in range(count):
            target[i] = shorts[i] - zero
    else:
        signed_shorts = shorts_at(source, count)
        for i in range(count):
            target[i] = signed_shorts[i] - zero


@njit
def activation(source, kind):
    """The element at an address, of an activation type: fewer branches than ``element``, and less to compile."""
    if kind == 0:
        return int(bytes_at(source, 1)[0])
    if kind == 1:
        return int(signed_bytes_at(source, 1)[0])
    if kind == 2:
        return int(unsigned_shorts_at(source, 1)[0])
    return int(shorts_at(source, 1)[0])


@njit
def put_activation(target, value, item):
    """Store the low ``item`` bytes, 1 or 2, of an integer."""
    if item == 1:
        bytes_at(target, 1)[0] = value
    else:
        shorts_at(target, 1)[0] = value


@njit
def element(source, kind):
    """The element at an address."""
    if kind < 4:
        return activation(source, kind)
    if kind == 4:
        return int(words_at(source, 1)[0])
    return longs_at(source, 1)[0]


@njit
def put(target, value, item):
    """Store the low ``item`` bytes, 1, 2, 4 or 8, of an integer."""
    if item == 1:
        bytes_at(target, 1)[0] = value
    elif item == 2:
        shorts_at(target, 1)[0] = value
    elif item == 4:
        words_at(target, 1)[0] = value
    else:
        longs_at(target, 1)[0] = value
