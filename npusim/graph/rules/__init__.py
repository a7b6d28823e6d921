"""One rule per ONNX operator: which integer operation gives its result, and what it needs for that.

Importing this package fills ``refusal.ENTRIES`` and the tables below. A new operator is one function in one of these
files; its constraints are predicates whose docstrings are the refusal messages.
"""

from __future__ import annotations

from . import choosing, elementwise, groups, matrix, movement, normalization, picking, pooling, resizing
from .expression import express
from .integer import INTEGER_RULES
from .movement import MOVES

__all__ = ["INTEGER_RULES", "MOVES", "choosing", "elementwise", "express", "groups", "matrix", "movement",
           "normalization", "picking", "pooling", "resizing"]  # fmt: skip
