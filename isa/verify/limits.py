"""What a proof assumes of the machine, and the stamp that remembers that a program was proven under it.

Used by the rest of ``isa.verify`` and by whoever loads programs. Nothing here looks into instructions.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ..program import ISA_MAJOR, ISA_MINOR, Program

VERIFIER_VERSION = 1
"""Raised whenever the verifier refuses something that it used to accept, so that old stamps lose their worth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The machine as far as a proof depends on it.

    Attributes:
        cores: physical cores; a program may use at most as many logical ones.
        ocm_bytes: bytes of one core's OCM.
    """

    cores: int
    ocm_bytes: int

    def fingerprint(self) -> str:
        """One line that differs whenever the limits do."""
        return f"cores={self.cores} ocm_bytes={self.ocm_bytes}"


def stamp(program: Program, limits: Limits) -> str:
    """The stamp ``program`` carries once it has been verified under ``limits``.

    It binds the verifier's version, the ISA's, the program's words and data, and the limits. It says that somebody
    ran the verifier; it is no signature against somebody who forges it, which is why loading rechecks the bounds.
    """
    parts = (str(VERIFIER_VERSION), f"{ISA_MAJOR}.{ISA_MINOR}", program.fingerprint(), limits.fingerprint())
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return f"npusim-verified-{VERIFIER_VERSION}:{digest}"


def is_stamped(program: Program, limits: Limits) -> bool:
    """Whether the program carries the stamp of this verifier for itself and these limits."""
    return bool(program.stamp) and program.stamp == stamp(program, limits)
