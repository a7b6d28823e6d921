"""How many cycles an instruction takes when nothing is in its way: docs/microarchitecture.md, sections 3 to 6, once.

The compiler's tiler and the machine call the same functions. Waiting, arbitration and contention live in ``sim``.
"""

from npusim.timing import control, matrix, move, transfer, vector
from npusim.timing.banks import streamed_banks
from npusim.timing.registry import TIMED, cycles_of, uncontended_cycles
from npusim.timing.transfer import BurstGroups, PathGroups, burst_groups, data_cycles, path_groups

assert all((control, matrix, move, transfer, vector)), "imported for their entries in the registry"

__all__ = [
    "TIMED",
    "BurstGroups",
    "PathGroups",
    "burst_groups",
    "cycles_of",
    "data_cycles",
    "path_groups",
    "streamed_banks",
    "uncontended_cycles",
]
