"""Which OCM banks an instruction occupies (microarchitecture 6.4, item 4).

``sim`` compares the masks of a transfer and of what executes beside it; the compiler's allocator avoids equal ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from isa.region import OWN_CORE, Region, Space
from npusim.config import Hardware


def streamed_banks(instruction: Any, core: int, hardware: Hardware) -> dict[int, Any]:
    """The banks from the lowest to the highest byte of each non-empty OCM region, by logical core.

    Args:
        instruction: one instruction, or columns of a class.
        core: the logical core whose unit executes it.
        hardware: the machine.

    Returns:
        A mask by logical core, bit b for bank b: an int for one instruction, int64[n] for columns. Cores that no
        instruction touches are left out. A region that leaves the OCM, which no verified program has, counts as
        reaching to the last bank.
    """
    masks: dict[int, Any] = {}
    for region in (*instruction.reads(), *instruction.writes()):
        if region.space is not Space.OCM:
            continue
        mask = _mask(region, hardware)
        for place in np.unique(region.place).tolist():
            here = np.where(region.place == place, mask, 0)
            if here.any():
                owner = core if place == OWN_CORE else place
                masks[owner] = masks.get(owner, 0) | here
    return {owner: mask if mask.ndim else int(mask) for owner, mask in masks.items()}


def _mask(region: Region, hardware: Hardware) -> Any:
    """Bits of the banks between a region's ends; 0 where it is empty."""
    bank_bytes, last_bank = hardware.ocm.bytes // hardware.ocm.banks, hardware.ocm.banks - 1
    end = np.asarray(region.end, dtype=np.int64)
    base = np.asarray(region.base, dtype=np.int64)
    low = np.minimum(base // bank_bytes, last_bank)
    high = np.minimum((end - 1) // bank_bytes, last_bank)
    return np.where(end > base, (np.int64(2) << np.maximum(high, 0)) - (np.int64(1) << low), 0)
