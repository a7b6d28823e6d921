"""The precision of a model's layers, as a build leaves it beside the model: read, not measured.

Used by ``profile``'s callers. ``npusim.quant`` measures it and writes the file.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from npusim.errors import UsageError

PRECISION_FILE = "quant/debug/precision_analysis.json"
"""Where a build puts the file, relative to the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPrecision:
    """How far a layer's quantized result is from the float one.

    Attributes:
        name: of the layer.
        op: its operation.
        dtype: of its result, such as ``u8``.
        cosine: similarity of the two results, 1 where they point the same way.
        snr_db: signal to noise ratio; infinite where they are equal.
        max_abs_error: largest difference, in the result's own unit.
    """

    name: str
    op: str
    dtype: str
    cosine: float
    snr_db: float
    max_abs_error: float


def read_precision(text: str, source: str) -> tuple[LayerPrecision, ...]:
    """The layers and then the outputs of a precision analysis.

    Args:
        text: the file's.
        source: its name, for messages.

    Raises:
        UsageError: not what a build writes.
    """
    try:
        record = json.loads(text)
        return tuple(_layer(row) for row in (*record["layers"], *record["outputs"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{source} is no precision analysis of a build: {error!r}") from error


def _layer(row: dict[str, Any]) -> LayerPrecision:
    name, op, dtype = row["layer"], row["op"], row["dtype"]
    if not all(isinstance(text, str) for text in (name, op, dtype)):
        raise TypeError("names are texts")
    ratio = row["snr_db"]  # JSON has no infinity
    return LayerPrecision(
        name=name, op=op, dtype=dtype, cosine=float(row["cosine"]),
        snr_db=math.inf if ratio is None else float(ratio), max_abs_error=float(row["max_error"]),
    )  # fmt: skip
