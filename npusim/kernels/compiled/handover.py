"""Waiting in a loop instead of asleep: how kernel threads hand work over within microseconds.

Called by ``npusim.kernels.threads``. The flags are int64 in memory that two threads share, each in a cache line of its
own; what was written before a flag was raised is there for whoever sees it raised.
"""

from __future__ import annotations

import os
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from ..tier import compiled_features
from . import emit
from .build import kernel
from .emit import I64

_WORD_BYTES = 8

ROUNDS = 10
"""Pauses between two looks at a flag."""


@intrinsic
def _raised(typingctx, address):
    """Load a flag; nothing that follows is done before."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load_atomic(builder.inttoptr(args[0], I64.as_pointer()), "acquire", _WORD_BYTES)

    return types.int64(types.int64), codegen


@intrinsic
def _raise(typingctx, address, value):
    """Store a flag when everything before is done."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store_atomic(args[1], builder.inttoptr(args[0], I64.as_pointer()), "release", _WORD_BYTES)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def _pause(typingctx):
    """Tell the CPU that this is a waiting loop, where there is an instruction for it."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if "sse2" in compiled_features():
            emit.call(builder, "llvm.x86.sse2.pause", ir.VoidType(), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def _yield(typingctx):
    """Let another thread have this core, should one want it: it may be the one that is waited for."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if os.name == "posix":
            emit.call(builder, "sched_yield", emit.I32, [])
        return context.get_dummy_value()

    return types.void(), codegen


@njit
def _rest(rounds):
    for _ in range(rounds):
        _pause()


@kernel(types.void(types.int64, types.int64, types.int64))
def await_flag(flag, value, looks):
    """Return when the flag holds ``value``, or after so many looks at it."""
    for _ in range(looks):
        if _raised(flag) == value:
            return
        _rest(ROUNDS)
        _yield()


@kernel(types.void(*[types.int64] * 5))
def answer(done, order, value, looks, settle):
    """Raise ``done`` to ``value``, then return when the flag ``order`` is higher, or after so many looks at it.

    Where it is higher, ``settle`` rounds pass first: the thread that raised it lets go of the GIL meanwhile, which
    this one takes next.
    """
    _raise(done, value)
    for _ in range(looks):
        if _raised(order) > value:
            _rest(settle)
            return
        _rest(ROUNDS)
        _yield()
