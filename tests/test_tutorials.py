"""The pages that show commands and their output are run: what they print is what a reader gets."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "docs" / "tutorial-assembly.md", ROOT / "docs" / "kernels.md"]

BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_print_what_the_page_shows(page, tmp_path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    assert blocks
    for kind, text in blocks:
        if kind == "python":
            subprocess.run([sys.executable, "-c", text], cwd=tmp_path, check=True)
            continue
        command, _, expected = text.partition("\n")
        assert command.startswith("$ npusim ")
        words = [sys.executable, "-m", *shlex.split(command[2:])]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.stdout == expected, command
