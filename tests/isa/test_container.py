import hashlib
import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isa.assembler import assemble
from isa.container import from_bytes, load, save, to_bytes
from isa.errors import ContainerError, DecodingError
from isa.program import Program

PROGRAM = assemble(
    """
    .program sample
    .segment x input 64
    .segment p parameters
    .data p s32 1 2 3
    a: sdma load ocm=0 segment=x run=64
    cv copy src=0 dst=64 run=64 wait(a)
    """
).with_stamp("a stamp")
DATA = to_bytes(PROGRAM)


def test_round_trip_keeps_everything():
    again = from_bytes(DATA)
    assert again.fingerprint() == PROGRAM.fingerprint()
    assert (again.name, again.cores, again.stamp, again.origin_names) == (
        PROGRAM.name, PROGRAM.cores, PROGRAM.stamp, PROGRAM.origin_names
    )  # fmt: skip
    assert again.origin(4, 0) == "a:6"
    assert [s.name for s in again.segments] == ["x", "p"]
    assert again.segments[1].data.view("<i4").tolist() == [1, 2, 3]
    assert to_bytes(again) == DATA


@given(st.integers(0, len(DATA) - 1))
def test_truncation_is_one_clear_error(size):
    with pytest.raises(ContainerError, match=r"truncated|not a program file"):
        from_bytes(DATA[:size])


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_any_changed_byte_is_noticed(position, change):
    damaged = bytearray(DATA)
    damaged[position] ^= change
    try:
        program = from_bytes(bytes(damaged))
    except ContainerError:
        return
    assert position in (10, 11)  # a newer minor version is the one change that may pass
    assert program.fingerprint() == PROGRAM.fingerprint()


@given(st.binary(max_size=300))
def test_foreign_files_are_refused(data):
    with pytest.raises(ContainerError):
        from_bytes(data)


def test_another_major_version_is_refused():
    newer = bytearray(DATA)
    newer[8:10] = struct.pack("<H", 2)
    with pytest.raises(ContainerError, match=r"ISA version 2\.0; this is 1\.0"):
        from_bytes(bytes(newer))


SEALED = {"name": "n", "cores": 1, "stamp": "", "origin_names": [], "streams": [], "segments": []}
STREAM = {"unit": 0, "words": [0, 64], "origins": None}
SEGMENT = {"name": "a", "kind": "input", "size_bytes": 4, "data": None}


def _header(**changes):
    return json.dumps(SEALED | changes).encode()


HEADERS = [
    b"[]",
    b"{}",
    b"not json",
    b"[" * 100_000,
    _header(name=1),
    _header(cores=True),
    _header(cores=0),
    _header(streams=[STREAM | {"words": [0, 9999]}]),
    _header(streams=[STREAM | {"words": [-64, 64]}]),
    _header(streams=[STREAM | {"words": [0, 63]}]),
    _header(streams=[STREAM | {"unit": 7}]),
    _header(streams=[STREAM | {"origins": [0, 4]}]),
    _header(segments=[SEGMENT | {"name": "a b"}]),
    _header(segments=[SEGMENT | {"kind": "tape"}]),
    _header(segments=[SEGMENT | {"size_bytes": -4}]),
    _header(segments=[SEGMENT | {"data": [0, 3]}]),
    _header(segments=[SEGMENT, SEGMENT]),
]


@pytest.mark.parametrize("header", HEADERS, ids=range(len(HEADERS)))
def test_a_well_sealed_file_with_nonsense_inside_is_refused(header):
    with pytest.raises(ContainerError, match="malformed program file"):
        from_bytes(_seal(header, bytes(64)))


def _seal(header, body):
    digest = hashlib.sha256(header + body).digest()
    return struct.pack("<8sHHIQ32s", b"NPUPROG\0", 1, 0, len(header), len(body), digest) + header + body


def test_words_are_checked_when_decoded_not_when_read():
    program = from_bytes(_seal(_header(streams=[STREAM]), b"\xff" * 64))
    with pytest.raises(DecodingError, match="opcode 0xff"):
        program.instructions(0)


def test_save_replaces_whole_files(tmp_path):
    path = tmp_path / "p.npuprog"
    path.write_bytes(b"older")
    save(PROGRAM, path)
    assert load(path).fingerprint() == PROGRAM.fingerprint()
    assert [p.name for p in tmp_path.iterdir()] == ["p.npuprog"]


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "p.npuprog"
    save(PROGRAM, path)
    broken = Program(name="bad", cores=1, streams={}, origin_names=("\ud800",))  # no UTF-8 for it
    with pytest.raises(UnicodeEncodeError):
        save(broken, path)
    assert load(path).name == "sample"
    assert [p.name for p in tmp_path.iterdir()] == ["p.npuprog"]


def test_load_names_the_file(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    with pytest.raises(ContainerError, match=r"notes\.txt: not a program file"):
        load(path)


def test_arrays_are_views_that_cannot_be_written():
    words = from_bytes(DATA).streams[4]
    with pytest.raises(ValueError, match="read-only"):
        words[0, 0] = 1
    assert words.dtype == np.uint8
