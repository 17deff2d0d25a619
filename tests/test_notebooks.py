"""The notebooks in examples/ run from their first cell to their last, on fewer digits, and show what they made."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

EXAMPLES = sorted((pathlib.Path(__file__).parent.parent / "examples").glob("*.ipynb"))
FEWER_DIGITS = """
import sklearn.datasets
from sklearn.utils import Bunch

digits = sklearn.datasets.load_digits()
sklearn.datasets.load_digits = lambda: Bunch(images=digits.images[:400], target=digits.target[:400])
"""


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_it_runs(path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # kept without what it shows
    notebook.cells.insert(0, nbformat.v4.new_code_cell(FEWER_DIGITS))
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output["data"] for output in outputs(notebook) if "data" in output]
    assert any("text/html" in data and "data:image/" in data["text/html"] for data in shown)  # with pictures
    errors = [output["text"] for output in outputs(notebook) if output.get("name") == "stderr"]
    assert not [text for text in errors if "Traceback" in text or "WARNING" in text]


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]
