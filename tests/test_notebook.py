"""The notebook is stored as it ran, and runs from top to bottom."""

import re

import nbformat
import pytest
from conftest import REPO
from nbclient import NotebookClient

PATH = REPO / "notebooks" / "digits.ipynb"
# What it shows does not depend on these; the test has not got three minutes.
SMALLER = {
    "--config=digits ": "--config=digits:smoke --config.sample.steps=2 --config.steps=2 ",
    '"test", draws=8': '"test", draws=2, limit=8',
    "steps=20": "steps=2",
    "test.images[:100]), test.labels[:100]": "test.images[:4]), test.labels[:4]",
    "timesteps = 50": "timesteps = 2",
}


def read():
    return nbformat.read(PATH, as_version=4)


def outputs(notebook):
    return [o for cell in notebook.cells for o in cell.get("outputs", ())]


def printed(notebook):
    return "".join(o.get("text", "") for o in outputs(notebook))


def holds(notebook):
    """What has run in order, without an error or a word on stderr, and shows what it says."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    found = outputs(notebook)
    assert {o.output_type for o in found} <= {"stream", "display_data", "execute_result"}
    assert {o.name for o in found if o.output_type == "stream"} == {"stdout"}
    assert "bits/dim, given the class" in printed(notebook)
    assert "same bytes back" in printed(notebook)
    assert len([o for o in found if "image/png" in o.get("data", {})]) == 2
    no_paths(notebook)


def no_paths(notebook):
    assert not re.search(r"(^|[\s'\"=])/(\w+/)+", printed(notebook)), "a path of one machine"


def test_what_is_stored_is_what_ran():
    notebook = read()
    holds(notebook)
    sizes = dict(re.findall(r"^(plain|coded)\b.*: ([\d,]+) bytes$", printed(notebook), re.M))
    coded, plain = (int(sizes[k].replace(",", "")) for k in ("coded", "plain"))
    assert coded < plain  # the last of the plain ones: levels packed
    assert PATH.stat().st_size < 300_000


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:(zmq|jupyter_client|tornado).*")
def test_the_notebook_runs(fast_programs):
    notebook = read()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    for text, smaller in SMALLER.items():
        (cell,) = (c for c in notebook.cells if c.cell_type == "code" and text in c.source)
        cell.source = cell.source.replace(text, smaller)
    client = NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": PATH.parent}})
    client.execute()
    holds(notebook)


SCENES = REPO / "notebooks" / "scenes.ipynb"
SCENES_SMALLER = {
    "--config=scenes ": "--config=scenes:smoke --config.steps=2 --config.sample.num=0 "
    "--config.network=dit(width=48,depth=1,heads=2,patch=4) ",
    "steps=50": "steps=2",
    "draws=8, limit=200": "draws=2, limit=4",
    "draws=32 --config.eval.limit=200": "draws=2 --config.eval.limit=4 --config.inform.words=True",
}


def holds_words_and_bits(notebook):
    """What has run in order and shows samples, bits and maps, with all checks."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    found = outputs(notebook)
    assert {o.output_type for o in found} <= {"stream", "display_data", "execute_result"}
    said = printed(notebook)
    assert "mutual information of text and image" in said and "I <= H" in said
    assert len([o for o in found if "image/png" in o.get("data", {})]) == 3
    no_paths(notebook)


def test_what_is_stored_of_words_and_bits_is_what_ran():
    holds_words_and_bits(nbformat.read(SCENES, as_version=4))
    assert SCENES.stat().st_size < 300_000


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:(zmq|jupyter_client|tornado).*")
def test_the_notebook_of_words_and_bits_runs(fast_programs, tmp_path):
    notebook = nbformat.read(SCENES, as_version=4)
    smaller = SCENES_SMALLER | {'"runs/notebook_scenes"': repr(str(tmp_path / "run"))}
    for text, instead in smaller.items():
        (cell,) = (c for c in notebook.cells if c.cell_type == "code" and text in c.source)
        cell.source = cell.source.replace(text, instead)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": SCENES.parent}})
    client.execute()
    holds_words_and_bits(notebook)
