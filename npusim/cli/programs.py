"""Reading programs for the commands: assembled files and assembly sources alike."""

from __future__ import annotations

from pathlib import Path

from isa.assembler import assemble
from isa.container import MAGIC, from_bytes
from isa.errors import AssemblyError, ContainerError
from isa.program import Program
from npusim.errors import UsageError

SOURCE_SUFFIX = ".npuasm"
PROGRAM_SUFFIX = ".npuprog"


def read_program(path: str) -> Program:
    """The program in a file: a program file, or an assembly source, told apart by their content.

    Raises:
        UsageError: neither of the two.
        ContainerError, AssemblyError: a broken one; the message begins with the file's name.
        OSError: the file cannot be read.
    """
    data = Path(path).read_bytes()
    try:
        if data.startswith(MAGIC[:-1]):
            return from_bytes(data)
        if Path(path).suffix == SOURCE_SUFFIX:
            return assemble(_text(data), Path(path).stem)
    except ContainerError as error:
        raise ContainerError(f"{path}: {error}") from error
    except AssemblyError as error:
        raise AssemblyError(f"{path}: {error}") from error
    raise UsageError(f"{path} is neither a program file nor an assembly source ({SOURCE_SUFFIX})")


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise AssemblyError("the source is not UTF-8 text") from error
