"""The notebooks run from top to bottom, each in a folder of its own, and their pages show what they print."""

import json
import os
import re
import sys
from pathlib import Path

import pytest

from tools.mkdocs_hooks import page_of

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
every = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@every
def test_a_notebook_runs_and_ends_in_the_registry(path, tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "KDOPS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(path, 4)
    for cell in notebook.cells:
        cell.pop("outputs", None)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    page = page_of(notebook)
    for printed in re.findall(r"test accuracy (0\.\d+)", page):
        assert float(printed) > 0.7
    assert re.search(r"kdops-[\w-]+-student/\d+ \*", page)
    assert "probability" in page


@every
def test_a_notebook_stores_what_it_printed_and_nothing_of_a_machine(path):
    text = path.read_text(encoding="utf-8")
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert all(output["output_type"] != "error" for cell in cells for output in cell["outputs"])
    assert not re.search(r"(?<![\w.])/(root|home|tmp|Users)/", text)
    assert "test accuracy" in page_of(json.loads(text))
