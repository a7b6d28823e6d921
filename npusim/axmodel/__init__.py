"""The ``.axmodel`` container: an ONNX protobuf that holds a model's programs and all it takes to run and describe it.

Written by ``session``, read by ``session`` and ``cli``. What a program means, and how a machine is made from the values
stored here, is not this room's business.
"""

from __future__ import annotations

from .reading import describe, is_axmodel, read
from .records import (
    ELEMENT_TYPES,
    OPERATOR,
    Axmodel,
    AxmodelError,
    CpuPart,
    Description,
    LayerName,
    NpuPart,
    Part,
    Port,
    Reason,
    ports_html,
)
from .writing import save, wrap

__all__ = ["ELEMENT_TYPES", "OPERATOR", "Axmodel", "AxmodelError", "CpuPart", "Description", "LayerName", "NpuPart",
           "Part", "Port", "Reason", "describe", "is_axmodel", "ports_html", "read", "save", "wrap"]  # fmt: skip
