"""The hardware description: a TOML file in, a checked record out, the origin of every number with it.

``timing``, ``sim`` and ``compiler`` read the record; ``cli`` and users call ``load``. No cycle formula belongs here.
"""

from npusim.config.hardware import Hardware, Provenance, ProvenanceKind
from npusim.config.reader import NAMES, load, loads

__all__ = ["NAMES", "Hardware", "Provenance", "ProvenanceKind", "load", "loads"]
