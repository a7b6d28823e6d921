"""What can go wrong with instructions, programs and program files.

Raised throughout ``isa``; ``npusim.errors`` builds its own tree on the same root. No logic here.
"""

from __future__ import annotations


class IsaError(Exception):
    """Root of every error that ``isa`` raises on purpose; the message is one self-contained sentence."""


class DeclarationError(IsaError):
    """An instruction is declared wrongly: overlapping fields, a reused opcode, no documentation."""


class EncodingError(IsaError, ValueError):
    """A value does not fit the field it is meant for."""


class DecodingError(IsaError, ValueError):
    """A 64-byte word is not an instruction."""


class AssemblyError(IsaError, ValueError):
    """Assembly text cannot be read.

    Attributes:
        line: 1-based line number, or None where the text is a single instruction.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message if line is None else f"line {line}: {message}")
        self.line = line


class ProgramError(IsaError, ValueError):
    """A program is inconsistent: unknown unit, duplicate segment, instruction on the wrong unit."""


class ContainerError(IsaError, ValueError):
    """A program file is truncated, corrupted, foreign or of another major version."""


class AccessError(IsaError, IndexError):
    """An access leaves the memory it names, is misaligned, or an index read at run time is out of range."""
