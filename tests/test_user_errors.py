"""Mistakes on the command line: one line, exit code 2, whatever they are."""

import contextlib
import importlib
import sys

import jax
import numpy as np
import pytest
import tiny
from command import config_file, main, refused
from jax.experimental import multihost_utils

import diffusion_jax as dj
from diffusion_jax import saved_config
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import checkpoint_match, latents
from diffusion_jax.networks.published import is_published
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
        ("--config.ema=('a',)", "'a' is not an average"),
        ("--config.sample.num=-3", "sample.num=-3"),
        ("--config.sample.num=1000000000000000", "10+ samples need .* lower --config.sample.num"),
    ],
)
def test_a_value_that_is_none(tmp_path, argument, says):
    refused(
        main(f"--config={config_file(tmp_path)}", f"--workdir={tmp_path / 'run'}", argument), says
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "e", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")]
)
def test_too_little_memory_is_one_line_and_not_tried_again(tmp_path, monkeypatch, e):
    def run(experiment):
        raise e

    monkeypatch.setattr(importlib.import_module("diffusion_jax.cli.modes.eval"), "run", run)
    done = main("eval", f"--config={config_file(tmp_path)}", f"--workdir={tmp_path}/run")
    refused(done, r"too little memory \(.*\): lower --config.batch")


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


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """A downloaded run, whose configuration names a module that leaves a file behind."""
    package = tmp_path / "path"
    package.mkdir()
    (package / "foreign").mkdir()
    (package / "foreign" / "plugin.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
        "from diffusion_jax.process.schedules.linear import make\n"
    )
    monkeypatch.syspath_prepend(str(package))
    run = tmp_path / "run"
    c = tiny.config(tmp_path, schedule="foreign.plugin()")
    run.mkdir()
    (run / "config.json").write_text(c.to_json())
    yield run
    for name in ("foreign", "foreign.plugin"):
        sys.modules.pop(name, None)


def test_a_run_from_elsewhere_imports_nothing_unless_it_is_trusted(foreign, tmp_path):
    refused(main("eval", f"--workdir={foreign}"), r"would import foreign\.plugin.*--trust")
    with pytest.raises(ConfigError, match="trust=True"):
        dj.open_run(foreign)
    assert not (tmp_path / "ran").exists()
    assert dj.open_run(foreign, trust=True).model.schedule is not None
    assert (tmp_path / "ran").exists()
    refused(main("eval", f"--workdir={foreign}", "--trust"), "no checkpoint in")


def test_a_record_from_elsewhere_imports_nothing_either(foreign, tmp_path, monkeypatch):
    """What a checkpoint says of its data, where the settings are one's own."""
    saved = saved_config.to_dict(tiny.config(tmp_path, data="foreign.plugin()"))
    experiment, theirs = tiny.experiment(tmp_path, "mine"), saved_config.from_dict(saved)
    checkpoint_match.check_settings(experiment, tmp_path / "theirs", saved)
    latents._check_data(experiment, theirs, "theirs")
    assert not (tmp_path / "ran").exists()
    monkeypatch.setenv(saved_config.TRUST, "1")
    with contextlib.suppress(AttributeError):  # it makes no data set
        checkpoint_match.check_settings(experiment, tmp_path / "theirs", saved)
    assert (tmp_path / "ran").exists()


def test_a_work_directory_may_be_called_like_a_published_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_published("vdm:run")
    (tmp_path / "vdm:run").mkdir()
    assert not is_published("vdm:run") and not is_published("runs/a:b")


def test_modules_are_found_wherever_plug_ins_are_named():
    named = {
        "optimizer": "contrib.muon()", "data_dir": "/data/x.y", "steps": 3,
        "guidance": "sum(cfg(w=2.0), json.tool(a=1))", "sample": {"labels": [1], "x": "os.path"},
        "network": "diffusion_jax.networks.x()",
    }  # fmt: skip
    assert saved_config.imports(named) == ["json.tool", "os.path"]
