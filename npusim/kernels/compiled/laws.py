"""``isa.law``'s functions as kernels call them: the same code, compiled for scalars.

Used by every module of kernels beside it. Written a second time here: ``fma``, an instruction of the hardware, and the
``narrow_`` forms for 8- and 16-bit results, whose last conversion is to 32 bits because CPUs vectorise that one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic, overload, register_jitable

from isa import law

from . import emit
from .emit import F32

clamp = register_jitable(law.clamp)
requantize = register_jitable(law.requantize)
dequantize = register_jitable(law.dequantize)
quantize = register_jitable(law.quantize)
quantize_real = register_jitable(law.quantize_real)
add = register_jitable(law.add)
average = register_jitable(law.average)
layer_norm_factor = register_jitable(law.layer_norm_factor)
rms_norm_factor = register_jitable(law.rms_norm_factor)
norm_coefficient = register_jitable(law.norm_coefficient)
normalize = register_jitable(law.normalize)
softmax_numerator = register_jitable(law.softmax_numerator)
softmax = register_jitable(law.softmax)


@intrinsic
def fma(typingctx, a, b, c):
    """``law.fma`` by the hardware, or by the C library where the compiled-for CPU has none."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit.call(builder, "llvm.fma.f32", F32, list(args))

    return types.float32(types.float32, types.float32, types.float32), codegen


@overload(law.fma)
def _law_fma(a, b, c):
    def call(a, b, c):
        return fma(a, b, c)

    return call


@njit
def narrow_clamp(value, low, high):
    """``law.clamp`` of numbers that are not NaN."""
    raised = max(low, value)
    return min(high, raised)


@njit
def narrow_requantize(acc, multiplier, zero, low, high):
    """``law.requantize`` to int32; ``low`` and ``high`` are float32, less the zero point, as in the next ones."""
    return np.int32(np.rint(narrow_clamp(np.float32(acc) * multiplier, low, high))) + zero


@njit
def narrow_round(value, low, high):
    """Clamp and round half to even, to int32."""
    return np.int32(np.rint(narrow_clamp(value, low, high)))
