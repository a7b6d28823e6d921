"""Arrays in files: ``.npy``, ``.npz`` and raw bytes, checked against the input they are for before they are used.

Used by ``samples``. Nothing here unpickles: a header that asks for it is refused.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.lib import format as npy

from npusim.errors import did_you_mean
from npusim.quant.dataset.errors import DatasetError

PICKLE = (
    "holds Python objects, which only code that comes with the file could restore; "
    "save the arrays with np.savez(file, **arrays) instead"
)


def from_npy(data: bytes) -> np.ndarray[Any, Any]:
    """The array of a ``.npy`` file.

    Raises:
        DatasetError: damaged, cut off, or a pickle.
    """
    stream = io.BytesIO(data)
    try:
        version = npy.read_magic(stream)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read_header(stream)
    except (ValueError, SyntaxError, TypeError, EOFError, RecursionError) as error:
        if data[:1] == b"\x80":
            raise DatasetError(PICKLE) from error
        raise DatasetError(f"is no .npy file: {' '.join(str(error).split())}") from error
    if dtype.hasobject:
        raise DatasetError(PICKLE)
    start = stream.tell()
    expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if len(data) - start != expected:
        sizes = f"{len(data) - start:,} bytes of data; its header, {dtype.name}{list(shape)}, asks for {expected:,}"
        raise DatasetError(f"has {sizes}")
    array = np.frombuffer(data, dtype, offset=start)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def from_npz(data: bytes, name: str, largest_bytes: int) -> np.ndarray[Any, Any]:
    """The array called ``name`` of an ``.npz`` file.

    Raises:
        DatasetError: it has no such array, or is damaged.
    """
    if not data.startswith(b"PK"):
        from_npy(data)  # the usual file of this kind is a pickled dict in a .npy, which has its own refusal
        raise DatasetError("is a single array; this format takes .npz files with an array for every input")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if name not in members:
                held = f"has no array {name!r}, only {', '.join(members) or 'none at all'}"
                raise DatasetError("; ".join(filter(None, [held, did_you_mean(name, members)])))
            if members[name].file_size > largest_bytes:
                raise DatasetError(f"{name} has {members[name].file_size:,} bytes, more than {largest_bytes:,}")
            content = archive.read(members[name])
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DatasetError(f"is damaged: {error}") from error
    return from_npy(content)


def from_raw(data: bytes, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """The array that raw little-endian bytes are.

    Raises:
        DatasetError: too many bytes, or too few.
    """
    expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if len(data) != expected:
        raise DatasetError(f"has {len(data):,} bytes; {dtype.name}{list(shape)} takes {expected:,}")
    return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype).reshape(shape)


def fitted(array: np.ndarray[Any, Any], dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """The array as an input takes it: a batch of one may be left out, and any number becomes a float.

    Raises:
        DatasetError: another shape, or a type that would lose something.

    >>> fitted(np.arange(4, dtype=np.uint8), np.dtype("float32"), (1, 4))
    array([[0., 1., 2., 3.]], dtype=float32)
    """
    if array.shape not in (shape, shape[1:] if shape[:1] == (1,) else shape):
        raise DatasetError(f"has shape {list(array.shape)}; the input takes {list(shape)}")
    if not np.can_cast(array.dtype, dtype, "same_kind" if dtype.kind == "f" else "safe"):
        raise DatasetError(f"has type {array.dtype.name}; the input takes {dtype.name}")
    return array.astype(dtype).reshape(shape)
