"""Mistakes on the command line: one line, exit code 2, whatever they are."""

import jax
import numpy as np
import pytest
from command import config_file, main, refused
from jax.experimental import multihost_utils

from diffusion_jax.errors import ConfigError
from diffusion_jax.runtime import distributed

BROKEN = {
    "syntax": ("def get_config(:", "SyntaxError"),
    "name": ("def get_config(v=''):\n    return undefined", "NameError: name 'undefined'"),
    "import": ("import nosuchmodule", "No module named 'nosuchmodule'"),
    "arithmetic": ("def get_config(v=''):\n    return 1 / 0", "ZeroDivisionError"),
    "assertion": ("def get_config(v=''):\n    assert 1 > 2", "AssertionError: assert 1 > 2"),
    "recursion": ("def get_config(v=''):\n    return get_config()", "RecursionError"),
    "bytes": ("\0", "null bytes"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_configuration_file_that_fails(tmp_path, kind):
    text, says = BROKEN[kind]
    (tmp_path / "broken.py").write_text(text + "\n")
    refused(main(f"--config={tmp_path / 'broken.py'}", f"--workdir={tmp_path / 'run'}"), says)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("--mode=", "there is no mode ''"),
        ("--workdir=a\0b", "zero byte"),
        ("--config.ema=('a',)", "'a' is no average"),
        ("--config.sample.num=-3", "sample.num=-3"),
    ],
)
def test_a_value_that_is_none(tmp_path, argument, says):
    refused(
        main(f"--config={config_file(tmp_path)}", f"--workdir={tmp_path / 'run'}", argument), says
    )
    assert not (tmp_path / "run").exists()


def test_processes_that_differ_are_told_in_which_field(monkeypatch):
    mine = {"mode": "train", "configuration": {"lr": 0.1, "sample": {"num": 3, "seed": 0}}}
    theirs = {"mode": "train", "configuration": {"lr": 0.1, "sample": {"num": 4, "seed": 0}}}
    seen = []

    def gather(digests):
        seen.append(digests)
        return np.stack([digests, other.pop(0)]) if other else np.stack([digests, digests])

    other = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(multihost_utils, "process_allgather", gather)
    distributed.agree(theirs)
    other, seen = seen, []
    with pytest.raises(ConfigError, match=r"process 1 has another configuration\.sample\.num"):
        distributed.agree(mine)
