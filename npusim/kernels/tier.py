"""Which implementation of the kernels runs: AVX512-VNNI, portable jitted code, or numpy.

Every public kernel asks ``active()``. Nothing here computes anything; all tiers give the same bits.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from functools import cache

from npusim.errors import UsageError

ENVIRONMENT_VARIABLE = "NPUSIM_KERNELS"

VNNI_FEATURES = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni"})
"""What the code generator must be allowed to emit for the VNNI tier (LLVM's names)."""


class Tier(Enum):
    """An implementation of the kernels, fastest first."""

    VNNI = "vnni"
    PORTABLE = "portable"
    NUMPY = "numpy"


_chosen: list[Tier] = []
"""The tier in use, last; empty until the first kernel asks."""


def active() -> Tier:
    """The tier in use, chosen at the first call: ``NPUSIM_KERNELS`` if set, else the fastest this process can run.

    Raises:
        UsageError: if ``NPUSIM_KERNELS`` names no tier, or one that this process cannot run.
    """
    return _chosen[-1] if _chosen else _choose()


@contextmanager
def forced(tier: Tier | str) -> Iterator[Tier]:
    """Run the body with ``tier``, as a test of all tiers does. Not safe across threads.

    Raises:
        UsageError: if there is no such tier, or this process cannot run it.
    """
    wanted = _parse(tier) if isinstance(tier, str) else tier
    _require(wanted)
    _chosen.append(wanted)
    try:
        yield wanted
    finally:
        _chosen.pop()


def available() -> tuple[Tier, ...]:
    """The tiers that this process can run, fastest first."""
    if not _can_compile():
        return (Tier.NUMPY,)
    if compiled_features() >= VNNI_FEATURES:
        return (Tier.VNNI, Tier.PORTABLE, Tier.NUMPY)
    return (Tier.PORTABLE, Tier.NUMPY)


@cache
def compiled_features() -> frozenset[str]:
    """CPU features that numba compiles for, by LLVM's names: the host's unless ``NUMBA_CPU_*`` says otherwise.

    Asking LLVM for the host's features would not do: with ``NUMBA_CPU_NAME=generic`` an intrinsic of a missing
    feature aborts the process.
    """
    from numba.core.registry import cpu_target

    _, _, flags = cpu_target.target_context.codegen().magic_tuple()
    return frozenset(flag[1:] for flag in flags.split(",") if flag.startswith("+"))


def _choose() -> Tier:
    wanted = os.environ.get(ENVIRONMENT_VARIABLE, "")
    tier = _parse(wanted) if wanted else available()[0]
    _require(tier)
    _chosen.append(tier)
    return tier


def _parse(name: str) -> Tier:
    try:
        return Tier(name.strip().lower())
    except ValueError:
        allowed = ", ".join(tier.value for tier in Tier)
        raise UsageError(f"{ENVIRONMENT_VARIABLE}={name!r}: not a kernel tier; allowed: {allowed}") from None


def _require(tier: Tier) -> None:
    if tier is not Tier.NUMPY and tier not in available():
        offered = ", ".join(choice.value for choice in available())
        raise UsageError(f"kernel tier {tier.value!r} cannot run here; available: {offered}")


@cache
def _can_compile() -> bool:
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return False
    return importlib.util.find_spec("numba") is not None
