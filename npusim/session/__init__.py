"""What joins the rooms: build a model, open it like an onnxruntime session, simulate it, compare it with onnxruntime.

Used by people through ``npusim`` and by the command line. Nothing here prints; no room's own work is done here.
"""

from __future__ import annotations

from npusim.session.builder import Built, build
from npusim.session.inference import InferenceSession, NodeArg, get_all_providers, get_available_providers
from npusim.session.notebook import Simulation, simulate

__all__ = ["Built", "InferenceSession", "NodeArg", "Simulation", "build", "get_all_providers",
           "get_available_providers", "simulate"]  # fmt: skip
