"""Which tier runs, in processes of their own: forced ones, ones without a compiler, ones for a CPU without features."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from npusim import kernels

PROGRAM = """
import sys
import numpy as np
from npusim import kernels
assert "numba" not in sys.modules, "importing the kernels must not import the compiler"
a = np.arange(12, dtype=np.uint8).reshape(3, 4)
dst = np.empty((3, 4), np.uint8)
kernels.lookup(a, np.arange(256, dtype=np.uint8)[::-1].copy(), dst)
assert (dst == 255 - a).all()
product = np.empty((3, 3), np.int32)
kernels.matmul(a, a, product, weight_layout="transposed")
assert (product == a.astype(int) @ a.T.astype(int)).all()
print(kernels.active().value)
"""


def tier_of(**environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "NPUSIM_"))}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], env=inherited | environment, capture_output=True, text=True, check=False
    )


def test_fastest_tier_is_the_default():
    assert tier_of().stdout.strip() == kernels.available()[0].value


@pytest.mark.parametrize("tier", kernels.available(), ids=lambda tier: tier.value)
def test_environment_forces_a_tier(tier):
    assert tier_of(NPUSIM_KERNELS=tier.value).stdout.strip() == tier.value


def test_without_a_compiler_numpy_computes():
    assert tier_of(NUMBA_DISABLE_JIT="1").stdout.strip() == "numpy"


@pytest.mark.slow  # compiles for another CPU
def test_a_generic_cpu_takes_the_portable_tier():
    result = tier_of(NUMBA_CPU_NAME="generic")
    assert result.stdout.strip() == "portable", result.stderr


@pytest.mark.parametrize("module", ["matrix_vnni", "depthwise_vnni"])
def test_kernels_for_missing_features_refuse_to_load_where_llvm_would_abort(module):
    program = f"import npusim.kernels.compiled.{module}"
    environment = os.environ | {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "ImportError: these kernels need CPU features that numba does not compile for here: avx512" in result.stderr


def test_unknown_tier_is_refused_with_the_known_ones():
    result = tier_of(NPUSIM_KERNELS="fast")
    assert result.returncode != 0
    assert "'fast': not a kernel tier; allowed: vnni, portable, numpy" in result.stderr


def test_impossible_tier_is_refused():
    result = tier_of(NPUSIM_KERNELS="portable", NUMBA_DISABLE_JIT="1")
    assert "cannot run here; available: numpy" in result.stderr


@pytest.mark.skipif(kernels.Tier.PORTABLE not in kernels.available(), reason="nothing is compiled here")
def test_second_process_compiles_nothing():
    program = (
        "from npusim.kernels.compiled import build\n"
        "made = []\n"
        "build.listeners.append(lambda name, compiled: made.append((name, compiled)))\n"
        "from npusim.kernels.compiled import lookup\n"
        "print(made)\n"
    )
    outputs = [subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
               for _ in range(2)]  # fmt: skip
    assert "bytes_to_bytes" in outputs[1]
    assert "True" not in outputs[1]


@pytest.mark.parametrize("tier", kernels.available(), ids=lambda tier: tier.value)
def test_warmup_counts_to_its_end(tier):
    with kernels.forced(tier):
        steps = list(kernels.warmup())
    assert [done for _, done, _ in steps] == list(range(1, len(steps) + 1))
    assert all(total == len(steps) for _, _, total in steps)
