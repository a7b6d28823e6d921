"""A headless Chromium for tests, which are skipped where it or what drives it is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from examples import browser


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser that has just started."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")
    path = browser.find_chromium()
    if path is None:
        pytest.skip(f"there is no {', '.join(browser.NAMES)} on the path (apt-get install chromium)")
    with browser.chromium(path) as running:
        yield running
