"""Kernels in place of ``operation()``: which one performs which instruction, and on which of its operands.

Imported by ``run`` for its entries in the registry. What an instruction without an entry does is its own
``operation``; both compute the same bits, and a test compares them for every instruction that has one.
"""

from __future__ import annotations

import functools
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
from isa.instructions.normalize import exponential_tables
from isa.instructions.parameters import Parameters
from isa.instructions.pool import resize_positions
from npusim import kernels

from .executor import executes

Array = np.ndarray[Any, Any]


def _epilogue(i: Any, partial: Any, head: Array, bias: Any, multipliers: Any, zeros: Any, dst: Array) -> dict[str, Any]:
    """The keyword arguments that every matrix kernel shares, from the operands behind the two that are multiplied."""
    p = parameters.parse(head, i.params, i.dst_type)
    multiplier: Any = None
    if i.dst_type not in (DType.S32, DType.S64):
        multiplier = p.factor_a if multipliers is None else parameters.multipliers(multipliers)
    return {
        "weight_zero": p.zero_b if zeros is None else zeros,
        "bias": bias,
        "partial": None if partial is None else partial.reshape(dst.shape),
        "multiplier": multiplier,
        "src_zero": p.zero_a,
        "dst_zero": p.zero,
    } | ({} if multiplier is None else {"low": p.low, "high": p.high})


def _geometry(i: Any) -> dict[str, Any]:
    """The window of a convolution or pooling instruction."""
    return {
        "kernel": (i.kernel_height, i.kernel_width),
        "stride": (i.stride_height, i.stride_width),
        "dilation": (i.dilation_height, i.dilation_width),
        "pad": (i.pad_top, i.pad_left),
    }


@executes(Conv)
def _conv(i: Any, src: Array, weights: Array, *rest: Any) -> None:
    kernels.conv(src, weights, rest[-1], groups=i.groups, **_geometry(i), **_epilogue(i, *rest))


@executes(ConvTranspose)
def _conv_transpose(i: Any, src: Array, weights: Array, *rest: Any) -> None:
    kernels.conv_transpose(src, weights, rest[-1], groups=i.groups, **_geometry(i), **_epilogue(i, *rest))


@executes(DepthwiseConv)
def _depthwise(i: Any, src: Array, weights: Array, *rest: Any) -> None:
    kernels.depthwise(src, weights, rest[-1], **_geometry(i), **_epilogue(i, *rest))


@executes(Matmul)
def _matmul(i: Any, a: Array, b: Array, *rest: Any) -> None:
    transposed, layout = bool(i.a_transposed), str(i.b_layout)
    kernels.matmul(a, b, rest[-1], src_transposed=transposed, weight_layout=layout, **_epilogue(i, *rest))


def _elementwise(operation: str, i: Any, a: Array, b: Array, head: Array, dst: Array) -> None:
    p = parameters.parse(head, i.params, i.dst_type)
    kernels.elementwise(
        operation, a, b, dst, a_scale=p.factor_a, b_scale=p.factor_b, dst_scale=p.factor, a_zero=p.zero_a,
        b_zero=p.zero_b, **_result(p),
    )  # fmt: skip


executes(Add)(functools.partial(_elementwise, "add"))
executes(Mul)(functools.partial(_elementwise, "mul"))
executes(Sub)(functools.partial(_elementwise, "sub"))
executes(Div)(functools.partial(_elementwise, "div"))
executes(Min)(functools.partial(_elementwise, "min"))
executes(Max)(functools.partial(_elementwise, "max"))


def _result(p: Parameters) -> dict[str, Any]:
    """Zero point and clamp of the destination."""
    return {"dst_zero": p.zero, "low": p.low, "high": p.high}


def _scaled(p: Parameters) -> dict[str, Any]:
    """Scales and zero points of one source and the destination, and the clamp."""
    return {"src_scale": p.factor_a, "dst_scale": p.factor, "src_zero": p.zero_a} | _result(p)


@executes(Lookup)
def _lookup(_: Any, src: Array, table: Array, dst: Array) -> None:
    kernels.lookup(src, table, dst)


@executes(Requantize)
def _requantize(i: Any, src: Array, head: Array, multipliers: Any, dst: Array) -> None:
    p = parameters.parse(head, i.params, i.dst_type)
    if i.dst_type in (DType.S32, DType.S64):
        kernels.requantize(src, dst, src_zero=p.zero_a)
        return
    multiplier = p.factor_a if multipliers is None else parameters.multipliers(multipliers)
    kernels.requantize(src, dst, multiplier=multiplier, src_zero=p.zero_a, **_result(p))


@executes(Rescale)
def _rescale(i: Any, src: Array, head: Array, dst: Array) -> None:
    kernels.rescale(src, dst, **_scaled(parameters.parse(head, i.params, i.dst_type)))


@executes(Quantize)
def _quantize(i: Any, src: Array, head: Array, dst: Array) -> None:
    p = parameters.parse(head, i.params, i.dst_type)
    kernels.quantize(src, dst, dst_scale=p.factor, dst_zero=p.zero, low=p.low, high=p.high)


@executes(Dequantize)
def _dequantize(i: Any, src: Array, head: Array, dst: Array) -> None:
    p = parameters.parse(head, i.params, DType.F32)
    kernels.dequantize(src, dst, src_scale=p.factor_a, src_zero=p.zero_a)


@executes(MaxPool)
def _max_pool(i: Any, src: Array, dst: Array) -> None:
    kernels.max_pool(src, dst, **_geometry(i))


@executes(AveragePool)
def _average_pool(i: Any, src: Array, head: Array, dst: Array) -> None:
    p = parameters.parse(head, i.params, i.dst_type)
    kernels.average_pool(
        src, dst, count_padding=bool(i.count_padding), pad_end=(i.pad_bottom, i.pad_right), **_geometry(i), **_scaled(p)
    )


@executes(GlobalAveragePool)
def _global_average_pool(i: Any, src: Array, head: Array, dst: Array) -> None:
    p = parameters.parse(head, i.params, i.dst_type)
    kernels.global_average_pool(src, dst, multiplier=p.factor_a, src_zero=p.zero_a, **_result(p))


def _reduce(operation: str, i: Any, src: Array, head: Array, dst: Array) -> None:
    p = parameters.parse(head, i.params, i.dst_type)
    kernels.reduce(operation, src, dst.reshape(i.outer, i.inner), **_scaled(p))


executes(ReduceSum)(functools.partial(_reduce, "sum"))
executes(ReduceMean)(functools.partial(_reduce, "mean"))
executes(ReduceMax)(functools.partial(_reduce, "max"))
executes(ReduceMin)(functools.partial(_reduce, "min"))


def _locate(operation: str, i: Any, src: Array, dst: Array) -> None:
    kernels.arg_reduce(operation, src, dst.reshape(i.outer, i.inner), select_last=bool(i.select_last))


executes(ArgMax)(functools.partial(_locate, "max"))
executes(ArgMin)(functools.partial(_locate, "min"))


@executes(Resize)
def _resize(i: Any, src: Array, head: Array, table: Array, dst: Array) -> None:
    p = parameters.parse(head, i.params, i.dst_type)
    rows, columns = resize_positions(i, table)
    kernels.resize(src, dst, rows=rows, columns=columns, **_scaled(p))


@executes(LayerNorm)
def _layer_norm(i: Any, src: Array, head: Array, gain: Array, offset: Array, dst: Array) -> None:
    p = parameters.positive(parameters.parse(head, i.params, i.dst_type), "layer_norm")
    kernels.layer_norm(
        src, dst, gain=parameters.finite(gain, "the gain"), offset=parameters.finite(offset, "the offset"),
        src_scale=p.factor_a, epsilon=p.factor_b, dst_scale=p.factor, **_result(p),
    )  # fmt: skip


@executes(RmsNorm)
def _rms_norm(i: Any, src: Array, head: Array, gain: Array, dst: Array) -> None:
    p = parameters.positive(parameters.parse(head, i.params, i.dst_type), "rms_norm")
    kernels.rms_norm(
        src, dst, gain=parameters.finite(gain, "the gain"), src_scale=p.factor_a, src_zero=p.zero_a,
        epsilon=p.factor_b, dst_scale=p.factor, **_result(p),
    )  # fmt: skip


@executes(Softmax)
def _softmax(i: Any, src: Array, head: Array, table: Array, dst: Array) -> None:
    p = parameters.parse(head, i.params, i.dst_type)
    tables = exponential_tables(table)
    kernels.softmax(
        src, dst, table=tables[0], coarse_table=tables[1] if len(tables) == 2 else None, dst_scale=p.factor,
        valid=i.valid if i.masked else None, **_result(p),
    )  # fmt: skip
