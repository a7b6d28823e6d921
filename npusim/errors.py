"""What can go wrong in npusim, as one small tree with structured attributes.

Raised everywhere in ``npusim``; the CLI prints the message as one line. Standard library only, and no logic but
the wording: whatever finds the problem lives with the code that looks for it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

# Similarity from which a spelling counts as a slip: "bank_byte" and "bank_bytes" have 0.95, "conv2" and "conv1" 0.80.
# difflib's own default of 0.6 also joins words that merely share letters: "depth" and "width".
_SIMILAR = 0.65


def did_you_mean(word: str, candidates: Iterable[str], limit: int = 3) -> str:
    """The phrase that names the nearest valid spellings, or an empty string where none is near.

    Upper and lower case are not told apart when comparing, but the candidates are named as they are spelled.

    Args:
        word: what was written.
        candidates: what is allowed.
        limit: the largest number of spellings to name.

    >>> did_you_mean("conv2", ["conv0", "conv1", "teng"])
    "did you mean 'conv1' or 'conv0'?"
    >>> did_you_mean("npu2", ["NPU1", "NPU2"], limit=1)
    "did you mean 'NPU2'?"
    >>> did_you_mean("voltage", ["bank_bytes", "clock_hz"])
    ''
    """
    spellings: dict[str, str] = {}
    for candidate in candidates:
        spellings.setdefault(candidate.casefold(), candidate)
    near = difflib.get_close_matches(word.casefold(), spellings, n=limit, cutoff=_SIMILAR)
    if not near:
        return ""
    return f"did you mean {_alternatives([repr(spellings[match]) for match in near])}?"


def _alternatives(words: Sequence[str]) -> str:
    """``a``, ``a or b``, ``a, b or c``."""
    if len(words) == 1:
        return words[0]
    return f"{', '.join(words[:-1])} or {words[-1]}"


class NpusimError(Exception):
    """Root of every error that ``npusim`` raises on purpose; the message is one self-contained sentence.

    Errors of the instruction set (``isa.errors.IsaError``) are a tree of their own, because ``isa`` knows nothing of
    npusim. All of these survive pickling with their attributes, so that a sweep over processes can report them.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls type(self)(*self.args), which fails where __init__ builds the message from attributes.
        return _restore, (type(self), self.args, self.__dict__)


def _restore(kind: type[NpusimError], args: tuple[Any, ...], state: dict[str, Any]) -> NpusimError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class UsageError(NpusimError, ValueError):
    """A command line or a call asks for something that makes no sense.

    Attributes:
        suggestion: the nearest valid spelling as a phrase (``did_you_mean``), or an empty string.
    """

    def __init__(self, message: str, suggestion: str = "") -> None:
        super().__init__(_join(message, suggestion))
        self.suggestion = suggestion


class ConfigError(NpusimError, ValueError):
    """A value of a configuration file is missing, unknown, of the wrong type or inconsistent with another.

    Attributes:
        path: where in the configuration, as a dotted key such as ``dram.page_bytes``; empty for the whole file.
        suggestion: the nearest valid spelling as a phrase (``did_you_mean``), or an empty string.
        source: the file's name as the user gave it, or an empty string where there is no file.
    """

    def __init__(self, path: str, message: str, suggestion: str = "", source: str = "") -> None:
        super().__init__(": ".join(part for part in (source, path, _join(message, suggestion)) if part))
        self.path = path
        self.suggestion = suggestion
        self.source = source


class SimulationError(NpusimError):
    """A simulation cannot begin or cannot go on. Raised as one of its subclasses wherever one fits."""


class UnverifiedProgramError(SimulationError, ValueError):
    """The verifier refused a program and the user did not ask to run it all the same.

    Attributes:
        findings: what the verifier found, one sentence each; the message quotes the first.
    """

    def __init__(self, findings: Iterable[object]) -> None:
        self.findings = tuple(str(finding) for finding in findings)
        first = self.findings[0] if self.findings else "it was never verified"
        more = len(self.findings) - 1
        rest = f" (and {more} more {'finding' if more == 1 else 'findings'})" if more > 0 else ""
        super().__init__(f"the program does not verify: {first}{rest}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """One unit that stands still for good.

    Attributes:
        unit: the waiting unit as the trace names it, for example ``core0.conv1``.
        index: position in the unit's stream of the instruction that cannot issue.
        needs: what it waits for and what there is: ``(counter, value needed, value reached)`` each.
    """

    unit: str
    index: int
    needs: tuple[tuple[str, int, int], ...]

    def __str__(self) -> str:
        needs = " and ".join(f"{counter} >= {value} (now {reached})" for counter, value, reached in self.needs)
        return f"{self.unit}[{self.index}] waits for {needs or 'nothing'}"


class DeadlockError(SimulationError):
    """No unit can go on, and some have instructions left.

    Attributes:
        waiting: every unit that stands still, in the machine's order.
        cycle: when the last event happened, or None where that is not known.
    """

    def __init__(self, waiting: Iterable[Waiting], cycle: int | None = None) -> None:
        self.waiting = tuple(waiting)
        self.cycle = cycle
        when = "deadlock" if cycle is None else f"deadlock at cycle {cycle}"
        super().__init__(f"{when}: {'; '.join(map(str, self.waiting))}")


class CycleLimitError(SimulationError):
    """A simulation reached the cycle limit it was given.

    Attributes:
        limit_cycles: the limit.
        retired: how many instructions had retired by then.
        total: how many instructions the program has.
    """

    def __init__(self, limit_cycles: int, retired: int, total: int) -> None:
        super().__init__(
            f"the limit of {limit_cycles} cycles was reached with {retired} of {total} instructions retired"
        )
        self.limit_cycles = limit_cycles
        self.retired = retired
        self.total = total


class MachineFault(SimulationError):
    """An instruction did something the machine refuses at run time, such as gathering outside of its table.

    Attributes:
        unit: the unit that executed it, as the trace names it, for example ``core0.cv``.
        index: position of the instruction in the unit's stream.
        cycle: when it happened, or None where the fault does not depend on time.
    """

    def __init__(self, message: str, *, unit: str, index: int, cycle: int | None = None) -> None:
        when = "" if cycle is None else f" at cycle {cycle}"
        super().__init__(f"{unit}[{index}]{when}: {message}")
        self.unit = unit
        self.index = index
        self.cycle = cycle


def _join(message: str, suggestion: str) -> str:
    return f"{message}; {suggestion}" if suggestion else message
