"""The notebook runs from top to bottom, and shows what it says."""

import nbformat
import pytest
from conftest import REPO
from nbclient import NotebookClient


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:(zmq|jupyter_client|tornado).*")
def test_the_notebook_runs(fast_programs):
    path = REPO / "notebooks" / "digits.ipynb"
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit it without outputs"
    train = notebook.cells[3]
    assert "--config.steps=300" in train.source  # what the notebook shows does not depend on it
    train.source = train.source.replace("--config.steps=300", "--config.steps=30")
    client = NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": path.parent}})
    client.execute()
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", ())]
    printed = "".join(o.get("text", "") for o in outputs)
    assert "bits/dim, given the class" in printed
    assert "same bytes back" in printed
    pictures = [o for o in outputs if "image/png" in o.get("data", {})]
    assert len(pictures) == 2
