"""npusim: a cycle-accurate simulator framework for a three-core INT8 NPU.

What a user imports by hand lives here as a name; each is loaded when it is first asked for, so that ``import npusim``
costs nothing and a command that needs no kernel compiles none. No code but that belongs here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what a type checker and an editor see; at run time __getattr__ loads the same names
    from npusim.errors import NpusimError as NpusimError
    from npusim.session.builder import build as build
    from npusim.session.fleet import simulate_fleet as simulate_fleet
    from npusim.session.inference import InferenceSession as InferenceSession
    from npusim.session.inference import NodeArg as NodeArg
    from npusim.session.inference import get_all_providers as get_all_providers
    from npusim.session.inference import get_available_providers as get_available_providers
    from npusim.session.notebook import simulate as simulate
    from npusim.session.plans import compare_plans as compare_plans

__version__ = "0.1.0"

_PUBLIC: dict[str, str] = {
    # public name -> the module that defines it
    "InferenceSession": "npusim.session.inference",
    "NodeArg": "npusim.session.inference",
    "NpusimError": "npusim.errors",
    "build": "npusim.session.builder",
    "compare_plans": "npusim.session.plans",
    "get_all_providers": "npusim.session.inference",
    "get_available_providers": "npusim.session.inference",
    "simulate": "npusim.session.notebook",
    "simulate_fleet": "npusim.session.fleet",
}

__all__ = ["InferenceSession", "NodeArg", "NpusimError", "__version__", "build", "compare_plans", "get_all_providers",
           "get_available_providers", "simulate", "simulate_fleet"]  # fmt: skip


def __getattr__(name: str) -> object:
    """Load a public name on first use (PEP 562) and keep it."""
    module = _PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module 'npusim' has no attribute {name!r}", name=name)
    value: object = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not, beside the module's own."""
    return sorted({*globals(), *_PUBLIC})
