"""``isa.law``'s functions as kernels call them: the same code, compiled for scalars.

Used by every module of kernels beside it. The one function written again is ``fma``, an instruction of the hardware.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic, register_jitable

from isa import law

from . import emit
from .emit import F32

clamp = register_jitable(law.clamp)
requantize = register_jitable(law.requantize)
dequantize = register_jitable(law.dequantize)
quantize = register_jitable(law.quantize)
quantize_real = register_jitable(law.quantize_real)
mul = register_jitable(law.mul)
average = register_jitable(law.average)
layer_norm_factor = register_jitable(law.layer_norm_factor)
rms_norm_factor = register_jitable(law.rms_norm_factor)
norm_coefficient = register_jitable(law.norm_coefficient)
normalize = register_jitable(law.normalize)
softmax_numerator = register_jitable(law.softmax_numerator)
softmax = register_jitable(law.softmax)


@intrinsic
def fma(typingctx, a, b, c):
    """``law.fma`` by the hardware, or the C library where the compiled-for CPU has none."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit.call(builder, "llvm.fma.f32", F32, list(args))

    return types.float32(types.float32, types.float32, types.float32), codegen
