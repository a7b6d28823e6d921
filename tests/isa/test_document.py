from pathlib import Path

from isa.document import manual
from isa.instruction import MNEMONICS

PAGE = Path(__file__).parents[2] / "docs" / "isa.md"


def test_the_committed_manual_is_the_generated_one():
    assert PAGE.read_text(encoding="utf-8") == manual(), "run `make docs`"


def test_every_instruction_and_field_is_in_the_manual():
    text = manual()
    for name, cls in MNEMONICS.items():
        section = text.split(f"\n### {name}\n")[1].split("\n### ")[0]
        for field in cls.layout.fields:
            assert f"| `{field.name}` | {field.position}.." in section
            assert field.spec.doc in section
