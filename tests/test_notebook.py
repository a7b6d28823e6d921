"""The example notebook runs as a reader runs it, and shows what it is stored with.

In a kernel of its own and not in this process: a cell's output, plots included, is what the kernel sends, and nothing
that pytest has imported or set can help it. Numbers may differ from the stored ones: they are those of the version that
`make pictures` last ran with.
"""

import pytest

pytest.importorskip("nbclient", reason="nbclient is not installed (extra dev)")

from examples.notebook import NOTEBOOK, run


def kinds(notebook):
    """What the cells show: the types of their outputs."""
    return [
        [sorted(output.get("data", {"text": ""})) for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:jupyter_client", "ignore::DeprecationWarning:zmq")
def test_the_notebook_runs_and_shows_what_it_is_stored_with():
    import nbformat

    stored = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(stored)
    assert kinds(run(NOTEBOOK)) == kinds(stored)
    assert sum("image/png" in shown for cell in kinds(stored) for shown in cell) == 2
    assert "/home" not in NOTEBOOK.read_text(encoding="utf-8")
