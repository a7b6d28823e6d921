"""Blocks of cores: virtual NPU modes, affinity masks, and which physical cores a model gets.

Used by ``fleet`` and the command line. The rules are those of the board's runtime; docs/sharing.md tells them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from npusim.config import Hardware
from npusim.errors import UsageError

VNPU = {0: "Disable", 1: "STD", 2: "BigLittle", 3: "LittleBig"}
"""Partitions of the cores by the number the command takes."""

Blocks = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a model asks for.

    Attributes:
        name: for messages.
        npu_mode: what it was built for.
        cores: how many that is.
        mask: cores it may use, bit n for core n.
    """

    name: str
    npu_mode: str
    cores: int
    mask: int


def blocks_of(vnpu: int, hardware: Hardware) -> Blocks:
    """The blocks of cores of a virtual NPU mode.

    Raises:
        UsageError: no such mode, or none of this machine.
    """
    cores = tuple(range(hardware.machine.cores))
    if vnpu not in VNPU:
        raise UsageError(f"-v takes {', '.join(f'{key} ({name})' for key, name in VNPU.items())}, not {vnpu}")
    if vnpu > 1 and len(cores) != 3:
        raise UsageError(f"-v {vnpu} ({VNPU[vnpu]}) parts three cores; {hardware.machine.name} has {len(cores)}")
    return {
        0: (cores,),
        1: tuple((core,) for core in cores),
        2: (cores[:2], cores[2:]),
        3: (cores[:1], cores[1:]),
    }[vnpu]


def parse_mask(text: str | None, hardware: Hardware) -> int:
    """An affinity mask; all cores where none is given.

    Raises:
        UsageError: no number, no core, or a core the machine lacks.
    """
    everything = (1 << hardware.machine.cores) - 1
    if text is None:
        return everything
    try:
        mask = int(text, 0)
    except ValueError:
        raise UsageError(f"-a takes a mask such as 0b001, 1 or 0x7, not {text!r}") from None
    return check_mask(mask, hardware)


def check_mask(mask: int, hardware: Hardware) -> int:
    """The mask.

    Raises:
        UsageError: it names no core, or one the machine lacks.
    """
    everything = (1 << hardware.machine.cores) - 1
    if not 0 < mask <= everything:
        name = hardware.machine.name
        raise UsageError(f"affinity {mask:#b}: the masks of {name} are 0b1 to {everything:#b}, one bit a core")
    return mask


def mask_of(cores: Sequence[int], hardware: Hardware) -> str:
    """The mask of some cores, one digit per core of the machine.

    >>> from npusim.config import load
    >>> mask_of((0, 2), load("ax650n"))
    '0b101'
    """
    return f"0b{sum(1 << core for core in cores):0{hardware.machine.cores}b}"


def place(claims: Sequence[Claim], vnpu: int, hardware: Hardware) -> list[tuple[int, ...]]:
    """The physical cores of each model.

    A model lies inside one block, on cores of its mask. The models with the most cores choose first: the cores on which
    the fewest models lie, then the smallest block, then the lowest cores. Models that cannot keep out of each other's
    way share cores, by turns.

    Raises:
        UsageError: no block has enough cores for a model.

    >>> from npusim.config import load
    >>> small, big = (Claim(name=f"m{n}", npu_mode=f"NPU{n}", cores=n, mask=0b111) for n in (1, 2))
    >>> place([small, big], 0, load("ax650n")), place([small, small, big], 2, load("ax650n"))
    ([(2,), (0, 1)], [(2,), (2,), (0, 1)])
    """
    blocks = blocks_of(vnpu, hardware)
    on_core = Counter[int]()
    placed: dict[int, tuple[int, ...]] = {}
    for index in sorted(range(len(claims)), key=lambda index: -claims[index].cores):
        claim = claims[index]
        choices = []
        for block in blocks:
            allowed = sorted((core for core in block if claim.mask >> core & 1), key=lambda core: (on_core[core], core))
            cores = tuple(sorted(allowed[: claim.cores]))
            if len(cores) == claim.cores:
                crowd = max(on_core[core] for core in cores)
                choices.append((crowd, len(block), cores))
        if not choices:
            sizes = "+".join(str(len(block)) for block in blocks)
            raise UsageError(
                f"{claim.name}: an {claim.npu_mode} model needs {claim.cores} cores in one block: affinity "
                f"{claim.mask:#b} with -v {vnpu} ({VNPU[vnpu]}, {sizes}) has no block with as many"
            )
        *_, placed[index] = min(choices)
        on_core.update(placed[index])
    return [placed[index] for index in range(len(claims))]
