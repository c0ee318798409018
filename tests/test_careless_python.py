"""Careless calls from Python: one line that names what was wrong, and how to mend it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from diffusion_jax import config as config_lib, config_fields, registry
from diffusion_jax.denoiser import with_condition
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import open_run
from diffusion_jax.experiment._with_settings import listed
from diffusion_jax.experiment.sampling import run_sampler, sampling_method
from diffusion_jax.sampling.loop import integrate
from diffusion_jax.types import Pred


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("sample.num", "ten", "sample.num='ten' must be a whole number, for example 64"),
        ("sample.num", True, "must be a whole number"),
        ("eval.draws", 2.0, "must be a whole number"),
        ("guidance", 2.0, "must be text in quotes, for example 'none"),
        ("sample.captions", "abc", "must be several values"),
    ],
)
def test_values_of_another_type_from_python(key, value, says):
    with pytest.raises(ConfigError, match=says):
        config_fields.fitting(key, value)


def test_numbers_of_numpy_are_python_s(tmp_path):
    found = config_fields.fitting("sample.num", np.int64(3))
    assert found == 3 and type(found) is int
    assert config_fields.fitting("sample.labels", [1, 2]) == (1, 2)


@pytest.mark.parametrize("values", [3, "cat", b"cat", np.zeros((1, 2), int), np.int64(3)])
def test_one_value_in_place_of_several(values):
    with pytest.raises(ConfigError, match=r"labels=.* must be a list, for example labels=\[3\]"):
        listed("labels", values, "[3]")


def test_several_values_may_come_in_any_list():
    assert listed("labels", np.arange(2), "") == listed("labels", (0, 1), "") == [0, 1]
    assert listed("labels", None, "") is None


@pytest.mark.parametrize(
    ("labels", "says"),
    [(3, r"whole numbers \[B\].* \[\]"), ([1.0], "not float"), (["1"], "not <U1"),
     ([4], "4 is out of range; there are classes 0 .. 2, and 3 for no class"),
     ([-1], "-1 is out of range")],
)  # fmt: skip
def test_classes_of_a_denoiser(tmp_path, labels, says):
    run = tiny.experiment(tmp_path)
    with pytest.raises(ConfigError, match=says):
        sampling_method.denoiser(run, {}, labels)
    with pytest.raises(ConfigError, match="unconditional; leave labels out"):
        sampling_method.denoiser(tiny.experiment(tmp_path, conditional=False), {}, labels)


def test_as_many_conditions_as_examples():
    bound = with_condition(lambda z, gamma, cond: Pred(z, z), {"label": jnp.zeros(3, jnp.int32)})
    assert bound(jnp.zeros((3, 2)), 0.0).x.shape == (3, 2)
    with pytest.raises(ConfigError, match=r"3 of label, and z is \[2, 2\]"):
        bound(jnp.zeros((2, 2)), 0.0)


@pytest.mark.parametrize(
    ("z", "gamma", "says"),
    [((2, 4, 4, 3), (), r"z is \[2, 4, 4, 3\], and must be \[B, 4, 4, 1\]"),
     ((4, 4, 1), (), r"z is \[4, 4, 1\], and must be"),
     ((2, 4, 4, 1), (3,), r"gamma is \[3\], and z is \[2, 4, 4, 1\]: give one number, or one")],
)  # fmt: skip
def test_what_a_denoiser_cannot_take(tmp_path, z, gamma, says):
    run = tiny.experiment(tmp_path, conditional=False, guidance="none()")
    with pytest.raises(ConfigError, match=says):
        sampling_method.denoiser(run, {})(np.zeros(z), np.zeros(gamma))


def test_a_prior_for_a_run_that_is_told_nothing_is_refused_from_python_too(tmp_path):
    run = tiny.experiment(tmp_path)
    run.config.sample.prior = "runs/prior"
    with pytest.raises(
        ConfigError, match="'runs/prior': this run is not conditioned on CLIP embeddings"
    ):
        run_sampler.compiled(run, {"schedule": run.model.schedule.init(jax.random.key(0))})


@pytest.mark.parametrize(
    ("path", "options", "says"),
    [("x" * 300, {}, "a name of 300 bytes in it, xxxxxxxxxxxxxxxxxxxx...: file systems take 255"),
     ("run/config.json", {}, "config.json is a file, and a run is a folder"),
     ("run", {"trust": "no"}, "trust='no' must be True or False")],
)  # fmt: skip
def test_what_cannot_be_opened(tmp_path, monkeypatch, path, options, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(config_lib.base().to_json())
    with pytest.raises(ConfigError, match=says):
        open_run(path, **options)


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"z": None}, "z is a NoneType, not an array"),
     ({"z": [1.0]}, "z is a list, not an array"),
     ({"gammas": "abc"}, "gammas must be numbers, noise first: could not convert"),
     ({"gammas": [3.0, "a"]}, "gammas must be numbers"),
     ({"sampler": "ddim()"}, r"build one with dj.build\('samplers', 'ddim\(\)'\)"),
     ({"key": 3}, r"use jax.random.key\(3\)"),
     ({"key": None}, r"use jax.random.key\(0\)")],
)  # fmt: skip
def test_what_cannot_be_integrated(changes, says):
    given = {"denoise": lambda z, gamma: Pred(z, z), "sampler": registry.build("samplers", "ddim"),
             "gammas": [3.0, 0.0], "z": jnp.zeros((2, 1)), "key": jax.random.key(0)}  # fmt: skip
    with pytest.raises(ConfigError, match=says):
        integrate(**given | changes)
