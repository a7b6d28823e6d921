"""What the integer graph means: every operation in plain numpy and the arithmetic law, slow and obvious.

The oracle for whatever lowers a graph further. CPU nodes run in onnxruntime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from isa import law
from npusim.graph.ir import ACTIVATION_DTYPES, DTYPES, Array, Graph, Node, Tensor
from npusim.quant import exact

OPERATIONS: dict[str, Callable[[Any], Any]] = {}


class Call:
    """One node with the values of its operands."""

    def __init__(self, graph: Graph, node: Node, values: Mapping[str, Array]) -> None:
        self.node = node
        self.attributes = node.attributes
        self.tensors = graph.inputs_of(node)
        self.result = graph.output_of(node)
        self.results = [graph.tensor(name) for name in node.outputs]
        self.values = [values[name] for name in node.inputs]
        if np.issubdtype(self.result.numpy, np.integer):
            self.low, self.high = graph.output_range(node)

    @property
    def scale(self) -> Any:
        return scale_of(self.result)

    @property
    def zero(self) -> Any:
        return zero_of(self.result)

    def real(self, index: int = 0) -> Array:
        """An operand as float32."""
        tensor = self.tensors[index]
        return law.dequantize(self.values[index], scale_of(tensor), zero_of(tensor))

    def centred(self, index: int = 0) -> Array:
        """An operand less its zero point, exact."""
        return self.values[index].astype(np.int64) - zero_of(self.tensors[index])

    def rounded(self, real: Array) -> Array:
        """A float64 result, correctly rounded through QuantizeLinear."""
        return law.quantize_real(real, self.scale, self.zero, self.low, self.high)

    def is_wide(self) -> bool:
        return any(tensor.dtype in ("s16", "u16") for tensor in (*self.tensors[:2], self.result))


def spread(values: Any, tensor: Tensor) -> Any:
    """A per-channel or blocked parameter, in a form that broadcasts over the tensor."""
    quantization = tensor.quantization
    if quantization is None or quantization.axis is None:
        return values
    if quantization.block:
        wide = np.repeat(values, quantization.block, axis=quantization.axis)
        return np.take(wide, range(tensor.shape[quantization.axis]), axis=quantization.axis)
    return np.expand_dims(values, [a for a in range(len(tensor.shape)) if a != quantization.axis])


def scale_of(tensor: Tensor) -> Any:
    return np.float32(1) if tensor.quantization is None else spread(tensor.quantization.scale, tensor)


def zero_of(tensor: Tensor) -> Any:
    return 0 if tensor.quantization is None else spread(tensor.quantization.zero_point, tensor)


def run(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Every tensor of the graph by name."""
    assert set(feeds) == set(graph.inputs)
    values = {name: tensor.data for name, tensor in graph.tensors.items() if tensor.data is not None}
    for name, array in feeds.items():
        tensor = graph.tensor(name)
        assert array.shape == tensor.shape, name
        assert array.dtype == tensor.numpy, name
        values[name] = array
    for node in graph.nodes:
        result = OPERATIONS[node.op](Call(graph, node, values))
        if node.op == "cpu":
            values |= dict(zip(node.outputs, result, strict=True))
            continue
        tensor = graph.output_of(node)
        array = np.asarray(result)
        assert array.shape == tensor.shape, f"{node.op} {node.name}: {array.shape} instead of {tensor.shape}"
        converted = array.astype(tensor.numpy)
        if tensor.dtype not in ("s32", "f32"):
            assert np.array_equal(converted, array), f"{node.op} {node.name} leaves the range of {tensor.dtype}"
        values[node.output] = converted
    return values


def operation(*names: str) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    def register(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        OPERATIONS.update(dict.fromkeys(names, function))
        return function

    return register


# ---------------------------------------------------------------------------------------------------------- products


def finish(call: Call, acc: Array, alpha: float, channel_axis: int) -> Array:
    """Bias, then the raw accumulator or its requantization."""
    shape = [1] * acc.ndim
    shape[channel_axis] = -1
    if len(call.values) > 2:
        acc = acc + call.values[2].astype(np.int64).reshape(shape)
    if call.result.dtype not in ACTIVATION_DTYPES:
        return acc
    weights = call.tensors[1].quantization
    assert weights is not None
    weight_scale = np.asarray(weights.scale)
    if weight_scale.ndim:
        # the weights of a grouped transposed convolution hold the scales of one group
        weight_scale = np.concatenate([weight_scale] * (acc.shape[channel_axis] // weight_scale.size)).reshape(shape)
    multiplier = law.gemm_multiplier(alpha, scale_of(call.tensors[0]), weight_scale, call.scale)
    if not call.is_wide():
        acc = acc.astype(np.int32)
    return law.requantize(acc, multiplier, call.zero, call.low, call.high)


def weights_of(call: Call) -> Array:
    return call.centred(1)


@operation("conv")
def conv(call: Call) -> Array:
    x, w = call.centred(), weights_of(call)
    top, left, _, _ = call.attributes["pads"]
    (sh, sw), (dh, dw) = call.attributes["strides"], call.attributes["dilations"]
    n, oc, oh, ow = call.result.shape
    _, depth, kh, kw = w.shape
    height = max((oh - 1) * sh + (kh - 1) * dh + 1, top + x.shape[2])
    width = max((ow - 1) * sw + (kw - 1) * dw + 1, left + x.shape[3])
    padded = np.zeros((n, x.shape[1], height, width), np.int64)
    padded[:, :, top : top + x.shape[2], left : left + x.shape[3]] = x
    groups = call.attributes["groups"]
    per_group = oc // groups
    acc = np.zeros((n, oc, oh, ow), np.int64)
    for g in range(groups):
        source = padded[:, g * depth : (g + 1) * depth]
        for i in range(kh):
            for j in range(kw):
                tap = source[:, :, i * dh :, j * dw :][:, :, ::sh, ::sw][:, :, :oh, :ow]
                kernel = w[g * per_group : (g + 1) * per_group, :, i, j]
                acc[:, g * per_group : (g + 1) * per_group] += product("nchw,oc->nohw", tap, kernel)
    return finish(call, acc, 1.0, 1)


def product(subscripts: str, a: Array, b: Array) -> Array:
    """An exact sum of products: in float64 while that is exact, which is faster."""
    bound = float(np.abs(a).max(initial=0)) * float(np.abs(b).max(initial=0)) * max(a.size, 1)
    if bound < 2**53:
        return np.einsum(subscripts, a.astype(np.float64), b.astype(np.float64), optimize=True).astype(np.int64)
    return np.einsum(subscripts, a, b)


@operation("conv_transpose")
def conv_transpose(call: Call) -> Array:
    x, w = call.centred(), weights_of(call)
    top, left, _, _ = call.attributes["pads"]
    (sh, sw), (dh, dw) = call.attributes["strides"], call.attributes["dilations"]
    n, oc, oh, ow = call.result.shape
    groups = call.attributes["groups"]
    depth, per_group = x.shape[1] // groups, oc // groups
    acc = np.zeros((n, oc, oh, ow), np.int64)
    for g in range(groups):
        for c in range(g * depth, (g + 1) * depth):
            for y in range(x.shape[2]):
                for z in range(x.shape[3]):
                    for i in range(w.shape[2]):
                        for j in range(w.shape[3]):
                            row, column = y * sh + i * dh - top, z * sw + j * dw - left
                            if 0 <= row < oh and 0 <= column < ow:
                                acc[:, g * per_group : (g + 1) * per_group, row, column] += (
                                    x[:, c, y, z, None] * w[None, c, :, i, j]
                                )
    return finish(call, acc, 1.0, 1)


@operation("matmul")
def matmul(call: Call) -> Array:
    a, b = call.centred(0), call.centred(1)
    bound = float(np.abs(a).max(initial=0)) * float(np.abs(b).max(initial=0)) * a.shape[-1]
    acc = (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64) if bound < 2**53 else a @ b
    return finish(call, acc, call.attributes.get("alpha", 1.0), acc.ndim - 1)


# ------------------------------------------------------------------------------------------------------- elementwise


@operation("add")
def add(call: Call) -> Array:
    if call.is_wide():
        return call.rounded(np.float64(call.real(0)) + np.float64(call.real(1)))
    (a, b), (ta, tb) = call.values, call.tensors
    ra, rb = scale_of(ta) / call.scale, scale_of(tb) / call.scale
    offset = law.add_offset(ra, zero_of(ta), rb, zero_of(tb), call.zero)
    a, b = np.broadcast_arrays(a, b)
    return law.add(a, b, ra, rb, offset, call.low, call.high)


@operation("mul")
def mul(call: Call) -> Array:
    if call.is_wide():
        return call.rounded(np.float64(call.real(0)) * np.float64(call.real(1)))
    (a, b), (ta, tb) = call.values, call.tensors
    ratio = law.mul_ratio(scale_of(ta), scale_of(tb), call.scale)
    return law.mul(a, zero_of(ta), b, zero_of(tb), ratio, call.zero, call.low, call.high)


@operation("sub", "div", "min", "max")
def through_reals(call: Call) -> Array:
    function = {"sub": np.subtract, "div": np.divide, "min": np.minimum, "max": np.maximum}[call.node.op]
    with np.errstate(all="ignore"):
        return call.rounded(function(np.float64(call.real(0)), np.float64(call.real(1))))


@operation("table")
def table(call: Call) -> Array:
    with np.errstate(all="ignore"):
        return call.rounded(call.attributes["expression"](np.float64(call.real())))


@operation("tables")
def tables(call: Call) -> Array:
    expression = call.attributes["expression"]
    with np.errstate(all="ignore"):
        rows = np.moveaxis(np.asarray(call.real(), np.float64), expression.axis, 0)
        made = [expression.at(index)(rows[index]) for index in range(len(rows))]
        return call.rounded(np.moveaxis(np.stack(made), 0, expression.axis))


@operation("rescale")
def rescale(call: Call) -> Array:
    return law.quantize(call.real(), call.scale, call.zero, call.low, call.high)


@operation("quantize")
def quantize(call: Call) -> Array:
    with np.errstate(all="ignore"):
        return law.quantize(call.values[0], call.scale, call.zero, call.low, call.high)


@operation("dequantize")
def dequantize(call: Call) -> Array:
    return call.real()


@operation("cast", "reinterpret")
def same_integers(call: Call) -> Array:
    return call.values[0]


# ----------------------------------------------------------------------------------------------- pools and reductions


def windows(call: Call, image: Array, padding: Any) -> list[Array]:
    """For each tap of the kernel in row-major order, the elements under it."""
    top, left, _, _ = call.attributes["pads"]
    (sh, sw), (dh, dw) = call.attributes["strides"], call.attributes["dilations"]
    (kh, kw), (oh, ow) = call.attributes["kernel"], call.result.shape[2:]
    height = max((oh - 1) * sh + (kh - 1) * dh + 1, top + image.shape[2])
    width = max((ow - 1) * sw + (kw - 1) * dw + 1, left + image.shape[3])
    padded = np.full((*image.shape[:2], height, width), padding, image.dtype)
    padded[:, :, top : top + image.shape[2], left : left + image.shape[3]] = image
    return [padded[:, :, i * dh :, j * dw :][:, :, ::sh, ::sw][:, :, :oh, :ow] for i in range(kh) for j in range(kw)]


@operation("max_pool")
def max_pool(call: Call) -> Array:
    return np.max(windows(call, call.values[0], np.iinfo(call.result.numpy).min), axis=0)


@operation("average_pool")
def average_pool(call: Call) -> Array:
    top, left, bottom, right = call.attributes["pads"]
    _, _, height, width = call.tensors[0].shape
    inside = np.ones((1, 1, height, width), np.int64)
    if call.attributes["count_padding"]:  # padding counts as far as it is declared, and not what ceil_mode adds
        counted = np.ones((1, 1, top + height + bottom, left + width + right), np.int64)
        shifted = Call.__new__(Call)
        shifted.attributes = {**call.attributes, "pads": (0, 0, 0, 0)}
        shifted.result = call.result
        count = sum(windows(shifted, counted, 0))
    else:
        count = sum(windows(call, inside, 0))
    if call.is_wide():
        return call.rounded(sum(np.float64(tap) for tap in windows(call, call.real(), 0)) / count)
    total = np.zeros(call.result.shape, np.float32)
    for tap in windows(call, call.real(), 0):
        total = total + tap
    return law.average(total, count, call.scale, call.zero, call.low, call.high)


@operation("global_average_pool")
def global_average_pool(call: Call) -> Array:
    acc = call.centred().sum(axis=(2, 3), keepdims=True).reshape(call.result.shape)
    _, _, height, width = call.tensors[0].shape
    multiplier = law.global_average_multiplier(scale_of(call.tensors[0]), call.scale, height * width)
    return law.requantize(acc, multiplier, call.zero, call.low, call.high)


@operation("reduce_mean", "reduce_sum", "reduce_max", "reduce_min")
def reduce(call: Call) -> Array:
    function = {"reduce_mean": np.mean, "reduce_sum": np.sum, "reduce_max": np.max, "reduce_min": np.min}[call.node.op]
    keepdims = bool(call.attributes["keepdims"])
    return call.rounded(function(np.float64(call.real()), axis=call.attributes["axes"], keepdims=keepdims))


@operation("arg_max", "arg_min")
def arg_extreme(call: Call) -> Array:
    function = np.argmax if call.node.op == "arg_max" else np.argmin
    axis, keepdims = call.attributes["axis"], bool(call.attributes["keepdims"])
    x = call.values[0]
    if call.attributes["select_last"]:
        return x.shape[axis] - 1 - function(np.flip(x, axis), axis=axis, keepdims=keepdims)
    return function(x, axis=axis, keepdims=keepdims)


@operation("resize")
def resize(call: Call) -> Array:
    attributes = call.attributes
    rows, columns = list(attributes["rows"]), list(attributes["columns"])
    if attributes["mode"] == "nearest":
        return call.values[0][:, :, rows][:, :, :, columns]
    x = np.float64(call.real())
    rows_high, columns_high = list(attributes["rows_high"]), list(attributes["columns_high"])
    down = np.array(attributes["row_weights"])[:, None]
    across = np.array(attributes["column_weights"])
    upper = x[:, :, rows][..., columns] * (1 - across) + x[:, :, rows][..., columns_high] * across
    lower = x[:, :, rows_high][..., columns] * (1 - across) + x[:, :, rows_high][..., columns_high] * across
    return call.rounded(upper * (1 - down) + lower * down)


# ----------------------------------------------------------------------------------------------------- normalizations


@operation("layer_norm")
def layer_norm(call: Call) -> Array:
    q, length = call.values[0].astype(np.int64), call.tensors[0].shape[-1]
    total, squares = q.sum(axis=-1, keepdims=True), (q * q).sum(axis=-1, keepdims=True)
    epsilon = law.layer_norm_epsilon(call.attributes["epsilon"], scale_of(call.tensors[0]), length)
    factor = law.layer_norm_factor(total, squares, length, epsilon)
    gain, offset = (law.norm_coefficient(value, call.scale) for value in call.values[1:])
    return law.normalize(length * q - total, factor, gain, offset, call.zero, call.low, call.high)


@operation("rms_norm")
def rms_norm(call: Call) -> Array:
    deviation, length = call.centred(), call.tensors[0].shape[-1]
    squares = (deviation * deviation).sum(axis=-1, keepdims=True)
    epsilon = law.rms_norm_epsilon(call.attributes["epsilon"], scale_of(call.tensors[0]), length)
    factor = law.rms_norm_factor(squares, length, epsilon)
    gain = law.norm_coefficient(call.values[1], call.scale)
    return law.normalize(deviation, factor, gain, 0.0, call.zero, call.low, call.high)


@operation("softmax")
def softmax(call: Call) -> Array:
    q, scale = call.values[0].astype(np.int64), scale_of(call.tensors[0])
    distance = q.max(axis=-1, keepdims=True) - q
    numerator = law.exp_table(scale)[distance & 255].astype(np.uint64)
    if call.tensors[0].dtype in ("s16", "u16"):
        numerator = law.softmax_numerator(numerator, law.coarse_exp_table(scale)[distance >> 8])
    total = numerator.sum(axis=-1, keepdims=True, dtype=np.uint64)
    return law.softmax(numerator, total, call.scale, call.zero, call.low, call.high)


# ------------------------------------------------------------------------------------------------------ data movement


@operation("reshape")
def reshape(call: Call) -> Array:
    return call.values[0].reshape(call.result.shape)


@operation("transpose")
def transpose(call: Call) -> Array:
    return call.values[0].transpose(call.attributes["permutation"])


@operation("slice")
def slice_(call: Call) -> Array:
    indices = [
        start + step * np.arange(extent)
        for start, step, extent in zip(
            call.attributes["starts"], call.attributes["steps"], call.result.shape, strict=True
        )
    ]
    return call.values[0][np.ix_(*indices)]


@operation("concat")
def concat(call: Call) -> Array:
    return np.concatenate(call.values, axis=call.attributes["axis"])


@operation("roll")
def roll(call: Call) -> Array:
    return np.roll(call.values[0], call.attributes["shifts"], call.attributes["axes"])


@operation("pad")
def pad(call: Call) -> Array:
    pads, rank = call.attributes["pads"], len(call.result.shape)
    widths = [(pads[axis], pads[axis + rank]) for axis in range(rank)]
    if call.attributes["mode"] == "constant":
        return np.pad(call.values[0], widths, constant_values=call.attributes["value"])
    return np.pad(call.values[0], widths, mode=call.attributes["mode"])


@operation("gather")
def gather(call: Call) -> Array:
    return np.take(call.values[0], call.values[1], axis=call.attributes["axis"])


@operation("expand")
def expand(call: Call) -> Array:
    return np.broadcast_to(call.values[0], call.result.shape)


@operation("tile")
def tile(call: Call) -> Array:
    return np.tile(call.values[0], call.attributes["repeats"])


# ---------------------------------------------------------------------------------------------------------------- CPU


@operation("cpu")
def cpu(call: Call) -> list[Array]:
    """All results; their types and shapes are checked as those of other operations are."""
    session = exact.session(call.attributes["model"])
    names = [value.name for value in session.get_inputs()]
    results = session.run(None, dict(zip(names, call.values, strict=True)))
    for result, tensor in zip(results, call.results, strict=True):
        assert (result.dtype, result.shape) == (DTYPES[tensor.dtype], tensor.shape)
    return list(results)
