"""Kernels in place of ``operation()``: which one performs which instruction, and on which views.

Imported by the executor for its entries in the registry. What an instruction without an entry does is its own
``operation``; both compute the same bits, and a test compares them for every instruction that has one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from isa.dtypes import DType
from isa.instructions import (
    Add,
    ArgMax,
    ArgMin,
    AveragePool,
    Conv,
    ConvTranspose,
    DepthwiseConv,
    Dequantize,
    Div,
    GlobalAveragePool,
    LayerNorm,
    Lookup,
    Matmul,
    MatrixLayout,
    Max,
    MaxPool,
    Min,
    Mul,
    Quantize,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    ReduceSum,
    Requantize,
    Rescale,
    Resize,
    RmsNorm,
    Softmax,
    Sub,
    parameters,
)
from isa.instructions.matrix import Epilogue
from isa.instructions.parameters import Parameters
from isa.memory import Memory
from npusim import kernels

from .executor import executes


def _epilogue(i: Epilogue, memory: Memory, shape: tuple[int, ...]) -> dict[str, Any]:
    """The keyword arguments that every matrix kernel shares; ``shape`` is the destination's."""
    head = parameters.read(memory, i.params, i.dst_type)
    _, bias, multipliers, zeros = i.block(shape[-1])
    multiplier: Any = None
    if i.dst_type not in (DType.S32, DType.S64):
        multiplier = head.factor_a
        if i.per_channel:
            multiplier = parameters.multipliers(memory.view(multipliers))
    partial = None
    if i.accumulate:
        partial = memory.view(i.partial_region(int(np.prod(shape)))).reshape(shape)
    return {
        "weight_zero": memory.view(zeros) if i.channel_zeros else head.zero_b,
        "bias": memory.view(bias) if i.has_bias else None,
        "partial": partial,
        "multiplier": multiplier,
        "src_zero": head.zero_a,
        "dst_zero": head.zero,
    } | ({} if multiplier is None else {"low": head.low, "high": head.high})


def _geometry(i: Any) -> dict[str, Any]:
    """The window of a convolution or pooling instruction."""
    return {
        "kernel": (i.kernel_height, i.kernel_width),
        "stride": (i.stride_height, i.stride_width),
        "dilation": (i.dilation_height, i.dilation_width),
        "pad": (i.pad_top, i.pad_left),
    }


@executes(Conv)
def _conv(i: Conv, memory: Memory) -> None:
    dst = memory.view(i.writes()[0])
    src, weights = memory.view(i.source(i.src_type)), memory.view(i.weight_region())
    kernels.conv(src, weights, dst, groups=i.groups, **_geometry(i), **_epilogue(i, memory, dst.shape))


@executes(ConvTranspose)
def _conv_transpose(i: ConvTranspose, memory: Memory) -> None:
    dst = memory.view(i.writes()[0])
    src, weights = memory.view(i.source(i.src_type)), memory.view(i.weight_region())
    kernels.conv_transpose(src, weights, dst, groups=i.groups, **_geometry(i), **_epilogue(i, memory, dst.shape))


@executes(DepthwiseConv)
def _depthwise(i: DepthwiseConv, memory: Memory) -> None:
    dst = memory.view(i.writes()[0])
    src, weights = memory.view(i.source(i.src_type)), memory.view(i.weight_region())
    kernels.depthwise(src, weights, dst, **_geometry(i), **_epilogue(i, memory, dst.shape))


@executes(Matmul)
def _matmul(i: Matmul, memory: Memory) -> None:
    a, b, dst = memory.view(i.a_region()), memory.view(i.b_region()), memory.view(i.writes()[0])
    layout = str(MatrixLayout(i.b_layout))
    kernels.matmul(
        a, b, dst, src_transposed=bool(i.a_transposed), weight_layout=layout, **_epilogue(i, memory, dst.shape)
    )


_ELEMENTWISE = {Add: "add", Mul: "mul", Sub: "sub", Div: "div", Min: "min", Max: "max"}


@executes(*_ELEMENTWISE)
def _elementwise(i: Any, memory: Memory) -> None:
    p = parameters.read(memory, i.params, i.dst_type)
    a, b, _ = i.reads()
    kernels.elementwise(
        _ELEMENTWISE[type(i)],
        memory.view(a),
        memory.view(b),
        memory.view(i.writes()[0]),
        a_scale=p.factor_a,
        b_scale=p.factor_b,
        dst_scale=p.factor,
        a_zero=p.zero_a,
        b_zero=p.zero_b,
        **_result(p),
    )


def _result(p: Parameters) -> dict[str, Any]:
    """Zero point and clamp of the destination."""
    return {"dst_zero": p.zero, "low": p.low, "high": p.high}


def _scaled(p: Parameters) -> dict[str, Any]:
    """Scales and zero points of one source and the destination, and the clamp."""
    return {"src_scale": p.factor_a, "dst_scale": p.factor, "src_zero": p.zero_a} | _result(p)


@executes(Lookup)
def _lookup(i: Lookup, memory: Memory) -> None:
    src, table = i.reads()
    kernels.lookup(memory.view(src), memory.view(table), memory.view(i.writes()[0]))


@executes(Requantize)
def _requantize(i: Requantize, memory: Memory) -> None:
    p = parameters.read(memory, i.params, i.dst_type)
    src, dst = memory.view(i.source(i.src_type)), memory.view(i.writes()[0])
    if i.dst_type in (DType.S32, DType.S64):
        kernels.requantize(src, dst, src_zero=p.zero_a)
        return
    multiplier = p.factor_a
    if i.per_channel:
        multiplier = parameters.multipliers(memory.view(i.multipliers()))
    kernels.requantize(src, dst, multiplier=multiplier, src_zero=p.zero_a, **_result(p))


@executes(Rescale)
def _rescale(i: Rescale, memory: Memory) -> None:
    p = parameters.read(memory, i.params, i.dst_type)
    kernels.rescale(memory.view(i.source(i.src_type)), memory.view(i.writes()[0]), **_scaled(p))


@executes(Quantize)
def _quantize(i: Quantize, memory: Memory) -> None:
    p = parameters.read(memory, i.params, i.dst_type)
    src, dst = memory.view(i.source(DType.F32)), memory.view(i.writes()[0])
    kernels.quantize(src, dst, scale=p.factor, zero=p.zero, low=p.low, high=p.high)


@executes(Dequantize)
def _dequantize(i: Dequantize, memory: Memory) -> None:
    p = parameters.read(memory, i.params, DType.F32)
    src, dst = memory.view(i.source(i.src_type)), memory.view(i.writes()[0])
    kernels.dequantize(src, dst, scale=p.factor_a, zero=p.zero_a)


@executes(MaxPool)
def _max_pool(i: MaxPool, memory: Memory) -> None:
    kernels.max_pool(memory.view(i.source(i.data_type)), memory.view(i.writes()[0]), **_geometry(i))


@executes(AveragePool)
def _average_pool(i: AveragePool, memory: Memory) -> None:
    p = parameters.read(memory, i.params, i.dst_type)
    kernels.average_pool(
        memory.view(i.source(i.src_type)),
        memory.view(i.writes()[0]),
        count_padding=bool(i.count_padding),
        pad_end=(i.pad_bottom, i.pad_right),
        **_geometry(i),
        **_scaled(p),
    )


@executes(GlobalAveragePool)
def _global_average_pool(i: GlobalAveragePool, memory: Memory) -> None:
    p = parameters.read(memory, i.params, i.dst_type)
    src, dst = memory.view(i.reads()[0]), memory.view(i.writes()[0])
    kernels.global_average_pool(src, dst, multiplier=p.factor_a, src_zero=p.zero_a, **_result(p))


_REDUCTIONS = {ReduceSum: "sum", ReduceMean: "mean", ReduceMax: "max", ReduceMin: "min", ArgMax: "max", ArgMin: "min"}


@executes(ReduceSum, ReduceMean, ReduceMax, ReduceMin)
def _reduce(i: Any, memory: Memory) -> None:
    p = parameters.read(memory, i.params, i.dst_type)
    dst = memory.view(i.writes()[0]).reshape(i.outer, i.inner)
    kernels.reduce(_REDUCTIONS[type(i)], memory.view(i.source()), dst, **_scaled(p))


@executes(ArgMax, ArgMin)
def _locate(i: Any, memory: Memory) -> None:
    dst = memory.view(i.writes()[0]).reshape(i.outer, i.inner)
    kernels.arg_reduce(_REDUCTIONS[type(i)], memory.view(i.source()), dst, select_last=bool(i.select_last))


@executes(Resize)
def _resize(i: Resize, memory: Memory) -> None:
    p = parameters.read(memory, i.params, i.dst_type)
    rows, columns = i.positions(memory)
    src, dst = memory.view(i.reads()[0]), memory.view(i.writes()[0])
    kernels.resize(src, dst, rows=rows, columns=columns, **_scaled(p))


@executes(LayerNorm)
def _layer_norm(i: LayerNorm, memory: Memory) -> None:
    p = i.read_block(memory)
    kernels.layer_norm(
        memory.view(i.source()),
        memory.view(i.writes()[0]),
        gain=parameters.finite(memory.view(i.gain()), "the gain"),
        offset=parameters.finite(memory.view(i.offset()), "the offset"),
        src_scale=p.factor_a,
        epsilon=p.factor_b,
        dst_scale=p.factor,
        **_result(p),
    )


@executes(RmsNorm)
def _rms_norm(i: RmsNorm, memory: Memory) -> None:
    p = i.read_block(memory)
    kernels.rms_norm(
        memory.view(i.source()),
        memory.view(i.writes()[0]),
        gain=parameters.finite(memory.view(i.gain()), "the gain"),
        src_scale=p.factor_a,
        src_zero=p.zero_a,
        epsilon=p.factor_b,
        dst_scale=p.factor,
        **_result(p),
    )


@executes(Softmax)
def _softmax(i: Softmax, memory: Memory) -> None:
    p = parameters.read(memory, i.params, i.dst_type)
    tables = i.read_tables(memory)
    kernels.softmax(
        memory.view(i.source()),
        memory.view(i.writes()[0]),
        table=tables[0],
        coarse_table=tables[1] if len(tables) == 2 else None,
        dst_scale=p.factor,
        valid=i.valid if i.masked else None,
        **_result(p),
    )
