"""The stages of a build: timed, and told to whoever asked.

Used by ``builder``. What the stages do is not known here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[str, float], None]
"""Called with a stage's name and its seconds so far: 0.0 when it begins, more than that when it is done."""

Progress = Callable[[str, float], None]
"""Called with a stage's name and the share of it that is done, 0..1."""


class Stages:
    """Times stages and tells the caller about them.

    Attributes:
        seconds: of each stage that is done.
    """

    def __init__(self, report: Report | None = None, progress: Progress | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._report = report
        self._progress = progress
        self._begun: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """One stage, from beginning to end."""
        self._begin(stage)
        yield
        self._end(stage)

    @contextmanager
    def several(self) -> Iterator[Progress]:
        """Stages that another tells about as it goes through them, one after the other.

        >>> stages = Stages()
        >>> with stages.several() as tell:
        ...     tell("calibrate", 0.0)
        ...     tell("calibrate", 0.5)
        ...     tell("quantize", 0.0)
        >>> list(stages.seconds)
        ['calibrate', 'quantize']
        """
        yield self._tell
        self._end(*self._begun)

    def _tell(self, stage: str, share: float) -> None:
        if stage not in self._begun:
            self._end(*self._begun)
            self._begin(stage)
        if self._progress is not None:
            self._progress(stage, share)

    def _begin(self, stage: str) -> None:
        if self._report is not None:
            self._report(stage, 0.0)
        self._begun[stage] = time.perf_counter()

    def _end(self, *stages: str) -> None:
        for stage in stages:
            spent = max(time.perf_counter() - self._begun.pop(stage), 1e-9)
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent
            if self._report is not None:
                self._report(stage, self.seconds[stage])
