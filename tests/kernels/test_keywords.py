"""One thing has one name, one place and one default in all kernels that multiply, pool or change scales."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from npusim import kernels

ORDER = (
    "kernel", "stride", "dilation", "pad", "pad_end", "count_padding", "groups", "src_transposed", "weight_layout",
    "rows", "columns", "src_scale", "dst_scale", "src_zero", "weight_zero", "bias", "partial", "multiplier", "dst_zero",
    "low", "high",
)  # fmt: skip
"""The operation, then scales, then what the accumulators need, then what the destination needs."""

PRODUCTS = (kernels.conv, kernels.conv_transpose, kernels.depthwise, kernels.matmul)
OTHERS = (kernels.max_pool, kernels.average_pool, kernels.global_average_pool, kernels.resize, kernels.requantize,
          kernels.rescale, kernels.quantize, kernels.dequantize)  # fmt: skip


def keywords(kernel):
    parameters = inspect.signature(kernel).parameters.values()
    return {x.name: x for x in parameters if x.kind is inspect.Parameter.KEYWORD_ONLY}


def operands(kernel):
    return [name for name in inspect.signature(kernel).parameters if name not in keywords(kernel)]


@pytest.mark.parametrize("kernel", [*PRODUCTS, *OTHERS])
def test_operands_and_keywords_stand_in_one_order(kernel):
    assert operands(kernel) == (["src", "weights", "dst"] if kernel in PRODUCTS else ["src", "dst"])
    assert list(keywords(kernel)) == [word for word in ORDER if word in keywords(kernel)]


@pytest.mark.parametrize("kernel", PRODUCTS)
def test_products_share_everything_behind_the_operation(kernel):
    shared = ["src_zero", "weight_zero", "bias", "partial", "multiplier", "dst_zero", "low", "high"]
    assert list(keywords(kernel))[-8:] == shared


@pytest.mark.parametrize("word", ORDER)
def test_a_keyword_has_one_type_and_one_default(word):
    found = [keywords(kernel)[word] for kernel in (*PRODUCTS, *OTHERS) if word in keywords(kernel)]
    assert found
    assert len({x.annotation for x in found}) == 1
    # Raw accumulators need no multiplier, so that it may be left out where a kernel can deliver them.
    assert len({x.default for x in found if x.default is not x.empty}) <= 1


ALL = [getattr(kernels, name) for name in kernels.__all__ if inspect.isfunction(getattr(kernels, name))]
NO_KERNELS = (kernels.active, kernels.available, kernels.forced, kernels.set_threads, kernels.warmup)


@pytest.mark.parametrize("kernel", [each for each in ALL if each not in NO_KERNELS])
def test_the_page_names_every_kernel_and_keyword(kernel):
    page = (Path(__file__).parents[2] / "docs/kernels.md").read_text()
    named = set(re.findall(r"`(\w+)`", page))
    assert {*keywords(kernel), kernel.__name__} <= named
