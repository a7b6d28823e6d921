"""Integer graphs built by hand, a node at a time."""

from __future__ import annotations

import numpy as np

from npusim.graph.ir import DTYPE_NAMES, Graph, Node, Quantization, Tensor
from npusim.graph.ops import check

SCALE, ZERO = 0.05, 7
ZEROS = {"u8": 120, "s8": 7, "u16": 30000, "s16": 70}


class Maker:
    """A graph while it grows; values are names."""

    def __init__(self, seed=0):
        self.random = np.random.default_rng(seed)
        self.tensors, self.nodes, self.inputs = {}, [], []

    def _tensor(self, shape, dtype, quantization, data=None):
        name = f"t{len(self.tensors)}"
        if quantization is None and dtype in ZEROS:
            quantization = Quantization(scale=np.float32(SCALE), zero_point=ZEROS[dtype])
        self.tensors[name] = Tensor(name=name, shape=tuple(shape), dtype=dtype, quantization=quantization, data=data)
        return name

    def input(self, shape, dtype="u8", quantization=None):
        self.inputs.append(self._tensor(shape, dtype, quantization))
        return self.inputs[-1]

    def constant(self, data, quantization=None):
        data = np.asarray(data)
        return self._tensor(data.shape, DTYPE_NAMES[data.dtype], quantization, data)

    def op(self, op, *inputs, shape, dtype=None, quantization=None, **attributes):
        first = self.tensors[inputs[0]]
        output = self._tensor(shape, dtype or first.dtype, quantization)
        self.nodes.append(Node(name=f"{op}_{len(self.nodes)}", op=op, inputs=inputs, outputs=(output,),
                               attributes=attributes))  # fmt: skip
        return output

    def conv(self, x, channels, kernel=1, stride=1):
        """A convolution, whose result lies channels last."""
        n, depth, h, w = self.tensors[x].shape
        weights = self.constant(
            self.random.integers(-128, 128, (channels, depth, kernel, kernel), np.int8),
            Quantization(scale=np.float32(0.02), zero_point=0),
        )
        bias = self.constant(self.random.integers(-5000, 5000, channels, np.int32))
        pad = kernel // 2
        size = [(e + 2 * pad - kernel) // stride + 1 for e in (h, w)]
        return self.op("conv", x, weights, bias, shape=(n, channels, *size), strides=(stride, stride),
                       pads=(pad,) * 4, dilations=(1, 1), groups=1)  # fmt: skip

    def build(self, *outputs):
        graph = Graph(name="made", inputs=tuple(self.inputs), outputs=outputs, nodes=tuple(self.nodes),
                      tensors=self.tensors)  # fmt: skip
        check(graph)
        return graph
