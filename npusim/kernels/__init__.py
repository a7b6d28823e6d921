"""The arithmetic of every instruction as fast kernels: arrays in, arrays out, bits equal to ``isa.law`` on every tier.

Called by the executor and by users. Kernels know no instructions; importing this package imports no compiler.
"""

from .conv import conv, conv_transpose
from .depthwise import depthwise
from .elementwise import add, div, elementwise, maximum, minimum, mul, sub
from .lookup import lookup
from .matmul import matmul
from .move import copy, gather
from .normalize import layer_norm, rms_norm, softmax
from .pool import average_pool, global_average_pool, max_pool
from .reduce import arg_reduce, reduce, resize
from .rescale import dequantize, quantize, requantize, rescale
from .threads import set_threads
from .tier import Tier, active, available, forced
from .warmup import warmup

__all__ = [
    "Tier", "active", "add", "arg_reduce", "available", "average_pool", "conv", "conv_transpose", "copy", "depthwise",
    "dequantize", "div", "elementwise", "forced", "gather", "global_average_pool", "layer_norm", "lookup", "matmul",
    "max_pool", "maximum", "minimum", "mul", "quantize", "reduce", "requantize", "rescale", "resize", "rms_norm",
    "set_threads",
    "softmax", "sub", "warmup",
]  # fmt: skip
