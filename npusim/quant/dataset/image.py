"""From an image file to a model's input: decode, scale, crop, order colours, normalize, lay out.

Used for calibration and for classification alike, so that a model is calibrated with what it will see. No labels here.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from npusim.quant.dataset.errors import DatasetError

if TYPE_CHECKING:
    from PIL.Image import Image

COLOURS = ("RGB", "BGR", "GRAY")
LAYOUTS = ("NCHW", "NHWC")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".gif", ".tif", ".tiff")

_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM", "GIF", "TIFF")
"""Pillow knows others, for some of which it starts programs (EPS)."""

RESIZE_RATIO = 256 / 224
"""An image is scaled until its shorter side is so many times the input, and its centre taken: ImageNet's evaluation."""

_DEPTHS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB")
"""Pillow's modes of 8 bits a channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """How an image becomes an input.

    Attributes:
        height: of the input, in pixels.
        width: of the input, in pixels.
        colours: one of ``COLOURS``, the order of the input's channels.
        layout: one of ``LAYOUTS``.
        dtype: ``f32`` or ``u8``.
        mean: subtracted from each channel's 0..255, one value for all or one each; empty for 0.
        std: what the difference is divided by; empty for 1.
    """

    height: int
    width: int
    colours: str = "RGB"
    layout: str = "NCHW"
    dtype: str = "f32"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return 1 if self.colours == "GRAY" else 3

    def record(self) -> dict[str, Any]:
        """The same as JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Preparation:
        """The inverse of ``record``.

        >>> p = Preparation(height=8, width=8, colours="GRAY", mean=(127.5,))
        >>> Preparation.of_record(p.record()) == p
        True
        """
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}
        return cls(**values)

    def apply(self, data: bytes, name: str) -> np.ndarray[Any, Any]:
        """The input that an image file becomes, with a batch of one.

        An image of the input's own size is taken as it is; another one is scaled (``RESIZE_RATIO``) and its centre cut.

        Raises:
            DatasetError: no image, a damaged one, or one too large to be meant.
        """
        pixels = _fitted(_decoded(data, name, self.colours), self.height, self.width)
        array = np.asarray(pixels, np.uint8).reshape(self.height, self.width, self.channels)
        if self.colours == "BGR":
            array = array[..., ::-1]
        if self.dtype == "f32":
            array = normalized(array, self.mean, self.std)
        if self.layout == "NCHW":
            array = array.transpose(2, 0, 1)
        return np.ascontiguousarray(array[None])


def normalized(pixels: np.ndarray[Any, Any], mean: Sequence[float], std: Sequence[float]) -> np.ndarray[Any, Any]:
    """``(pixels - mean) / std`` over the last axis, in float32.

    >>> normalized(np.array([[0, 128, 255]], np.uint8), (127.5,), (127.5,))[0, 2]
    np.float32(1.0)
    """
    real = pixels.astype(np.float32)
    if mean:
        real -= np.asarray(mean, np.float32)
    if std:
        real /= np.asarray(std, np.float32)
    return real


def _decoded(data: bytes, name: str, colours: str) -> Image:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                if image.mode not in _DEPTHS:
                    raise DatasetError(f"has pixels of type {image.mode!r}, not of 8 bits", "", name)
                upright = ImageOps.exif_transpose(image)
                return upright.convert("L" if colours == "GRAY" else "RGB")
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DatasetError("has too many pixels; it looks like a decompression bomb", "", name) from error
    except DatasetError:
        raise
    except UnidentifiedImageError as error:
        raise DatasetError(f"is no image that can be read: not one of {', '.join(_FORMATS)}", "", name) from error
    except (OSError, ValueError, SyntaxError, EOFError, OverflowError, TypeError, IndexError) as error:
        raise DatasetError(f"is no image that can be read: {error}", "", name) from error


def _fitted(image: Image, height: int, width: int) -> Image:
    if image.size == (width, height):
        return image
    from PIL.Image import Resampling

    scale = RESIZE_RATIO * max(width / image.width, height / image.height)
    wide, high = max(width, round(image.width * scale)), max(height, round(image.height * scale))
    left, top = (wide - width) // 2, (high - height) // 2
    box = (left / wide * image.width, top / high * image.height,
           (left + width) / wide * image.width, (top + height) / high * image.height)  # fmt: skip
    return image.resize((width, height), Resampling.BILINEAR, box)
