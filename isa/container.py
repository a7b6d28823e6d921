r"""The program file: versioned, checksummed, plain bytes.

Layout, little-endian: ``NPUPROG\0`` | u16 major | u16 minor | u32 header bytes | u64 body bytes | SHA-256 of header
and body | header (JSON) | body. The header gives names, sizes and places; the body holds the streams, the origins and
the segments' bytes, each aligned to 64. Nothing in it is ever executed as Python.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ContainerError, IsaError
from .files import write_bytes
from .instruction import WORD_BYTES
from .program import ISA_MAJOR, ISA_MINOR, Program, Segment, SegmentKind

MAGIC = b"NPUPROG\0"
_HEAD = struct.Struct("<8sHHIQ32s")
_ALIGN = 64


def to_bytes(program: Program) -> bytes:
    """The program as the bytes of a program file; the same program always gives the same bytes."""
    body = bytearray()

    def place(array: np.ndarray[Any, Any]) -> list[int]:
        body.extend(b"\0" * (-len(body) % _ALIGN))
        start = len(body)
        body.extend(np.ascontiguousarray(array).tobytes())
        return [start, len(body) - start]

    header = {
        "name": program.name,
        "cores": program.cores,
        "stamp": program.stamp,
        "origin_names": list(program.origin_names),
        "streams": [
            {
                "unit": unit,
                "words": place(program.streams[unit]),
                "origins": place(program.origins[unit].astype("<i4")) if unit in program.origins else None,
            }
            for unit in sorted(program.streams)
        ],
        "segments": [
            {
                "name": segment.name,
                "kind": str(segment.kind),
                "size_bytes": segment.size_bytes,
                "data": None if segment.data is None else place(segment.data),
            }
            for segment in program.segments
        ],
    }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    digest = hashlib.sha256(text + body).digest()
    return _HEAD.pack(MAGIC, ISA_MAJOR, ISA_MINOR, len(text), len(body), digest) + text + bytes(body)


def from_bytes(data: bytes) -> Program:
    """The program in the bytes of a program file.

    Raises:
        ContainerError: foreign, of another major version, truncated, corrupted, or inconsistent.
    """
    if data[: len(MAGIC)] != MAGIC[: len(data)] or not data:
        raise ContainerError("not a program file: it does not begin with NPUPROG")
    if len(data) < _HEAD.size:
        raise ContainerError(f"truncated program file: {len(data)} bytes")
    _, major, minor, header_bytes, body_bytes, digest = _HEAD.unpack_from(data)
    if major != ISA_MAJOR:  # a newer minor version adds instructions; the decoder refuses those it does not know
        supported = f"{ISA_MAJOR}.{ISA_MINOR}"
        raise ContainerError(f"program file of ISA version {major}.{minor}; this is {supported}: assemble it again")
    payload = memoryview(data)[_HEAD.size :]
    if len(payload) != header_bytes + body_bytes:
        expected = _HEAD.size + header_bytes + body_bytes
        raise ContainerError(f"truncated or extended program file: {len(data)} bytes, its header says {expected}")
    if hashlib.sha256(payload).digest() != digest:
        raise ContainerError("corrupted program file: the checksum does not match")
    try:
        return _read(json.loads(bytes(payload[:header_bytes])), payload[header_bytes:])
    except (IsaError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ContainerError(f"malformed program file: {error}") from error


def save(program: Program, path: str | os.PathLike[str]) -> None:
    """Write a program file; an existing one is replaced only once the new one is complete."""
    write_bytes(path, to_bytes(program))


def load(path: str | os.PathLike[str]) -> Program:
    """Read a program file.

    Raises:
        ContainerError: as ``from_bytes``, with the file's name.
        OSError: the file cannot be read.
    """
    try:
        return from_bytes(Path(path).read_bytes())
    except ContainerError as error:
        raise ContainerError(f"{path}: {error}") from error


def _read(header: Any, body: memoryview) -> Program:
    names = header["origin_names"]
    if not all(isinstance(name, str) for name in [header["name"], header["stamp"], *names]):
        raise ContainerError("names must be strings")
    streams, origins = {}, {}
    for entry in header["streams"]:
        unit = _integer(entry["unit"])
        streams[unit] = _array(body, entry["words"], np.dtype(np.uint8)).reshape(-1, WORD_BYTES)
        if entry["origins"] is not None:
            index = _array(body, entry["origins"], np.dtype("<i4"))
            if index.size and (index.min() < -1 or index.max() >= len(names)):
                raise ContainerError("an origin has no name")
            origins[unit] = index
    kinds = {str(kind): kind for kind in SegmentKind}
    segments = tuple(
        Segment(
            name=entry["name"],
            kind=kinds[entry["kind"]],
            size_bytes=_integer(entry["size_bytes"]),
            data=None if entry["data"] is None else _array(body, entry["data"], np.dtype(np.uint8)),
        )
        for entry in header["segments"]
    )
    return Program(
        name=header["name"], cores=_integer(header["cores"]), streams=streams, segments=segments, origins=origins,
        origin_names=tuple(names), stamp=header["stamp"],
    )  # fmt: skip


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ContainerError(f"expected a whole number, found {value!r}")
    return value


def _array(body: memoryview, place: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    start, size = (_integer(v) for v in place)
    if not 0 <= start <= start + size <= len(body) or size % dtype.itemsize:
        raise ContainerError(f"a part lies outside the file: {start} + {size} bytes")
    return np.frombuffer(body[start : start + size], dtype=dtype)
