"""Calibration samples of a model's inputs: each input has a source, and a sample is one array from each.

Called through ``npusim.quant.dataset``. Archives, images and arrays are read by the modules beside this one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from npusim.quant.dataset import arrays, image
from npusim.quant.dataset.archive import LARGEST_MEMBER_BYTES, Archive, Read, open_archive
from npusim.quant.dataset.errors import DatasetError
from npusim.quant.dataset.image import Preparation
from npusim.quant.settings import Feeds

RANDOM = "Random"
FORMATS = ("Image", "Numpy", "Binary", "NumpyObject", RANDOM)
"""What the files of a set are: images; ``.npy``; raw bytes; ``.npz`` with every input. Random needs none."""

DEFAULT_SIZE = 32

_SUFFIXES = {
    "Image": image.SUFFIXES,
    "Numpy": (".npy",),
    "Binary": (".bin", ".raw", ".data"),
    "NumpyObject": (".npz", ".npy"),
}

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """An input of the float model.

    Attributes:
        name: as in the model.
        dtype: NumPy type.
        shape: extents, all known.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype.name}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where an input's calibration data come from.

    Attributes:
        tensor: the input.
        format: one of ``FORMATS``.
        path: archive or folder; "" for Random.
        size: how many samples, the first by name; -1 for all.
        preparation: of images.
    """

    tensor: Tensor
    format: str
    path: str = ""
    size: int = DEFAULT_SIZE
    preparation: Preparation | None = None


def open_samples(sources: Sequence[Source]) -> DataSamples:
    """The samples of a model, all of whose inputs have a source.

    Raises:
        DatasetError: data that cannot be read or do not belong together.
    """
    archives = {source.path: open_archive(source.path) for source in sources if source.format != RANDOM}
    streams = [_stream(source, archives) for source in sources]
    counts = {len(stream) for stream in streams if isinstance(stream, _Files)}
    if len(counts) > 1:
        found = ", ".join(f"{s.name} {len(s)}" for s in streams)
        raise DatasetError(f"every input needs as many samples as the others; there are {found}")
    if counts:
        size = counts.pop()
    else:
        sizes = [DEFAULT_SIZE if source.size < 0 else source.size for source in sources]
        size = max(sizes, default=0)
    return DataSamples(tuple(streams), size)


class DataSamples:
    """Samples that are read when they are asked for: one in memory at a time, in the same order every time."""

    def __init__(self, streams: tuple[_Files | _Seeded, ...], size: int) -> None:
        self._streams = streams
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Feeds]:
        with ExitStack() as opened:
            arrays = {stream.name: opened.enter_context(stream.opened()) for stream in self._streams}
            for index in range(self._size):
                yield {name: array(index) for name, array in arrays.items()}


class _Seeded:
    """Normal numbers for floats, bits for integers: the same on every machine."""

    def __init__(self, tensor: Tensor) -> None:
        self.name = tensor.name
        self._tensor = tensor

    def __len__(self) -> int:
        return 0

    @contextmanager
    def opened(self) -> Iterator[Callable[[int], Array]]:
        yield self._array

    def _array(self, index: int) -> Array:
        digest = hashlib.sha256(f"{index}:{self.name}".encode()).digest()
        generator = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        if self._tensor.dtype.kind == "f":
            return generator.standard_normal(self._tensor.shape, np.float32).astype(self._tensor.dtype)
        return generator.integers(0, 2, self._tensor.shape).astype(self._tensor.dtype)


class _Files:
    """An array from each file of an archive."""

    def __init__(self, source: Source, archive: Archive, content: Callable[[bytes, str], Array]) -> None:
        self.name = source.tensor.name
        suffixes = _SUFFIXES[source.format]
        names = [name for name in archive.names if name.lower().endswith(suffixes)]
        if not names:
            held = f"{len(archive.names):,} files, the first {archive.names[0]!r}"
            wanted = f"no file for format {source.format} ({', '.join(suffixes)})"
            raise DatasetError(f"holds {wanted}, only {held}", archive.source)
        self._names = names if source.size < 0 else names[: source.size]
        self._archive = archive
        self._content = content

    def __len__(self) -> int:
        return len(self._names)

    @contextmanager
    def opened(self) -> Iterator[Callable[[int], Array]]:
        with self._archive.opened() as read:
            yield partial(self._array, read)

    def _array(self, read: Read, index: int) -> Array:
        name = self._names[index]
        try:
            return self._content(read(name), name)
        except DatasetError as error:
            raise error.at(self._archive.source, name) from error


def _stream(source: Source, archives: dict[str, Archive]) -> _Files | _Seeded:
    if source.format == RANDOM:
        return _Seeded(source.tensor)
    return _Files(source, archives[source.path], _reader(source))


def _reader(source: Source) -> Callable[[bytes, str], Array]:
    tensor = source.tensor
    if source.format == "Image":
        if source.preparation is None:
            raise DatasetError(f"{tensor} takes no images")
        return source.preparation.apply
    if source.format == "Binary":
        return lambda data, _: arrays.from_raw(data, tensor.dtype, tensor.shape)
    if source.format == "Numpy":
        return lambda data, _: arrays.fitted(arrays.from_npy(data), tensor.dtype, tensor.shape)
    return lambda data, _: arrays.fitted(
        arrays.from_npz(data, tensor.name, LARGEST_MEMBER_BYTES), tensor.dtype, tensor.shape
    )
