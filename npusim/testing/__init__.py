"""Hypothesis strategies and checks for whoever writes instructions, kernels or programs.

Imported by tests only, ours and users'; hypothesis is no dependency of npusim itself and is imported nowhere else.
"""

from __future__ import annotations

try:
    import hypothesis as _hypothesis
except ImportError as missing:
    raise ImportError("npusim.testing needs hypothesis: pip install hypothesis") from missing

from .arena import Arena
from .instructions import instructions, runnable, words
from .kernel import check_kernel
from .recipes import RECIPES, recipe

assert _hypothesis.__version__, "imported first, so that its absence is said plainly"

__all__ = ["RECIPES", "Arena", "check_kernel", "instructions", "recipe", "runnable", "words"]
