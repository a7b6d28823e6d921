import json
import math

import pytest

from npusim.errors import UsageError
from npusim.report.precision import read_precision

ROW = {"layer": "/fc", "op": "MatMul", "tensor": "y", "dtype": "u8", "cosine": 0.99, "snr_db": 30.5, "max_error": 0.1,
       "largest": 4.0}  # fmt: skip


def written(*layers, outputs=()):
    return json.dumps({"method": "PerLayer", "samples": 4, "layers": layers, "outputs": outputs})


def test_layers_come_first_and_what_is_equal_is_infinitely_good():
    first, last = read_precision(written(ROW, outputs=[ROW | {"layer": "out", "snr_db": None}]), "p.json")
    assert (first.name, first.op, first.dtype, first.snr_db) == ("/fc", "MatMul", "u8", 30.5)
    assert (last.name, last.snr_db) == ("out", math.inf)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "3",
        written({}),
        written(ROW | {"layer": 3}),
        written(ROW | {"cosine": "x"}),
        written(7),
        "[" * 9999,
    ],
)
def test_anything_else_is_refused_by_name(text):
    with pytest.raises(UsageError, match=r"^p\.json is no precision analysis"):
        read_precision(text, "p.json")
