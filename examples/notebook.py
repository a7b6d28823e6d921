"""Run the example notebook and keep what it shows: ``python -m examples.notebook``.

The notebook is stored with its outputs, so that it can be read without running it. ``run`` is what its test uses.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).parent / "profile.ipynb"
SECONDS_A_CELL = 300


def run(path: Path) -> Any:
    """The notebook, executed from its first cell on in a kernel of its own.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=SECONDS_A_CELL, kernel_name="python3", record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )  # fmt: skip
    client.execute()
    for cell in (
        cell for cell in notebook.cells if cell.cell_type == "code"
    ):  # standard error holds notes about the computer it ran on
        cell["outputs"] = [output for output in cell.get("outputs", ()) if output.get("name") != "stderr"]
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}
    return notebook


def main() -> None:
    import nbformat

    nbformat.write(run(NOTEBOOK), NOTEBOOK)
    print(f"{NOTEBOOK.name}: every cell run, outputs kept")


if __name__ == "__main__":
    main()
