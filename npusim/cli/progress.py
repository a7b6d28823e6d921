"""Progress of long work: a line that redraws itself on a terminal, and nothing where output is piped."""

from __future__ import annotations

import sys
import time

_WIDTH = 30


class Progress:
    """A bar on standard error with stage, percent and time left.

    Args:
        title: what is being done.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.begin = time.monotonic()
        self.shown = sys.stderr.isatty()

    def step(self, share: float, stage: str = "") -> None:
        """Redraw: ``share`` of the work is done, 0..1, and ``stage`` is under way."""
        if not self.shown:
            return
        spent = time.monotonic() - self.begin
        left = f"{spent / share - spent:.0f} s left" if share > 0 else ""
        bar = "#" * round(_WIDTH * share)
        sys.stderr.write(f"\r\033[K{self.title} [{bar:<{_WIDTH}}] {share:4.0%}  {left}  {stage}")
        sys.stderr.flush()

    def done(self) -> None:
        """Take the line away."""
        if self.shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
