"""The README's code runs, its commands exist, and its first command does what it says."""

import json
import re
import shlex
import subprocess
import sys

import pytest
from conftest import REPO

README = (REPO / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.S)
COMMANDS = [line for kind, text in BLOCKS if kind == "bash" for line in text.splitlines() if line]


@pytest.mark.parametrize("code", [t for k, t in BLOCKS if k == "python"])
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


def test_every_flag_and_config_in_the_readme_exists():
    from diffusion_jax.config import base

    config = base()
    for command in COMMANDS:
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
    # Guidance makes the digits recognisable to a classifier that has only seen real ones.
    import numpy as np
    from sklearn.svm import SVC

    from diffusion_jax import registry

    real = registry.build("data", "digits()").split("train")
    judge = SVC(gamma=0.001).fit(real.images.reshape(len(real), -1), real.labels)
    with np.load(tmp_path / "run/samples/500.npz") as made:
        found = judge.predict(made["image"].reshape(len(made["image"]), -1))
        assert (found == made["label"]).mean() > 0.3  # chance: 0.1; 0.9 after all steps
