"""Calibration data: archives and folders of images or arrays, gone through one sample at a time.

``open_samples`` is the way in, called by the build. Nothing is unpacked to disk, and no file runs code.
"""

from __future__ import annotations

from npusim.quant.dataset.errors import DatasetError
from npusim.quant.dataset.image import Preparation
from npusim.quant.dataset.samples import FORMATS, RANDOM, Source, Tensor, open_samples

__all__ = ["FORMATS", "RANDOM", "DatasetError", "Preparation", "Source", "Tensor", "open_samples"]
