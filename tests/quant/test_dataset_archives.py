"""Archives of calibration data: what is read, in which order, and what is refused before it can do harm."""

import gzip
import io
import struct
import tarfile
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npusim.quant.dataset import DatasetError, archive
from npusim.quant.dataset.archive import open_archive

FILES = {"b/2.bin": b"two", "a.bin": b"one", "c.bin": b""}


def pack(path, files, *, link=""):
    """Files as the archive (or folder) that the suffix names."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
            for name, data in files.items():
                target.writestr(name, data)
    elif path.suffix in (".tar", ".gz", ".tgz"):
        with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as target:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                target.addfile(info, io.BytesIO(data))
            if link:
                info = tarfile.TarInfo("link.bin")
                info.type, info.linkname = tarfile.SYMTYPE, link
                target.addfile(info)
    else:
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    return path


def content(archive, name):
    with archive.opened() as read:
        return read(name)


@pytest.mark.parametrize("name", ["d.tar", "d.tar.gz", "d.tgz", "d.zip", "folder"])
def test_files_come_by_sorted_name_whatever_holds_them(tmp_path, name):
    litter = {"__MACOSX/a.bin": b"?", ".DS_Store": b"?", "b/._2.bin": b"?"}
    archive = open_archive(pack(tmp_path / name, {**FILES, **litter}))
    assert archive.names == ("a.bin", "b/2.bin", "c.bin")
    with archive.opened() as read:
        assert {name: read(name) for name in archive.names} == FILES
        assert read("a.bin") == b"one"  # backwards, and again
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3})?\.bin", fullmatch=True), st.binary(max_size=40), min_size=1)
)
def test_an_archive_gives_back_what_was_packed(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("packed")
    for name in ("d.tar", "d.tar.gz", "d.zip"):
        archive = open_archive(pack(folder / name, files))
        assert {name: content(archive, name) for name in archive.names} == files


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".zip"])
@pytest.mark.parametrize("name", ["../x.bin", "/etc/x.bin", "a/../../x.bin", "C:/x.bin", "a\\x.bin", ".."])
def test_names_that_lead_out_are_refused(tmp_path, suffix, name):
    with pytest.raises(DatasetError, match="leads out of the archive"):
        open_archive(pack(tmp_path / f"evil{suffix}", {**FILES, name: b"x"}))


def test_links_are_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"link\.bin: is no regular file"):
        open_archive(pack(tmp_path / "evil.tar", FILES, link="/etc/passwd"))
    folder = pack(tmp_path / "folder", FILES)
    (tmp_path / "secret.bin").write_bytes(b"secret")
    (folder / "z.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(DatasetError, match=r"z\.bin: is a link that leads out"):
        content(open_archive(folder), "z.bin")


def test_bombs_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "FREE_BYTES", 1 << 16)
    zeros = bytes(1 << 20)  # deflates about a thousandfold
    with pytest.raises(DatasetError, match="decompression bomb"):
        open_archive(pack(tmp_path / "bomb.zip", {"a.bin": zeros}))
    with pytest.raises(DatasetError, match="decompression bomb"):
        open_archive(pack(tmp_path / "bomb.tar.gz", {"a.bin": zeros, "b.bin": b"x"}))
    noise = np.random.default_rng(0).bytes(1 << 20)
    assert content(open_archive(pack(tmp_path / "fine.zip", {"a.bin": noise})), "a.bin") == noise
    monkeypatch.setattr(archive, "LARGEST_MEMBER_BYTES", 1 << 19)
    with pytest.raises(DatasetError, match=r"a\.bin: has 1,048,576 bytes; a sample has at most"):
        content(open_archive(tmp_path / "fine.zip"), "a.bin")


@pytest.mark.parametrize("name", ["d.tar", "d.tar.gz", "d.zip"])
def test_an_archive_cut_off_anywhere_is_one_clear_error(tmp_path, name):
    files = {f"{i}.bin": np.random.default_rng(i).bytes(700) for i in range(4)}
    whole = pack(tmp_path / name, files).read_bytes()
    needed = len(whole) if name != "d.tar" else tarfile.BLOCKSIZE * (4 * 3 + 1)  # a head and two blocks each, end mark
    for length in range(0, needed, 97):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(DatasetError, match=f"^{tmp_path / name}: "):
            open_archive(tmp_path / name)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_archive_are_one_clear_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("junk") / "junk.tar"
    for head in (b"", b"\x1f\x8b\x08", b"PK\x03\x04"):
        path.write_bytes(head + data)
        with pytest.raises(DatasetError, match=r"no readable archive|damaged|holds no files"):
            open_archive(path)


def test_damage_inside_is_found_by_the_checksum(tmp_path):
    path = pack(tmp_path / "d.zip", {"a.bin": np.random.default_rng(0).bytes(4000)})
    data = bytearray(path.read_bytes())
    data[2000] ^= 1
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"a\.bin: is damaged"):
        content(open_archive(path), "a.bin")
    path = pack(tmp_path / "d.tar.gz", {"a.bin": np.random.default_rng(0).bytes(4000)})
    data = bytearray(path.read_bytes())
    data[-8:-4] = struct.pack("<I", 1)  # the CRC in gzip's trailer
    path.write_bytes(data)
    assert gzip.decompress(pack(tmp_path / "whole.tgz", FILES).read_bytes())
    with pytest.raises(DatasetError, match="damaged"):
        open_archive(path)


def test_what_is_not_there_or_empty(tmp_path):
    with pytest.raises(DatasetError, match=r"absent\.tar: there is no such file or folder"):
        open_archive(tmp_path / "absent.tar")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="holds no files"):
        open_archive(tmp_path / "empty")
