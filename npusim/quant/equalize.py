"""Cross-layer equalization of convolutions (Nagel et al., arXiv 1906.04721), where it is predicted to help.

A stage of ``quantize`` on the float model. It says which tensors; ``rescale`` does the work.
"""

from __future__ import annotations

import onnx

from npusim.graph.fold import fold
from npusim.graph.import_onnx import import_model

from .calibrate import Progress
from .channels import spans
from .document import write_model
from .editor import Editor
from .rescale import Rescaled, rescale
from .settings import Samples

STRENGTH = 0.5  # the geometric mean of both ranges, as in equation 11 of the paper
SMALLEST_GAIN = 0.05  # less is within the error of the prediction


def equalize(
    model: onnx.ModelProto, samples: Samples, *, progress: Progress | None = None
) -> tuple[onnx.ModelProto, list[Rescaled]]:
    """A model that computes the same, with evener channels between convolutions.

    The paper makes the ranges of a convolution's output channels equal to those of the next one's input channels, by
    the ranges of the weights. Weights here have a scale for each output channel, which does that for the first of the
    two already; what remains uneven is the activation between them, so its measured range takes the place of the first
    weights'. Bounds at zero, pooling and moves may lie between the two; a bound at six would not let a factor pass.

    Args:
        model: float, with static shapes; it is left as it is.
        samples: what the channels' ranges are taken from.
        progress: told about every sample.

    Returns:
        The model, and what was equalized.
    """
    editor = Editor(fold(import_model(model)))
    chosen = [span for span in spans(editor) if span.sources[0].node.op == "Conv"]
    done = rescale(editor, model, chosen, samples, strength=STRENGTH, threshold=SMALLEST_GAIN, progress=progress)
    return write_model(editor.finish(), model), done
