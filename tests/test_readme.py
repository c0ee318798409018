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


PYTHON = [pytest.param(t, id=p) for p, k, t in BLOCKS if k == "python"]
OF_A_RUN = [p for p in PYTHON if "runs/digits" in p.values[0]]


@pytest.mark.parametrize("code", [p for p in PYTHON if p not in OF_A_RUN])
def test_python_blocks_run_and_print_what_they_say(code):
    keeps_its_promises(code)


def keeps_its_promises(code):
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
    from diffusion_jax.cli.arguments import config_path
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
                assert config_path(word.removeprefix("--config=").partition(":")[0]), word


@pytest.fixture(scope="module")
def run(tmp_path_factory, fast_programs):
    """What the first command leaves, after a third of its steps: the promised figures take all."""
    folder = tmp_path_factory.mktemp("readme") / "run"
    main = next(c for c in COMMANDS if "&&" in c and "main" in c).split("&&")[1]
    words = [w.replace("runs/digits", str(folder)) for w in shlex.split(main)]
    assert words[0] == "python"
    call(*words[1:], "--config.steps=500")
    return folder


def call(*words):
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=REPO)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_main_command(run):
    report = json.loads((run / "eval/500.json").read_text())["result"]
    assert report["images"] == 297
    assert report["bits_per_dim"] <= 2.2
    assert report["standard_error"] < 0.05
    assert (run / "samples/500.png").is_file()
    assert len(check_page((run / "report.html").read_text()).all("img")) >= 10
    # Guidance makes the digits recognisable to a classifier that has only seen real ones.
    import numpy as np
    from sklearn.svm import SVC

    from diffusion_jax import registry

    real = registry.build("data", "digits()").split("train")
    judge = SVC(gamma=0.001).fit(real.images.reshape(len(real), -1), real.labels)
    with np.load(run / "samples/500.npz") as made:
        found = judge.predict(made["image"].reshape(len(made["image"]), -1))
        assert (found == made["label"]).mean() > 0.3  # chance: 0.1; 0.9 after all steps


@pytest.mark.slow
@pytest.mark.parametrize("code", OF_A_RUN)
def test_the_library_opens_a_run(run, code):
    keeps_its_promises(code.replace("runs/digits", str(run)))


@pytest.mark.slow
def test_half_precision_costs_no_bits(run, tmp_path):
    # The same images, times and noise: what is left is rounding in the network.
    found = {}
    for dtype in ("float32", "bfloat16"):
        call(
            "-m", "diffusion_jax.main", "--mode=eval", f"--checkpoint={run}",
            f"--workdir={tmp_path / dtype}", f"--config.dtype={dtype}", "--config.eval.limit=64",
            "--config.eval.draws=8", "--config.eval.timesteps=()",
        )  # fmt: skip
        report = json.loads((tmp_path / dtype / "eval/500.json").read_text())
        found[dtype] = report["result"]["bits_per_dim"]
    assert found["bfloat16"] != found["float32"]
    assert found["bfloat16"] == pytest.approx(found["float32"], abs=0.005)
