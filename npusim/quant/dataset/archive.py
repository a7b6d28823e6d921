"""The files in a tar, tar.gz, zip or folder, by sorted name: read where they lie, never unpacked.

Used by ``samples``. What the files mean is decided there.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol, cast

from npusim.quant.dataset.errors import DatasetError

LARGEST_MEMBER_BYTES = 1 << 28
"""No single image or array of a calibration set is larger."""

FREE_BYTES = 1 << 26
LARGEST_RATIO = 200
"""Beyond the free bytes, unpacked data may be so many times larger than packed; images reach 2, bombs 1000."""

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")

_LITTER = ("__MACOSX", "Thumbs.db", "desktop.ini")
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, EOFError, NotImplementedError)


Read = Callable[[str], bytes]
"""The content of a file by name; raises DatasetError where it is damaged."""


class Archive(Protocol):
    """Files by name."""

    @property
    def source(self) -> str:
        """The archive or folder as the user gave it."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the files, sorted."""
        ...

    def opened(self) -> AbstractContextManager[Read]:
        """Open it for reading files one after the other; by sorted name is fastest, because a tar.gz only goes on."""
        ...


def open_archive(path: str | os.PathLike[str]) -> Archive:
    """The archive or folder at a path.

    Raises:
        DatasetError: no such thing, damaged, or made to do harm: names that lead out of it, links, bombs.
    """
    source, place = str(path), Path(path)
    if place.is_dir():
        return _Folder(source, place)
    if not place.is_file():
        raise DatasetError("there is no such file or folder", source)
    with _readable(source):
        with place.open("rb") as file:
            head = file.read(2)
        return _Zip(source, place) if head == b"PK" else _Tar(source, place, packed=head == b"\x1f\x8b")


class _Folder:
    def __init__(self, source: str, place: Path) -> None:
        self.source = source
        self._place = place
        found = (path for path in place.rglob("*") if path.is_file())
        self.names = _sorted(source, (path.relative_to(place).as_posix() for path in found))

    @contextmanager
    def opened(self) -> Iterator[Read]:
        yield self._read

    def _read(self, name: str) -> bytes:
        path = self._place / name
        with _readable(self.source, name):
            if not path.resolve().is_relative_to(self._place.resolve()):
                raise DatasetError("is a link that leads out of the folder", self.source, name)
            _check_size(path.stat().st_size)
            return path.read_bytes()


class _Zip:
    def __init__(self, source: str, place: Path) -> None:
        self.source = source
        self._place = place
        with zipfile.ZipFile(place) as archive:
            self._members = {info.filename: info for info in archive.infolist() if not info.is_dir()}
        self.names = _sorted(source, self._members)
        for name, info in self._members.items():
            if info.flag_bits & 1:
                raise DatasetError("is encrypted", source, name)
            _check_ratio(info.file_size, info.compress_size, source, name)

    @contextmanager
    def opened(self) -> Iterator[Read]:
        with _readable(self.source):
            archive = zipfile.ZipFile(self._place)
        with archive:
            yield partial(self._read, archive)

    def _read(self, archive: zipfile.ZipFile, name: str) -> bytes:
        with _readable(self.source, name):
            _check_size(self._members[name].file_size)
            return archive.read(self._members[name])


class _Tar:
    def __init__(self, source: str, place: Path, *, packed: bool) -> None:
        self.source = source
        self._place = place
        self._packed = packed
        self._members: dict[str, tarfile.TarInfo] = {}
        with self._unpacked() as archive:
            end = 0
            for info in archive:
                end = info.offset_data + -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                if info.isdir():
                    continue
                if not info.isreg():
                    raise DatasetError("is no regular file but a link or a device", source, info.name)
                self._members[info.name] = info
            _check_end(cast(IO[bytes], archive.fileobj), end)
        self.names = _sorted(source, self._members)

    @contextmanager
    def opened(self) -> Iterator[Read]:
        with self._unpacked() as archive:
            yield partial(self._read, archive)

    def _read(self, archive: tarfile.TarFile, name: str) -> bytes:
        with _readable(self.source, name):
            _check_size(self._members[name].size)
            file = archive.extractfile(self._members[name])
            data = file.read() if file is not None else b""
            if len(data) != self._members[name].size:
                raise DatasetError("is cut off", self.source, name)
            return data

    @contextmanager
    def _unpacked(self) -> Iterator[tarfile.TarFile]:
        with self._place.open("rb") as raw:
            stream: IO[bytes] = raw
            if self._packed:
                bounded = _Bounded(gzip.GzipFile(fileobj=raw), self._place.stat().st_size, self.source)
                stream = cast(IO[bytes], bounded)
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                yield archive


class _Bounded:
    """A decompressed stream that refuses to grow without bound."""

    def __init__(self, stream: gzip.GzipFile, packed_bytes: int, source: str) -> None:
        self._stream = stream
        self._packed_bytes = packed_bytes
        self._source = source

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        _check_ratio(self._stream.tell(), self._packed_bytes, self._source)
        return data

    def seek(self, *arguments: Any) -> int:
        return self._stream.seek(*arguments)

    def tell(self) -> int:
        return self._stream.tell()


# ---------------------------------------------------------------------------------------------------------------- rules


def _sorted(source: str, names: Iterable[str]) -> tuple[str, ...]:
    """The names of the files that hold data, each checked."""
    kept = sorted(name for name in names if not _is_litter(name))
    for name in kept:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in path.parts[0] or "\0" in name:
            raise DatasetError("leads out of the archive; such archives are refused", source, repr(name))
    if not kept:
        raise DatasetError("holds no files", source)
    return tuple(kept)


def _is_litter(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return not parts or (parts[-1].startswith(".") and parts[-1] != "..") or any(part in _LITTER for part in parts)


def _check_end(stream: IO[bytes], end: int) -> None:
    """Refuse a tar without its end mark, a block of zeros; reading on to the end checks gzip's checksum too."""
    stream.seek(end)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise DatasetError("is cut off: its end mark is missing")
    while stream.read(1 << 20):
        pass


def _check_size(size_bytes: int) -> None:
    if size_bytes > LARGEST_MEMBER_BYTES:
        raise DatasetError(f"has {size_bytes:,} bytes; a sample has at most {LARGEST_MEMBER_BYTES:,}")


def _check_ratio(unpacked_bytes: int, packed_bytes: int, source: str, member: str = "") -> None:
    if unpacked_bytes > max(FREE_BYTES, LARGEST_RATIO * packed_bytes):
        sizes = f"{packed_bytes:,} bytes unpack to {unpacked_bytes:,} or more"
        raise DatasetError(f"{sizes}, which looks like a decompression bomb", source, member)


@contextmanager
def _readable(source: str, member: str = "") -> Iterator[None]:
    """Turn what the libraries raise for damaged files into one error that names the file."""
    try:
        yield
    except DatasetError as error:
        raise error.at(source, member) from error
    except OSError as error:
        if error.strerror is None:  # zlib's and gzip's complaints come as OSError without a number
            raise DatasetError(f"is damaged: {error}", source, member) from error
        raise DatasetError(f"cannot be read: {error.strerror}", source, member) from error
    except (*_DAMAGE, ValueError, RuntimeError, KeyError, OverflowError) as error:
        what = "is damaged" if member else f"is no readable archive ({', '.join(SUFFIXES)}) or is damaged"
        raise DatasetError(f"{what}: {error}", source, member) from error
