"""All instructions of the machine, declared once each; importing this fills the registry.

Order of opcodes: control 0x0_, matrix 0x1_, elementwise 0x2_, pooling and reduction 0x3_, normalization 0x4_,
moves 0x5_, transfers 0x6_.
"""

from .control import Barrier, End, Sync
from .matrix import Conv, ConvTranspose, DepthwiseConv, Matmul, MatrixLayout, block_weights, unblock_weights
from .move import Copy, Fill, Gather, Pad, Padding, Transpose
from .normalize import LayerNorm, RmsNorm, Softmax
from .parameters import Parameters
from .pool import (
    ArgMax,
    ArgMin,
    AveragePool,
    GlobalAveragePool,
    Interpolation,
    MaxPool,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    ReduceSum,
    Resize,
)
from .transfer import Load, Multicast, Send, Store
from .vector import Add, Dequantize, Div, Lookup, Max, Min, Mul, Quantize, Requantize, Rescale, Sub

__all__ = [
    "Add", "ArgMax", "ArgMin", "AveragePool", "Barrier", "Conv", "ConvTranspose", "Copy", "DepthwiseConv",
    "Dequantize", "Div", "End", "Fill", "Gather", "GlobalAveragePool", "Interpolation", "LayerNorm", "Load", "Lookup",
    "Matmul", "MatrixLayout", "Max", "MaxPool", "Min", "Mul", "Multicast", "Pad", "Padding", "Parameters", "Quantize",
    "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Requantize", "Rescale", "Resize", "RmsNorm", "Send",
    "Softmax", "Store", "Sub", "Sync", "Transpose", "block_weights", "unblock_weights",
]  # fmt: skip
