"""Pages of the documentation whose commands and programs are run: ``python -m examples.pages`` rewrites their outputs.

A ``console`` block is one command and what it prints; a ``text`` block behind a ``python`` block is what that program
prints; a ``toml`` block that begins with its file's name in a comment is that file. A test holds the pages against the
outputs; what may differ from machine to machine is masked there.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    "tutorial.md",
    "tutorial-assembly.md",
    "for-algorithm-engineers.md",
    "for-architects.md",
    "for-kernel-authors.md",
    "kernels.md",
)
SHARED = ("examples", "models", "npusim", "isa")
"""Folders of the checkout that the commands see in the folder they run in."""

BLOCK = re.compile(r"^```(console|python|toml)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


def rewritten(page: Path) -> str:
    """The page with what its commands print now; they run in order, in a folder of their own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for shared in SHARED:
            (folder / shared).symlink_to(ROOT / shared)
        return "".join(_pieces(page.read_text(encoding="utf-8"), folder))


def _pieces(text: str, folder: Path) -> Iterator[str]:
    at = 0
    for block in BLOCK.finditer(text):
        yield text[at : block.start()]
        at = block.end()
        kind, content, shown = block.groups()
        if kind == "toml":
            (folder / content.partition("\n")[0].removeprefix("# ")).write_text(content, encoding="utf-8")
            yield block.group()
        elif kind == "console":
            command = content.partition("\n")[0]
            yield f"```console\n{command}\n{_output(_words(command), folder)}```\n"
        else:
            output = _output(["-c", content], folder)
            yield f"```python\n{content}```\n" + (f"\n```text\n{output}```\n" if shown is not None else "")
    yield text[at:]


def _words(command: str) -> list[str]:
    """Arguments of the interpreter for ``$ npusim ...`` and ``$ python ...``."""
    prompt, program, *arguments = shlex.split(command)
    if prompt != "$" or program not in ("npusim", "python"):
        raise ValueError(f"{command!r} is neither npusim nor python")
    return ["-m", "npusim", *arguments] if program == "npusim" else arguments


def _output(words: list[str], folder: Path) -> str:
    """What the interpreter prints; exit codes 1 and 2 are findings and errors that a page may show."""
    done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1, 2) or "Traceback" in done.stderr:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    for name in sys.argv[1:] or PAGES:
        path = ROOT / "docs" / name
        path.write_text(rewritten(path), encoding="utf-8")
        print(f"written {path.relative_to(ROOT)}")
