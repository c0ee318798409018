"""The public face: lazy names, and an opened run that does what the modes do."""

import json
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest
import tiny
from conftest import REPO

import diffusion_jax as dj
from diffusion_jax import saved_config
from diffusion_jax.cli.modes import eval as eval_mode, sample as sample_mode
from diffusion_jax.errors import CodecError, ConfigError, DataError, WorkdirError
from diffusion_jax.experiment import prepare_workdir
from diffusion_jax.training import state as state_lib
from diffusion_jax.training.checkpoint import Checkpoints


def test_names_come_when_they_are_used():
    code = (
        "import sys, diffusion_jax as dj\n"
        "assert not {'jax', 'numpy', 'flax'} & sys.modules.keys(), 'loads something'\n"
        "assert 'integrate' in dir(dj) and 'uniform_t' in dj.available('grids')\n"
        "assert 'jax' not in sys.modules, 'a list of names needs no JAX'\n"
        "assert all(getattr(dj, name) is not None for name in dj.__all__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="no attribute 'integrat'"):
        _ = dj.integrat


def test_kinds_are_named_and_described():
    assert "samplers" in dj.available()
    assert all(dj.available(kind) for kind in dj.available())
    line, plugins = dj.describe("samplers")
    assert line and [p.name for p in plugins] == list(dj.available("samplers"))


@pytest.mark.parametrize("grid", ["log_snr()", "karras()", "karras(rho=1.0)"])
def test_levels_of_any_grid_go_from_noise_to_data(grid):
    found = dj.gammas(7, grid, gamma_max=9.0, gamma_min=-8.0)
    assert found.shape == (8,) and (found[0], found[-1]) == (9.0, -8.0)
    assert (np.diff(found) < 0).all()


def test_levels_are_equal_steps_of_a_schedule_that_is_given():
    found = dj.gammas(4, "uniform_t()", gamma_of_t=lambda t: 20 * np.asarray(t) ** 2 - 10)
    np.testing.assert_allclose(found, 20 * np.linspace(1, 0, 5) ** 2 - 10, atol=1e-5)
    sigmas = np.array([80.0, 0.002])  # of Karras et al.: their grid is equal in sigma^(1/7)
    ends = 2 * np.log(sigmas)
    found = dj.gammas(3, "karras(rho=7.0)", gamma_max=ends[0], gamma_min=ends[1])
    np.testing.assert_allclose(np.diff(np.exp(found / 14), 2), 0, atol=1e-9)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: dj.gammas(0), "steps=0 must be at least 1"),
        (lambda: dj.gammas(3, gamma_max=1.0, gamma_min=2.0), "gamma_max=1.0 must be above"),
        (lambda: dj.gammas(3, "uniform_t()"), "give gamma_of_t"),
        (lambda: dj.load_config("digit"), "did you mean 'digits'"),
        (lambda: dj.load_config("digits", {"stepz": 3}), "did you mean 'steps'"),
        (lambda: dj.load_config("digits", {"steps": "3"}), "steps='3' must be a whole number"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(ask, says):
    with pytest.raises(ConfigError, match=says) as e:
        ask()
    assert "\n" not in str(e.value)


def test_a_configuration_is_loaded_with_its_variant_and_changes():
    found = dj.load_config("digits_latent:prior", {"steps": 3, "eval.limit": 5})
    assert (found.steps, found.eval.limit) == (3, 5)
    assert "digits_latent" not in str(found.to_dict()) and found.autoencoder.startswith("conv")


def test_training_from_python_is_that_of_the_command_line_and_resumes(tmp_path):
    config = tiny.config(tmp_path)
    run = dj.train(config, tmp_path / "run")
    report = json.loads((tmp_path / "run" / "eval" / "6.json").read_text())["result"]
    assert run.bits_per_dim().value == report["bits_per_dim"]
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run" / "checkpoints").iterdir()}
    again = dj.train(config, tmp_path / "run")
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "run" / "checkpoints").iterdir()}
    jax.tree.map(np.testing.assert_array_equal, run.params, again.params)
    config.network = "mlp(width=8, depth=1, embed=8)"
    with pytest.raises(WorkdirError, match="another configuration"):
        dj.train(config, tmp_path / "run")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    experiment = tiny.experiment(tmp_path_factory.mktemp("face"))
    with prepare_workdir(experiment):
        pass
    params = jax.jit(lambda: experiment.model.init(jax.random.key(0), experiment.source.shape))()
    params = jax.tree.map(lambda a: a + 0.01, params)
    state = state_lib.init(params, optax.sgd(0.1), experiment.config.ema)
    checkpoints = Checkpoints(experiment.workdir)
    checkpoints.save(state, {"config": saved_config.to_dict(experiment.config)}, {})
    checkpoints.close()
    return dj.open_run(experiment.workdir)


def test_samples_are_those_of_the_mode(run):
    sample_mode.run(run)
    with np.load(run.workdir / "samples" / "0.npz") as f:
        np.testing.assert_array_equal(run.sample(), f["image"])
    before = run.config.to_json()
    found = run.sample(3, labels=[2], seed=5, guidance="cfg(w=0.0)", sampler="ddim()", steps=2)
    assert found.shape == (3, 4, 4, 1) and found.dtype == np.uint8 and found.max() < 5
    assert run.config.to_json() == before
    # Without guidance by the class, the class changes nothing.
    other = run.sample(3, labels=[0], seed=5, guidance="cfg(w=0.0)", sampler="ddim()", steps=2)
    np.testing.assert_array_equal(found, other)
    with pytest.raises(ConfigError, match="out of range"):
        run.sample(1, labels=[3])


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda run: run.sample(-1), "sample.num=-1 must be at least 0"),
        (lambda run: run.sample(1, steps=0), "sample.steps=0 must be at least 1"),
        (lambda run: run.sample(1, seed=-1), "sample.seed=-1 must be from 0"),
        (lambda run: run.sample(1, batch=0), "sample.batch=0 must be at least 1"),
        (lambda run: run.bits_per_dim(limit=-3), "eval.limit=-3 must be at least 0"),
        (lambda run: run.bits_per_dim(draws=0), "eval.draws=0 must be at least 1"),
    ],
)
def test_numbers_out_of_range_are_those_of_the_command_line(run, ask, says):
    with pytest.raises(ConfigError, match=says):
        ask(run)


def test_a_run_whose_settings_are_out_of_range_is_refused(run, tmp_path):
    settings = saved_config.to_dict(run.config)
    settings["eval"]["batch"] = 0
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match=r"eval\.batch=0 must be at least 1"):
        dj.open_run(tmp_path)


def test_bits_per_dim_are_those_of_the_mode(run):
    found = run.bits_per_dim()
    eval_mode.run(run)
    result = json.loads((run.workdir / "eval" / "0.json").read_text())["result"]
    assert found.value == result["bits_per_dim"]
    assert found.standard_error == result["standard_error"]
    assert sum(found.parts.values()) == pytest.approx(found.value)
    assert found.per_image.shape == (13,) and found.per_image.mean() == pytest.approx(found.value)
    few = run.bits_per_dim("test", limit=4, batch=3)
    np.testing.assert_allclose(few.per_image, found.per_image[:4], rtol=1e-5)


def test_the_denoiser_is_what_integrate_takes(run):
    z, labels = jax.random.normal(jax.random.key(0), (2, 4, 4, 1)), np.array([0, 2])

    def predicted(guidance, labels):
        return jax.jit(run.denoiser(guidance, labels=np.array(labels)))(z, 1.0)

    one = predicted("none()", labels)  # weight 1 is the conditional model
    for a, b in zip(one, predicted("cfg(w=1.0)", labels), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    # The class matters, and with weight 0 there is none.
    assert (np.abs(one.x - predicted("none()", [1, 1]).x).max((1, 2, 3)) > 1e-4).all()
    none, free = predicted("none()", [3, 3]), predicted("cfg(w=0.0)", labels)
    np.testing.assert_allclose(none.x, free.x, rtol=1e-4, atol=1e-5)
    plain = run.denoiser("none()", labels=labels)
    x = dj.integrate(plain, dj.build("samplers", "ddim()"), [2.0, 0.0], z, jax.random.key(1))
    assert x.shape == z.shape
    with pytest.raises(ConfigError, match="labels="):
        run.denoiser()


def test_compressed_images_come_back(run):
    run.config.compress.timesteps = 3
    images = np.arange(2 * 16, dtype=np.uint8).reshape(2, 4, 4, 1) % 5
    data = run.compress(images, np.array([1, 2]))
    found, labels = run.decompress(data)
    np.testing.assert_array_equal(found, images)
    np.testing.assert_array_equal(labels, [1, 2])
    with pytest.raises(CodecError, match="damaged"):
        run.decompress(data[:-3] + bytes(3))
    for bad, says in ((images.astype(float), "codes uint8"), (images + 5, "levels=5")):
        with pytest.raises(DataError, match=says):
            run.compress(bad)


def test_what_is_no_run(tmp_path):
    with pytest.raises(ConfigError, match="there is no run"):
        dj.open_run(tmp_path)
