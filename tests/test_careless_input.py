"""Careless input: the line names what was wrong, what is allowed, and how to mend it."""

import io
import sys

import numpy as np
import pytest
import tiny
from command import config_file, main, refused

from diffusion_jax import (
    config as config_lib,
    config_fields,
    packaged,
    ranges,
    registry,
    saved_config,
)
from diffusion_jax.cli import arguments
from diffusion_jax.cli.modes import train
from diffusion_jax.compression import files
from diffusion_jax.errors import CheckpointError, ConfigError, DataError, SpecError, WorkdirError
from diffusion_jax.evaluation import statistics
from diffusion_jax.experiment import open_run, other_runs
from diffusion_jax.experiment.sampling import samples
from diffusion_jax.runtime import storage, untrusted
from diffusion_jax.runtime.run_folders import missing, missing_step
from diffusion_jax.training import restore


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder `runs` with a run `digits` of two steps, without weights."""
    run = tmp_path / "runs" / "digits"
    for step in (10, 20):
        (run / "checkpoints" / str(step)).mkdir(parents=True)
    (run / "config.json").write_text(config_lib.base().to_json())
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def test_a_step_that_is_not_there_names_those_that_are(runs):
    path = "runs/digits/checkpoints/999"
    says = r"no step 999 in runs/digits, which has 10, 20: name .*runs/digits/checkpoints/20"
    with pytest.raises(ConfigError, match=says):
        open_run(path)
    with pytest.raises(ConfigError, match=f"--checkpoint: .*{says}"):
        arguments.with_config(["x", f"--checkpoint={path}"], "eval")
    with pytest.raises(CheckpointError, match=r"no step 999 .* 10, 20"):
        restore.locate(runs / "digits" / "999")
    assert "use runs/digits/checkpoints/20" in missing_step("runs/digits/20")
    assert missing_step("runs/digits/999") and not missing_step("runs/digits")


def test_a_run_that_is_not_there_names_the_nearest(runs):
    (runs / "file").write_text("")
    assert missing("runs/digit") == "there is no folder runs/digit (did you mean 'runs/digits'?)"
    assert missing("runs/else") == "there is no folder runs/else"
    assert missing("runs") == "there is no run in runs, but in its folders digits"
    assert missing("runs/file") == "runs/file is a file, and a run is a folder"
    assert "this folder" in missing("")


@pytest.mark.parametrize(
    ("kind", "data", "config"),
    [
        ("classifier", "mnist", "mnist_classifier"),
        ("clip", "emoji", "emoji_clip"),
        ("clip", "nobody", "digits_clip"),
        ("latent:vae", "cifar10", "cifar10_latent:vae"),
        ("prior", "digits", "scenes_prior"),
        ("", "mnist", "mnist"),
        ("", "nobody", "digits"),
        ("nothing", "digits", ""),
    ],
)
def test_which_configuration_makes_a_run(kind, data, config):
    assert packaged.making(kind, data) == config


@pytest.mark.parametrize(
    ("setting", "kind"), [("sample.prior", "prior"), ("init", ""), ("autoencoder", "latent:vae")]
)
def test_a_setting_that_names_no_run_says_how_to_make_one(runs, setting, kind):
    name = packaged.making(kind, "digits")
    says = f"{setting}='runs/x': there is no folder runs/x; djax train --config={name} --workdir="
    with pytest.raises(ConfigError, match=says):
        other_runs.saved(setting, "runs/x", kind, "digits()")
    assert other_runs.saved(setting, "runs/digits", kind) == runs / "digits" / "config.json"
    with pytest.raises(ConfigError, match="names no run"):
        other_runs.saved(setting, "", kind)


@pytest.mark.parametrize(
    ("mode", "flag", "says"),
    [
        ("train", "--lr=1e-3", "write --config.lr=1e-3$"),
        ("train", "--steps=10", "write --config.steps=10$"),
        ("sample", "--steps=10", "write --config.sample.steps=10$"),
        ("sample", "--batch=10", "--config.batch=10 or --config.sample.batch=10"),
        ("sample", "--guidance=cfg(w=2.0)", r"write --config.guidance=cfg\(w=2.0\)$"),
        ("sample", "--sample.num=3", "write --config.sample.num=3$"),
        ("eval", "--limit=3", "write --config.eval.limit=3$"),
        ("train", "--learning_rate=1", "write --config.lr=1$"),
        ("train", "--data=digits", "write --config.data=digits$"),
        ("sample", "--workdri=x", r"did you mean '--workdir'\?\); the flags are --config"),
        ("sample", "--nmu=x", r"did you mean '--config.sample.num'\?"),
    ],
)
def test_a_flag_that_is_a_setting(tmp_path, mode, flag, says):
    file = config_file(tmp_path)
    refused(main(mode, f"--config={file}", f"--workdir={tmp_path / 'run'}", flag), says)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("field", "text", "says"),
    [
        ("batch", "16.5", "a whole number, for example --config.batch=128$"),
        ("steps", "1e6", "a whole number, for example --config.steps=1000000$"),
        ("sample.num", "ten", "a whole number, for example --config.sample.num=64$"),
        ("lr", "", "a number, for example --config.lr=0.0002$"),
        ("gamma_min", "low", "a number, for example"),
        ("conditional", "maybe", "True or False, for example --config.conditional=False$"),
        ("eval.timesteps", "10 20", r'several values in brackets, .*"\(100, 1000\)"'),
    ],
)
def test_values_of_another_type(field, text, says):
    with pytest.raises(ConfigError, match=f"--config.{field}={text}: must be {says}"):
        arguments.check_fields(["x", f"--config.{field}={text}"])


@pytest.mark.parametrize(
    "argument",
    ["batch=16", "lr=1e-3", "conditional=true", "conditional=F", "sample.labels=cat,dog",
     "sample.labels=3,4", "ema=('power(0.05)',)", "gamma_min=-3", "network=mlp()", "ema[0]=0.9"],
)  # fmt: skip
def test_values_of_the_right_type_pass(argument):
    arguments.check_fields(["x", f"--config.{argument}"])


def test_a_group_is_no_setting():
    with pytest.raises(
        ConfigError, match=r"compare is a group of settings, .* compare\.a, compare\.b"
    ):
        config_fields.check_field("compare")


@pytest.mark.parametrize("field", ranges.ITEMS)
@pytest.mark.parametrize("bad", [(None,), (1.5, -1, "no such"), ((1,),)])
def test_each_of_several_values_is_looked_at(field, bad):
    c = config_lib.base()
    with c.unlocked(), c.ignore_type():
        c.update_from_flattened_dict({field: bad})
    with pytest.raises(ConfigError, match=f"^{field}=.* must be .*--config.{field}="):
        ranges.check(c)


def test_a_choice_names_what_there_is():
    c = config_lib.base()
    c.eval.checkpoint = "20"
    with pytest.raises(ConfigError, match=r"eval\.checkpoint='20': allowed: latest, best"):
        ranges.check(c)


def test_a_plug_in_string_that_does_not_parse_names_its_setting(tmp_path):
    c = config_lib.base()
    config_fields.check_specs(c)
    for field in ("network", "sampler"):
        for bad in ("", "ddim(eta=0,5)"):
            other = config_lib.base()
            other[field] = bad
            with pytest.raises(ConfigError, match=f"^{field}: cannot read"):
                config_fields.check_specs(other)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("clip(runs/x)", "quote text: 'runs/x'"),
        ("clip(w=1.0, checkpoint=runs/x)", "quote text: checkpoint='runs/x'"),
        ("cfg(w=1.0, 3", "write name"),
        ("runs/x", "'runs/x' is not a plug-in: write name"),
    ],
)
def test_what_lacks_its_quotes(text, says):
    with pytest.raises(SpecError, match=says):
        registry.parse(text)


def test_one_plug_in_is_named_in_the_singular():
    for kind, one in (("samplers", "sampler"), ("guidance", "guidance"), ("data", "data set")):
        with pytest.raises(SpecError, match=f"^unknown {one} 'x'.*; there are: "):
            registry.build(kind, "x()")
    with pytest.raises(SpecError, match="did you mean 'ddim'"):
        registry.build("samplers", "DDIM()")
    with pytest.raises(SpecError, match="3 is not a plug-in string"):
        registry.build("samplers", 3)


def test_arrays_that_are_not_there_are_named(tmp_path):
    path = tmp_path / "own.npz"
    np.savez(path, pictures=np.zeros((2, 4, 4, 1), np.uint8), y=np.zeros(2))
    says = "no array 'image'; arrays in the file: 'pictures', 'y'"
    with pytest.raises(DataError, match=says):
        samples.read(tiny.experiment(tmp_path), path)
    with pytest.raises(DataError, match=says):
        files.read(path, "test", (4, 4, 1), 5, 0)
    with pytest.raises(DataError, match=r"no arrays 'mean', 'cov.* 'pictures', 'y'"):
        statistics.read(path)
    np.save(tmp_path / "one.npy", np.zeros(3))
    one = (tmp_path / "one.npy").read_bytes()
    with pytest.raises(untrusted.Malformed, match="single array"):
        untrusted.npz(io.BytesIO(one))


def test_another_configuration_is_refused_before_data_are_read(tmp_path, monkeypatch):
    before = tiny.experiment(tmp_path)
    (before.workdir / "checkpoints" / "6").mkdir(parents=True)
    storage.write_json(before.workdir / "config.json", saved_config.to_dict(before.config))
    run = tiny.experiment(tmp_path, lr=0.5)
    for name in ("model", "task"):
        monkeypatch.setitem(vars(run), name, None)  # building the task would fail
    with pytest.raises(WorkdirError, match=r"lr: 0\.001 -> 0\.5"):
        train.run(run)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1", "has no function get_config"),
        ("def get_config(v=''):\n    return {}", "returned dict; it must return a ConfigDict"),
        ("def get_config(v=''):\n    return None", "returned NoneType"),
        ("from diffusion_jax import config\ndef get_config(v=''):\n    c = config.base()\n"
         "    c.batch = 16.5\n    return c", "batch=16.5 .* must be a whole number"),
        ("from diffusion_jax import config\ndef get_config(v=''):\n    c = config.base()\n"
         "    c.sample = 3\n    return c", "sample=3 .* must be a group of settings"),
    ],
)  # fmt: skip
def test_configuration_files_that_give_no_configuration(tmp_path, monkeypatch, text, says):
    monkeypatch.delitem(sys.modules, "config_config", raising=False)  # what was read before
    (tmp_path / "own.py").write_text(text + "\n")
    refused(main("train", f"--config={tmp_path / 'own.py'}", f"--workdir={tmp_path / 'run'}"), says)
    assert not (tmp_path / "run").exists()


def test_a_variant_of_a_file_without(tmp_path):
    (tmp_path / "own.py").write_text(
        "from diffusion_jax import config\ndef get_config():\n    return config.base()\n"
    )
    done = main("train", f"--config={tmp_path / 'own.py'}:smoke", f"--workdir={tmp_path / 'run'}")
    refused(done, "has no variants: leave out the colon")


@pytest.mark.parametrize("named", ["", "."])
def test_a_configuration_that_is_no_file(tmp_path, named):
    says = "names no file" if not named else "there is no run in"
    path = tmp_path / named if named else ""
    refused(main("train", f"--config={path}", f"--workdir={tmp_path / 'run'}"), says)
