"""The code in the README and the docs runs, commands exist, and the first does what it says."""

import json
import re
import shlex
import subprocess
import sys

import pytest
from conftest import REPO
from html_page import check_page

PAGES = [REPO / "README.md", *sorted((REPO / "docs").rglob("*.md"))]
BLOCKS = [
    (page.relative_to(REPO).as_posix(), *found)
    for page in PAGES
    for found in re.findall(r"```(\w*)\n(.*?)```", page.read_text(), re.S)
]


def commands(*pages):
    texts = [t for page, kind, t in BLOCKS if kind == "bash" and (not pages or page in pages)]
    return [line for text in texts for line in text.splitlines() if line]


COMMANDS = commands("README.md")


@pytest.mark.parametrize("code", [pytest.param(t, id=p) for p, k, t in BLOCKS if k == "python"])
def test_python_blocks_run_and_print_what_they_say(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO)
    assert done.returncode == 0, done.stderr
    promised = re.findall(r"print\(.*\)  # (.*)", code)
    assert promised
    for line in promised:
        assert line in done.stdout


def test_set_up_is_two_commands_and_ci_runs_the_second():
    setup = [c for c in COMMANDS if c.startswith("pip install -e") and "&&" in c]
    assert len(setup) == 2
    assert setup[1] in (REPO / ".ci/run").read_text()


def test_every_flag_and_config_exists():
    from diffusion_jax.config import base

    config = base()
    for command in commands():
        for word in shlex.split(command):
            if word.startswith("--config."):
                *path, last = word.partition("=")[0].removeprefix("--config.").split(".")
                node = config
                for p in path:
                    node = node[p]
                assert last in node, word
            elif word.startswith("--config="):
                assert (REPO / word.removeprefix("--config=").partition(":")[0]).is_file(), word


@pytest.mark.slow
def test_the_main_command(tmp_path):
    main = next(c for c in COMMANDS if "&&" in c and "main" in c).split("&&")[1]
    words = [w.replace("runs/digits", str(tmp_path / "run")) for w in shlex.split(main)]
    assert words[0] == "python"
    # A third of the steps, to save time: the promised figures take all of them.
    words.append("--config.steps=500")
    done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, cwd=REPO)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "run/eval/500.json").read_text())["result"]
    assert report["images"] == 297
    assert report["bits_per_dim"] <= 2.2
    assert report["standard_error"] < 0.05
    assert (tmp_path / "run/samples/500.png").is_file()
    assert len(check_page((tmp_path / "run/report.html").read_text()).all("img")) >= 10
    # Guidance makes the digits recognisable to a classifier that has only seen real ones.
    import numpy as np
    from sklearn.svm import SVC

    from diffusion_jax import registry

    real = registry.build("data", "digits()").split("train")
    judge = SVC(gamma=0.001).fit(real.images.reshape(len(real), -1), real.labels)
    with np.load(tmp_path / "run/samples/500.npz") as made:
        found = judge.predict(made["image"].reshape(len(made["image"]), -1))
        assert (found == made["label"]).mean() > 0.3  # chance: 0.1; 0.9 after all steps
