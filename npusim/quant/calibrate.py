"""Running the float model on the calibration samples and noting what its tensors hold.

One call of onnxruntime a sample with every tensor of interest as a result; only statistics outlive the sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx

from .errors import QuantizationError
from .observers import Statistic
from .runtime import Runner
from .settings import Samples

Progress = Callable[[float], None]
"""Told the share that is done, 0..1."""


def calibrate(
    model: onnx.ModelProto, names: Sequence[str], samples: Samples, *, histogram: bool, progress: Progress
) -> dict[str, Statistic]:
    """Statistics of tensors over all samples.

    Args:
        model: the float model.
        names: of the tensors.
        samples: at least one.
        histogram: whether more than the extremes is wanted.
        progress: told about every sample.

    Raises:
        QuantizationError: there are no samples, one does not fit the model, or a tensor holds no finite number.
    """
    runner = Runner(model, names)
    statistics = {name: Statistic(histogram=histogram) for name in names}
    count = -1
    for count, feeds in enumerate(samples):
        results = runner.run(feeds, count)
        for name, values in results.items():
            if not statistics[name].add(values):
                raise QuantizationError(
                    f"tensor {name!r} is not finite on calibration sample {count}; keep the layers around it in FP32 "
                    "or leave the sample out",
                    tensor=name, sample=count,
                )  # fmt: skip
        progress((count + 1) / max(len(samples), 1))
    if count < 0:
        raise QuantizationError("there are no calibration samples")
    return statistics
