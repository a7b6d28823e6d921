"""SmoothQuant (Xiao et al., arXiv 2211.10438): outlier channels of activations move into the weights that follow.

A stage of ``quantize`` on the float model. It says which tensors; ``rescale`` does the work.
"""

from __future__ import annotations

import onnx

from npusim.graph.fold import fold
from npusim.graph.import_onnx import import_model

from .calibrate import Progress
from .channels import NORMS, PRODUCTS, spans
from .document import write_model
from .editor import Editor
from .rescale import Rescaled, rescale
from .settings import QuantSettings, Samples


def smooth(
    model: onnx.ModelProto, samples: Samples, settings: QuantSettings, *, progress: Progress | None = None
) -> tuple[onnx.ModelProto, list[Rescaled]]:
    """A model that computes the same, with evener inputs of its products.

    Taken are tensors that a norm or a product writes and that only products read, directly or behind moves, reductions
    over other axes, offsets and bounds at zero. A tensor is smoothed where the predicted rounding noise of the products
    behind it (``rescale.noise``) falls by more than the share ``settings.smooth_quant_threshold``.

    Args:
        model: float, with static shapes; it is left as it is.
        samples: what the channels' ranges are taken from.
        settings: strength and threshold.
        progress: told about every sample.

    Returns:
        The model, and what was smoothed.
    """
    editor = Editor(fold(import_model(model)))
    chosen = [
        span
        for span in spans(editor)
        if span.sources[0].node.op in (*NORMS, *PRODUCTS) and all(weight.node.op in PRODUCTS for weight in span.readers)
    ]
    done = rescale(
        editor,
        model,
        chosen,
        samples,
        strength=settings.smooth_quant_strength,
        threshold=settings.smooth_quant_threshold,
        progress=progress,
    )
    return write_model(editor.finish(), model), done
