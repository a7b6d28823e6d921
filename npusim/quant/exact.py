"""onnxruntime sessions that compute the integers the model defines, on every CPU.

Used wherever onnxruntime runs a model for us: calibration, analysis, CPU subgraphs, checks and tests. Benchmarks that
measure onnxruntime's speed make their own, with its defaults.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx

if TYPE_CHECKING:
    import onnxruntime

EXACT_PRODUCTS = "session.x64quantprecision"
"""Without VNNI onnxruntime multiplies u8 by s8 with ``vpmaddubsw``, which saturates sums of two products at 16 bits.
With this option it converts constant s8 operands to u8 and is exact (onnxruntime_session_options_config_keys.h). Where
both operands of a u8 x s8 product are live, no option helps: give such models a u8 second operand."""

SILENT = 4
"""Log level: what onnxruntime has to say comes as an exception."""


def session(
    model: onnx.ModelProto | bytes | str, *, threads: int = 0, optimized: bool = True
) -> onnxruntime.InferenceSession:
    """A session on the CPU with exact integer products.

    Args:
        model: parsed, serialized, or the path of a file.
        threads: within an operator; 0 leaves it to onnxruntime.
        optimized: False runs every node as it stands, so that real operators between DequantizeLinear and
            QuantizeLinear compute in float32.
    """
    import onnxruntime

    options: Any = onnxruntime.SessionOptions()
    options.log_severity_level = SILENT
    options.intra_op_num_threads = threads
    options.add_session_config_entry(EXACT_PRODUCTS, "1")
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    content = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
