"""What joins the rooms: build a model, open it like an onnxruntime session, simulate it, compare it with onnxruntime.

Used by people through ``npusim`` and by the command line. Nothing here prints; no room's own work is done here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what a type checker and an editor see; at run time __getattr__ loads the same names
    from .builder import Built as Built
    from .builder import build as build
    from .fleet import Fleet as Fleet
    from .fleet import simulate_fleet as simulate_fleet
    from .inference import InferenceSession as InferenceSession
    from .inference import NodeArg as NodeArg
    from .notebook import Simulation as Simulation
    from .notebook import simulate as simulate

__all__ = ["Built", "Fleet", "InferenceSession", "NodeArg", "Simulation", "build", "simulate", "simulate_fleet"]


def __getattr__(name: str) -> object:
    """Load the public names on first use (PEP 562), so that reading a model loads no compiler."""
    if name not in __all__:
        raise AttributeError(f"module 'npusim.session' has no attribute {name!r}", name=name)
    from . import builder, fleet, inference, notebook

    homes = {
        "Built": builder, "build": builder, "Fleet": fleet, "Simulation": notebook, "simulate": notebook,
        "simulate_fleet": fleet,
    }  # fmt: skip
    value: object = getattr(homes.get(name, inference), name)
    globals()[name] = value
    return value
