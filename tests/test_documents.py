"""The documents: links lead somewhere, and what they say about the code is so."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from isa import law

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("tests/**/*.md")])
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_of_the_project(document):
    targets = [(document.parent / link).resolve() for link in LINK.findall(document.read_text(encoding="utf-8"))]
    assert [str(target) for target in targets if not (target.exists() and target.is_relative_to(ROOT))] == []


def test_numerics_names_every_function_of_the_law_and_no_other():
    text = (ROOT / "docs/numerics.md").read_text(encoding="utf-8")
    functions = {name for name, value in vars(law).items() if inspect.isfunction(value) and not name.startswith("_")}
    constants = {name for name in vars(law) if name.isupper()}
    assert set(re.findall(r"\blaw\.(?!py\b)(\w+)", text)) == functions | constants


def test_architecture_names_every_room():
    from tests.test_architecture import ROOMS

    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    assert [room for room in ROOMS if f"`{room}`" not in text] == []


def test_glossary_is_alphabetical():
    text = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    words = re.findall(r"^\| ([^|]+) \|", text, flags=re.MULTILINE)[2:]
    assert len(words) > 30
    assert words == sorted(words, key=str.casefold)


def test_site_builds_without_a_warning(tmp_path):
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "index.html").exists()


def test_every_page_is_in_the_site():
    listed = set(re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert listed == {page.name for page in ROOT.glob("docs/*.md")}
