"""Recipes: how to make a small case of each instruction that runs.

One per family, entered in ``RECIPES`` by class; a new instruction joins with ``recipe``. A recipe draws a shape,
places the operands in an ``Arena`` and names them in an instruction. What an instruction computes is not known here.
"""

from . import matrix, movement, normalization, pooling, vector
from .registry import RECIPES, recipe, recipe_of

assert all((matrix, movement, normalization, pooling, vector)), "imported for their entries in RECIPES"

__all__ = ["RECIPES", "recipe", "recipe_of"]
