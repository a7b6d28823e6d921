"""Reading what can be run for the commands: program files, assembly sources and built models alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from isa.assembler import assemble
from isa.container import MAGIC, from_bytes
from isa.errors import AssemblyError, ContainerError
from isa.program import Program
from npusim.errors import UsageError

if TYPE_CHECKING:
    from npusim.axmodel import Axmodel

SOURCE_SUFFIX = ".npuasm"
PROGRAM_SUFFIX = ".npuprog"
MODEL_SUFFIX = ".axmodel"
ONNX_SUFFIX = ".onnx"
"""Of models that are to be built yet: reading one as a built model says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runnable:
    """A program or a built model.

    Attributes:
        path: the file, as the user gave it.
        name: of the model or the program.
        content: the program of a program file or a source, or the built model.
    """

    path: str
    name: str
    content: Program | Axmodel

    @property
    def model(self) -> Axmodel | None:
        """The built model; None for a program file or a source."""
        return None if isinstance(self.content, Program) else self.content

    @property
    def program(self) -> Program:
        """What runs.

        Raises:
            AxmodelError: a model with CPU parts is not one program.
        """
        return self.content if isinstance(self.content, Program) else self.content.program

    @property
    def cores(self) -> int:
        """How many cores it is for."""
        return self.content.cores


def read_runnable(path: str) -> Runnable:
    """What can be run in a file, whatever its kind, which its content tells.

    Raises:
        UsageError: nothing that runs.
        AxmodelError, ContainerError, AssemblyError: a broken file; the message begins with its name.
        OSError: the file cannot be read.
    """
    data = Path(path).read_bytes()
    if not _is_program(path, data) and _is_model(path, data):
        model = _model(path, data)
        return Runnable(path=path, name=model.name, content=model)
    program = _program(path, data)
    return Runnable(path=path, name=program.name, content=program)


def read_program(path: str) -> Program:
    """The program in a file, as ``read_runnable`` reads it."""
    return read_runnable(path).program


def read_model(path: str) -> Axmodel:
    """The built model in a file.

    Raises:
        AxmodelError: no ``.axmodel`` that can be run; the message begins with the file's name.
        OSError: the file cannot be read.
    """
    return _model(path, Path(path).read_bytes())


def _is_program(path: str, data: bytes) -> bool:
    return data.startswith(MAGIC[:-1]) or Path(path).suffix in (SOURCE_SUFFIX, PROGRAM_SUFFIX)


def _is_model(path: str, data: bytes) -> bool:
    from npusim import axmodel

    return Path(path).suffix in (MODEL_SUFFIX, ONNX_SUFFIX) or axmodel.is_axmodel(data)


def _model(path: str, data: bytes) -> Axmodel:
    from npusim import axmodel

    try:
        return axmodel.read(data)
    except axmodel.AxmodelError as error:
        raise axmodel.AxmodelError(str(error), path) from error


def _program(path: str, data: bytes) -> Program:
    try:
        if data.startswith(MAGIC[:-1]):
            return from_bytes(data)
        if Path(path).suffix == SOURCE_SUFFIX:
            return assemble(_text(data), Path(path).stem)
    except ContainerError as error:
        raise ContainerError(f"{path}: {error}") from error
    except AssemblyError as error:
        raise AssemblyError(f"{path}: {error}") from error
    raise UsageError(
        f"{path} is neither a program file nor an assembly source ({SOURCE_SUFFIX}) nor a built model ({MODEL_SUFFIX})"
    )


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise AssemblyError("the source is not UTF-8 text") from error
