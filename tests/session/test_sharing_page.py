"""docs/sharing.md: its commands run, on smaller models under the same names, and print what the page shows but figures.

Figures change with every better schedule; titles, labels and the words around them are what a reader relies on.
"""

import re
import shlex
from pathlib import Path

import onnx
import pytest

from npusim.cli import main
from npusim.config import load
from npusim.session.blocks import VNPU, blocks_of
from tests.session import small

PAGE = Path(__file__).parents[2] / "docs" / "sharing.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\n\$ npusim (.*?)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, chain_built, several_built):
    folder = tmp_path_factory.mktemp("page")
    for name, model, built in (
        ("resnet18", small.chain(), chain_built),
        ("mobilenet_v2", small.several(), several_built),
    ):
        model.graph.name = name
        onnx.save(model, folder / f"{name}.onnx")
        (folder / f"{name}.axmodel").write_bytes(built.data)
    return folder


def words(text):
    """The lines of an output without figures, masks, fills and names of models."""
    text = re.sub(r"\b(resnet18|mobilenet_v2|tiny)\b", "M", text)
    text = re.sub(r"NPU\d|0b[01]+|[\d,]+(\.\d+)?", "#", text)
    return [" ".join(line.split()) for line in text.strip().splitlines()]


@pytest.mark.parametrize(("command", "shown"), BLOCKS, ids=[command[:60] for command, _ in BLOCKS])
def test_commands_print_what_the_page_shows(capsys, monkeypatch, folder, command, shown):
    monkeypatch.chdir(folder)
    code = main(shlex.split(command))
    out, err = capsys.readouterr()
    found, expected = words(out + err), words(shown)
    assert code == (2 if shown.startswith("npusim:") else 0)
    if "compare" in command:  # which plan wins, and why, is a figure
        assert re.match(r"[\d+]+ serves this mix (best|as well as)", (out.splitlines())[-1])
        found, expected = found[:-1], expected[:-1]
    # a model's requests without answer are a figure, too
    assert [line for line in found if "had no answer" not in line] == expected


def test_the_page_has_commands():
    assert len(BLOCKS) == 5


def test_the_table_of_virtual_npus_is_that_of_the_code():
    rows = re.findall(r"^\| (\d) \| (\w+) \| ([^|]+) \|", TEXT, re.MULTILINE)
    assert {int(key): name for key, name, _ in rows} == VNPU
    for key, _, sizes in rows:
        found = "+".join(str(len(block)) for block in blocks_of(int(key), load("ax650n")))
        assert sizes.strip() == found or (key == "0" and found == "3")
