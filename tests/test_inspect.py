"""`--mode=inspect`: variances against closed forms, means against the bound, files that say it."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from gaussian import Gaussian, legendre
from PIL import Image

from diffusion_jax import registry
from diffusion_jax.cli.modes import inspect as inspect_mode, train
from diffusion_jax.cli.report import collect, sections_trained
from diffusion_jax.data.base import Split
from diffusion_jax.data.passes import Pass
from diffusion_jax.likelihood import bound_variance, bpd
from diffusion_jax.process.schedules.base import gamma_and_slope, inverse
from diffusion_jax.process.time_change import reclock
from diffusion_jax.runtime.sharding import make_mesh, replicated

DATA = Gaussian((0.1, -0.2, 0.0, 0.3), (0.2, 0.5, 0.1, 0.8))
PARAMS = {"network": {}, "schedule": {}}
ENDS = (-6.0, 4.0)
SCHEDULE = "cosine(gamma_min=-6.0, gamma_max=4.0)"
BITS = 1.0 / (len(DATA.mean) * math.log(2.0))


@dataclasses.dataclass(frozen=True)
class Reals(Split):
    """Continuous data in the place of images."""


def split(n):
    rng = np.random.default_rng(0)
    x = np.asarray(DATA.mean) + np.sqrt(DATA.variance) * rng.normal(size=(n, 4))
    return Reals("gaussian", x.astype(np.float32), np.zeros(n, np.int32), 256, 0)


def moments(gamma):
    """`E m` and `E m^2` in bits/dim: the miss is Gaussian, of variance r per dimension."""
    gamma = np.asarray(gamma)[..., None]
    a2 = 1.0 / (1.0 + np.exp(gamma))
    v = np.asarray(DATA.variance)
    r = a2 * v / (a2 * v + 1.0 - a2)
    mean = 0.5 * r.sum(-1)
    return BITS * mean, BITS**2 * (mean**2 + 0.5 * np.square(r).sum(-1))


@pytest.fixture(scope="module")
def measured():
    model = DATA.model(SCHEDULE)
    mesh = make_mesh(jax.devices()[:1])
    records = bpd.measure(
        model, registry.build("objectives", "continuous()"), PARAMS, split(6000),
        Pass(mesh, 6000, quiet=True), draws=20, defensive=False,
    )  # fmt: skip
    found = bound_variance.draws(model, PARAMS, records)
    by_gamma = bound_variance.loss_by_gamma(found, ENDS, bound_variance.bins_for(found.loss.size))
    return model, records, found, by_gamma


@pytest.fixture(scope="module")
def truth():
    """Mean, and the variance of each way, by quadrature."""
    u, w = legendre(200)
    gamma, width = ENDS[0] + (ENDS[1] - ENDS[0]) * u, ENDS[1] - ENDS[0]
    mean, second = moments(gamma)
    total = width * w @ mean
    t, wt = legendre(400)
    with jax.enable_x64(True):
        schedule = registry.build("schedules", SCHEDULE)
        at, slope = map(np.asarray, gamma_and_slope(schedule, {}, jnp.asarray(t)))
    return {
        "mean": total,
        "straight_line": width * (width * w @ second) - total**2,
        "schedule": wt @ (slope**2 * moments(at)[1]) - total**2,
        "optimum": (width * w @ np.sqrt(second)) ** 2 - total**2,
    }


def test_variances_are_those_of_quadrature(measured, truth):
    _, _, found, by_gamma = measured
    gamma, best = bound_variance.optimum(by_gamma, ENDS)
    ways = {
        "schedule": None,
        "straight_line": np.full_like(found.gamma, 0.1),
        "optimum": np.interp(found.gamma, gamma, best),
    }
    spread = {k: bound_variance.variance(found, density) for k, density in ways.items()}
    for name, value in spread.items():
        assert abs(value["variance"] - truth[name]) < 4 * value["standard_error"], name
        assert value["standard_error"] < 0.05 * truth[name], name
    # The three differ by much more than the errors: the test tells them apart.
    assert truth["schedule"] > 1.2 * truth["straight_line"] > 1.44 * truth["optimum"]
    assert spread["optimum"]["variance"] < min(
        spread[k]["variance"] for k in ("schedule", "straight_line")
    )


def test_loss_by_gamma_is_the_closed_form(measured):
    by_gamma = measured[3]
    mean, second = moments(by_gamma["gamma"])
    assert len(mean) == 50
    relative = 5 * np.sqrt(second / mean**2 - 1) / np.sqrt(by_gamma["draws"])
    np.testing.assert_array_less(np.abs(by_gamma["mean"] / mean - 1), relative + 0.01)
    np.testing.assert_allclose(by_gamma["second_moment"], second, rtol=0.15)


def test_the_optimum_is_proportional_to_the_root_of_the_second_moment(measured):
    gamma, density = bound_variance.optimum(measured[3], ENDS)
    root = np.sqrt(moments(gamma)[1])
    inside = slice(20, -20)  # beyond the outer bins' centres it is constant
    wanted = root / np.trapezoid(root, gamma)
    np.testing.assert_allclose(density[inside], wanted[inside], rtol=0.12)
    assert np.trapezoid(density, gamma) == pytest.approx(1.0)


def test_the_mean_is_that_of_the_bound(measured, truth):
    _, records, found, _ = measured
    part = bpd.summary(records)["breakdown"]["diffusion"]
    drawn = bound_variance.drawn(found)
    assert drawn["mean"] == pytest.approx(part["bits_per_dim"], rel=1e-6)
    assert drawn["standard_error"] == pytest.approx(part["standard_error"], rel=1e-6)
    assert abs(drawn["mean"] - truth["mean"]) < 4 * drawn["standard_error"]


def test_drawing_with_another_density_gives_its_variance_and_the_same_mean(measured, truth):
    model, _, _, by_gamma = measured
    gamma, best = bound_variance.optimum(by_gamma, ENDS)
    for name, density in (("straight_line", np.full_like(gamma, 0.1)), ("optimum", best)):
        clocked, moved = reclock(model.schedule, {}, gamma, density)
        other, params = dataclasses.replace(model, schedule=clocked), {**PARAMS, "schedule": moved}
        records = bpd.measure(
            other, registry.build("objectives", "continuous()"), params, split(6000),
            Pass(make_mesh(jax.devices()[:1]), 6000, seed=1, quiet=True), draws=10,
            defensive=False,
        )  # fmt: skip
        found = bound_variance.draws(other, params, records)
        result = bound_variance.drawn(found)
        error = bound_variance.variance(found)["standard_error"]
        assert abs(result["mean"] - truth["mean"]) < 4 * result["standard_error"]
        assert abs(result["variance"] - truth[name]) < 4 * error < 0.2 * truth[name]


def test_the_variance_between_images_is_what_their_means_vary():
    rng = np.random.default_rng(1)
    own = rng.normal(size=(4000, 1))
    loss = 2.0 + 0.5 * own + rng.normal(size=(4000, 6))
    found = bound_variance.Draws(loss, np.ones_like(loss), loss)
    assert bound_variance.variance_between_images(found) == pytest.approx(0.25, abs=0.04)
    assert bound_variance.variance(found)["variance"] == pytest.approx(1.25, abs=0.1)


@pytest.mark.parametrize("spec", [SCHEDULE, "linear_beta(gamma_min=-6.0, gamma_max=4.0)"])
def test_a_clock_runs_with_the_density_asked_for(spec):
    schedule = registry.build("schedules", spec)
    gamma = np.linspace(*ENDS, 2001)
    density = np.exp(-0.5 * np.square(gamma / 3.0))
    clocked, params = reclock(schedule, {}, gamma, density)
    t = jnp.linspace(0.01, 0.99, 150)
    at, slope = gamma_and_slope(clocked, params, t)
    wanted = np.interp(at, gamma, density) / np.trapezoid(density, gamma)
    np.testing.assert_allclose(1.0 / slope, wanted, rtol=0.02)
    ends = clocked.gamma(params, jnp.asarray([0.0, 1.0]))
    np.testing.assert_allclose(ends, ENDS, rtol=1e-6)
    np.testing.assert_allclose(inverse(clocked, params, at), t, atol=1e-4)


KINDS = {
    "plain": {"schedule": "learned_mlp(features=16)"},
    "encoder": {"encoder": "diffenc(blocks=1, width=8)"},
    "mulan": {"schedule": "mulan(latent=3, features=8)"},
}


def job_of(folder, kind):
    experiment = tiny.experiment(
        folder, kind, steps=2, save_every=0, eval_every=0, sample_every=0, conditional=False,
        guidance="none()", **KINDS[kind],
    )  # fmt: skip
    experiment.config.eval.draws, experiment.config.eval.timesteps = 8, ()
    return experiment


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_writes_its_report_and_plots(tmp_path, kind, capsys):
    experiment = job_of(tmp_path, kind)
    if kind == "plain":
        train.run(experiment)
        capsys.readouterr()
        inspect_mode.run(experiment)
    else:  # new weights: another training run would show nothing more
        fresh = jax.jit(lambda key: experiment.model.init(key, experiment.source.shape))(
            jax.random.key(0)
        )
        inspect_mode.inspect(
            experiment, jax.device_put(fresh, replicated(experiment.mesh)), {"step": 2}
        )
    shown = capsys.readouterr().out
    folder = experiment.workdir / "inspect"
    assert str(folder / "2.json") in shown and "optimum" in shown
    report = json.loads((folder / "2.json").read_text())
    assert report["model"]["step"] == 2 and report["data"]["images"] == 13
    assert {"t", "gamma", "slope", "snr", "line"} <= report["schedule"].keys()
    assert {"gamma", "mean", "second_moment", "draws"} == report["loss_by_gamma"].keys()
    assert sum(report["loss_by_gamma"]["draws"]) == 13 * 8
    variance = report["variance"]
    bits = report["result"]["breakdown"]["diffusion"]["bits_per_dim"]
    assert variance["schedule"]["drawn"]["mean"] == pytest.approx(bits)
    for name in ("straight_line", "schedule", "optimum"):
        assert np.isfinite(variance[name]["variance"])
        drawn = variance[name]["drawn"]
        error = math.hypot(drawn["standard_error"], variance["schedule"]["drawn"]["standard_error"])
        assert abs(drawn["mean"] - bits) < 5 * error
        density = report["densities"][name]
        assert np.trapezoid(density, report["densities"]["gamma"]) == pytest.approx(1.0, abs=0.01)
    expected = {"schedule", "loss", "proposal"}
    if kind == "encoder":
        expected |= {"encoder", "encoded"}
        # A fresh encoder is alpha^2 x: it moves the data the more, the noisier they are.
        assert np.all(np.diff(report["encoder"]["rms"]) > 0)
        assert len(report["encoder"]["columns"]) == 8
        assert report["encoder"]["gamma"][0] == pytest.approx(report["ends"]["gamma_0"])
    assert {p.name for p in folder.glob("*.png")} == {f"2_{what}.png" for what in expected}
    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L"))
        assert min(pixels.shape) > 100 and pixels.std() > 5, path
    assert (
        "that of the least variance"
        in sections_trained.noise(collect.read(experiment.workdir)).body
    )
    if kind == "mulan":
        band = report["schedule"]["spread"]
        assert np.all(np.asarray(band["low"]) <= np.asarray(band["high"]))
        np.testing.assert_allclose([band["low"][0], band["high"][-1]], [-5.0, 4.0], rtol=1e-6)


def test_encoded_images_fade_as_the_encoder_says(tmp_path):
    experiment = tiny.experiment(tmp_path, encoder="diffenc_nt()", conditional=False)
    model = experiment.model
    x = model.decoder.encode(jnp.asarray(experiment.source.split("test").images[:2]))
    params = {"schedule": model.schedule.init(jax.random.key(0))}
    gamma = np.asarray([-5.0, 0.0, 4.0])
    stored = bound_variance.encoded(model, params, x, {}, gamma).reshape(2, 3, *x.shape[1:])
    np.testing.assert_array_equal(stored[:, 0], experiment.source.split("test").images[:2])
    assert np.all(stored[:, 2] == 2)  # alpha^2 x near 0 is the middle of five levels
    shift = bound_variance.encoder_shift(model, params, x, {}, points=3)
    rms = float(jnp.sqrt(jnp.square(x).mean()))
    np.testing.assert_allclose(
        shift["rms"], rms / (1 + np.exp(-np.asarray(shift["gamma"]))), rtol=1e-5
    )
