"""Each instruction run by the kernel made for it, on views of a memory: what the tests hold against ``operation()``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import isa.instructions as I
from isa.dtypes import DType
from isa.instructions import parameters
from isa.memory import Memory
from npusim import kernels

BINDINGS: dict[type, Callable[[Any, Memory], None]] = {}


def binds(*classes: type) -> Callable[[Callable[[Any, Memory], None]], Callable[[Any, Memory], None]]:
    """Register the function as the kernel call of some instructions."""

    def register(function):
        BINDINGS.update(dict.fromkeys(classes, function))
        return function

    return register


def _head(i: Any, memory: Memory) -> Any:
    return parameters.read(memory, i.params, getattr(i, "dst_type", DType.F32))


def _epilogue(i: Any, memory: Memory, channels: int, shape: tuple[int, ...]) -> dict[str, Any]:
    p = _head(i, memory)
    _, bias, multipliers, zeros = i.block(channels)
    raw = i.dst_type in (DType.S32, DType.S64)
    return {
        "weight_zero": memory.view(zeros) if i.channel_zeros else p.zero_b,
        "bias": memory.view(bias) if i.has_bias else None,
        "partial": memory.view(i.partial_region(int(np.prod(shape)))).reshape(shape) if i.accumulate else None,
        "multiplier": None if raw else memory.view(multipliers) if i.per_channel else p.factor_a,
        "dst_zero": p.zero,
        "low": None if raw else p.low,
        "high": None if raw else p.high,
        "src_zero": p.zero_a,
    }


def _window(i: Any) -> dict[str, Any]:
    return {
        "kernel": (i.kernel_height, i.kernel_width),
        "stride": (i.stride_height, i.stride_width),
        "dilation": (i.dilation_height, i.dilation_width),
        "pad": (i.pad_top, i.pad_left),
    }


@binds(I.Conv, I.ConvTranspose)
def _conv(i, memory):
    kernel = kernels.conv if isinstance(i, I.Conv) else kernels.conv_transpose
    dst = memory.view(i.writes()[0])
    kernel(memory.view(i.reads()[0]), memory.view(i.weight_region()), dst, **_window(i), groups=i.groups,
           **_epilogue(i, memory, i.out_channels, dst.shape))  # fmt: skip


@binds(I.DepthwiseConv)
def _depthwise(i, memory):
    dst = memory.view(i.writes()[0])
    kernels.depthwise(memory.view(i.reads()[0]), memory.view(i.weight_region()), dst, **_window(i),
                      **_epilogue(i, memory, i.in_channels, dst.shape))  # fmt: skip


@binds(I.Matmul)
def _matmul(i, memory):
    dst = memory.view(i.writes()[0])
    kernels.matmul(memory.view(i.reads()[0]), memory.view(i.reads()[1]), dst, src_transposed=bool(i.a_transposed),
                   weight_layout=str(i.b_layout), **_epilogue(i, memory, i.n, dst.shape))  # fmt: skip


@binds(I.Add, I.Sub, I.Mul, I.Div, I.Min, I.Max)
def _elementwise(i, memory):
    p = _head(i, memory)
    a, b, dst = (memory.view(r) for r in (*i.reads()[:2], *i.writes()))
    kernels.elementwise(
        type(i).__name__.lower(), a, b, dst, a_scale=p.factor_a, b_scale=p.factor_b, dst_scale=p.factor,
        a_zero=p.zero_a, b_zero=p.zero_b, dst_zero=p.zero, low=p.low, high=p.high,
    )  # fmt: skip


@binds(I.Lookup)
def _lookup(i, memory):
    src, table = (memory.view(r) for r in i.reads())
    kernels.lookup(src, table, memory.view(i.writes()[0]))


@binds(I.Requantize)
def _requantize(i, memory):
    p = _head(i, memory)
    raw = i.dst_type in (DType.S32, DType.S64)
    multiplier = memory.view(i.multipliers()) if i.per_channel else p.factor_a
    kernels.requantize(
        memory.view(i.reads()[0]), memory.view(i.writes()[0]), multiplier=None if raw else multiplier,
        src_zero=p.zero_a, dst_zero=p.zero, low=p.low, high=p.high,
    )  # fmt: skip


@binds(I.Rescale)
def _rescale(i, memory):
    p = _head(i, memory)
    kernels.rescale(memory.view(i.reads()[0]), memory.view(i.writes()[0]), src_scale=p.factor_a, dst_scale=p.factor,
                    src_zero=p.zero_a, dst_zero=p.zero, low=p.low, high=p.high)  # fmt: skip


@binds(I.Quantize)
def _quantize(i, memory):
    p = _head(i, memory)
    src, dst = memory.view(i.reads()[0]), memory.view(i.writes()[0])
    kernels.quantize(src, dst, dst_scale=p.factor, dst_zero=p.zero, low=p.low, high=p.high)


@binds(I.Dequantize)
def _dequantize(i, memory):
    p = _head(i, memory)
    kernels.dequantize(memory.view(i.reads()[0]), memory.view(i.writes()[0]), src_scale=p.factor_a, src_zero=p.zero_a)


@binds(I.LayerNorm)
def _layer_norm(i, memory):
    p = _head(i, memory)
    kernels.layer_norm(
        memory.view(i.reads()[0]), memory.view(i.writes()[0]), gain=memory.view(i.gain()),
        offset=memory.view(i.offset()), src_scale=p.factor_a, epsilon=p.factor_b, dst_scale=p.factor, dst_zero=p.zero,
        low=p.low, high=p.high,
    )  # fmt: skip


@binds(I.RmsNorm)
def _rms_norm(i, memory):
    p = _head(i, memory)
    kernels.rms_norm(
        memory.view(i.reads()[0]), memory.view(i.writes()[0]), gain=memory.view(i.gain()), src_scale=p.factor_a,
        src_zero=p.zero_a, epsilon=p.factor_b, dst_scale=p.factor, dst_zero=p.zero, low=p.low, high=p.high,
    )  # fmt: skip


@binds(I.Softmax)
def _softmax(i, memory):
    p, tables = _head(i, memory), i.read_tables(memory)
    kernels.softmax(
        memory.view(i.reads()[0]), memory.view(i.writes()[0]), table=tables[0],
        coarse_table=tables[1] if len(tables) == 2 else None, dst_scale=p.factor, dst_zero=p.zero, low=p.low,
        high=p.high, valid=i.valid if i.masked else None,
    )  # fmt: skip


@binds(I.MaxPool)
def _max_pool(i, memory):
    kernels.max_pool(memory.view(i.reads()[0]), memory.view(i.writes()[0]), **_window(i))


def _scales(p: Any) -> dict[str, Any]:
    return {"src_scale": p.factor_a, "dst_scale": p.factor, "src_zero": p.zero_a, "dst_zero": p.zero, "low": p.low,
            "high": p.high}  # fmt: skip


@binds(I.AveragePool)
def _average_pool(i, memory):
    kernels.average_pool(
        memory.view(i.reads()[0]), memory.view(i.writes()[0]), **_window(i), count_padding=bool(i.count_padding),
        pad_end=(i.pad_bottom, i.pad_right), **_scales(_head(i, memory)),
    )  # fmt: skip


@binds(I.GlobalAveragePool)
def _global_average_pool(i, memory):
    p = _head(i, memory)
    kernels.global_average_pool(
        memory.view(i.reads()[0]), memory.view(i.writes()[0]), multiplier=p.factor_a, src_zero=p.zero_a,
        dst_zero=p.zero, low=p.low, high=p.high,
    )  # fmt: skip


@binds(I.ReduceSum, I.ReduceMean, I.ReduceMax, I.ReduceMin)
def _reduce(i, memory):
    dst = memory.view(i.writes()[0]).reshape(i.outer, i.inner)
    name = type(i).__name__.removeprefix("Reduce").lower()
    kernels.reduce(name, memory.view(i.reads()[0]), dst, **_scales(_head(i, memory)))


@binds(I.ArgMax, I.ArgMin)
def _arg_reduce(i, memory):
    dst = memory.view(i.writes()[0]).reshape(i.outer, i.inner)
    name = type(i).__name__.removeprefix("Arg").lower()
    kernels.arg_reduce(name, memory.view(i.reads()[0]), dst, select_last=bool(i.select_last))


@binds(I.Resize)
def _resize(i, memory):
    rows, columns = i.positions(memory)
    kernels.resize(memory.view(i.reads()[0]), memory.view(i.writes()[0]), rows=rows, columns=columns,
                   **_scales(_head(i, memory)))  # fmt: skip


@binds(I.Copy)
def _copy(i, memory):
    kernels.copy(memory.view(i.operand("src")), memory.view(i.operand("dst")))


@binds(I.Transpose)
def _transpose(i, memory):
    kernels.copy(memory.view(i.reads()[0]).swapaxes(1, 2), memory.view(i.writes()[0]))


@binds(I.Gather)
def _gather(i, memory):
    table, indices = i.reads()
    kernels.gather(memory.view(table), memory.view(indices), memory.view(i.writes()[0]))
