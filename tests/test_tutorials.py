"""The pages that show commands and their output are run: what they print is what a reader gets."""

from __future__ import annotations

import re

import pytest

from examples.pages import BLOCK, PAGES, ROOT, rewritten

MACHINE_DEPENDENT = (
    (re.compile(r" *\d+\.\d{3} s\b"), " # s"),
    # onnxruntime's float sums depend on the CPU, and with them the last digits of scales and scores
    (re.compile(r"^(written .*)\([\d,]+ bytes\)$", re.MULTILINE), r"\1(# bytes)"),
    (re.compile(r"^/layers/.* u8 +\d\.\d{6} +\d+\.\d\d$", re.MULTILINE), "# a layer of the precision analysis"),
    (re.compile(r"^-?\d+\.\d{4}, ", re.MULTILINE), "#, "),
)


def masked(text: str) -> str:
    for pattern, replacement in MACHINE_DEPENDENT:
        text = pattern.sub(replacement, text)
    return text


@pytest.mark.parametrize("name", PAGES)
def test_commands_print_what_the_page_shows(name):
    page = ROOT / "docs" / name
    assert masked(rewritten(page)) == masked(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_something(name):
    assert BLOCK.search((ROOT / "docs" / name).read_text(encoding="utf-8"))
