"""The VNNI tier without its hardware: its kernels computed by what its instructions mean, and compiled with them.

In processes of their own, so that no kernel made here is ever found by another.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from npusim import kernels
from tests.kernels.avx512 import FEATURES, MEANINGS

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(kernels.available() == (kernels.Tier.NUMPY,), reason="nothing is compiled here")


def finished(*arguments: str, **environment: str) -> str:
    """What a Python process prints that ends well, its tier and its caches its own."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "NPUSIM_", "PYTEST_"))}
    result = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=inherited | environment, capture_output=True,
                            text=True, check=False)  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def emulated(*arguments: str) -> tuple[set[str], set[str]]:
    """Run tests on an emulated VNNI tier: the intrinsics and the kernels of that tier that were reached."""
    printed = finished("-m", "pytest", "-p", "tests.kernels.avx512", "-p", "no:cacheprovider", "-n", "0", "-q",
                       *arguments)  # fmt: skip
    assert " skipped" not in printed
    lines = dict(line.partition(" ")[::2] for line in printed.splitlines())
    return set(lines["emulated"].split()), set(lines["kernels"].split())


def test_depthwise_and_softmax_are_exact():
    instructions, modules = emulated("tests/kernels/test_differential.py", "-k", "vnni and (DepthwiseConv or Softmax)")
    assert {"llvm.x86.avx512.vpdpbusd.512", "llvm.x86.avx512.vpermi2var.qi.512"} <= instructions
    assert modules == {"depthwise_vnni"}


@pytest.mark.slow
def test_every_kernel_is_exact():
    instructions, modules = emulated(
        *(f"tests/kernels/test_{name}.py" for name in ("differential", "wide", "threads")), "-k", "vnni or threads",
        "--hypothesis-profile=thorough",
    )  # fmt: skip
    assert instructions == set(MEANINGS)
    assert modules == {"matrix_vnni", "depthwise_vnni"}


@pytest.mark.slow
def test_every_kernel_equals_onnxruntime():
    _, modules = emulated("tests/kernels/test_onnxruntime.py", "-m", "slow")
    assert modules == {"matrix_vnni", "depthwise_vnni"}


PROGRAM = """
from npusim.kernels.compiled import depthwise_vnni, elementwise, lookup, matrix_vnni, normalize, rescale
kernels = [matrix_vnni.conv, matrix_vnni.matmul, depthwise_vnni.depthwise, elementwise.bytes_by_bytes,
           lookup.bytes_to_bytes, normalize.norm_bytes, normalize.softmax_bytes, rescale.words_to_bytes]
for kernel in kernels:
    print(kernel.__name__, *sorted({line.split()[0] for text in kernel.inspect_asm().values()
                                    for line in text.splitlines() if line.startswith("\\tv")}))
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="numba compiles for x86 on x86 only")
def test_the_instructions_themselves_are_compiled(tmp_path):
    """LLVM takes every intrinsic for a CPU that has it; nothing that was compiled is called."""
    features = ",".join(f"+{name}" for name in sorted({"sse2", "avx", "avx2", "fma", *FEATURES}))
    printed = finished(
        "-c", PROGRAM, NUMBA_CPU_NAME="znver4", NUMBA_CPU_FEATURES=features, NUMBA_CACHE_DIR=str(tmp_path)
    )
    found = {name: set(rest) for name, *rest in (line.split() for line in printed.splitlines())}
    assert all("vpdpbusd" in found[name] for name in ("conv", "matmul", "depthwise"))
    assert all("vpermi2b" in found[name] or "vpermt2b" in found[name] for name in ("bytes_to_bytes", "softmax_bytes"))
    packing = {"vpackssdw", "vpacksswb"}
    assert all(packing <= found[name] for name in found if name != "bytes_to_bytes")
