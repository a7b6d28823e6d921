"""Model recipes that write ONNX files: ``python -m models swin_t -o swin_t.onnx``.

A tool of the checkout, no part of the installed package; it knows neither npusim nor isa. From Python:
``models.build("swin_t")`` returns the model.
"""

from .errors import ModelError, ParameterError, ShapeError, UnknownModelError
from .recipe import Recipe, build, find, recipes

__all__ = ["ModelError", "ParameterError", "Recipe", "ShapeError", "UnknownModelError", "build", "find", "recipes"]
