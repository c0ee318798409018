"""Bits per dimension: exact coverage, invariances, and error bars that mean what they say."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian import Gaussian

from diffusion_jax import registry
from diffusion_jax.data.base import Split
from diffusion_jax.data.passes import Pass
from diffusion_jax.errors import ConfigError
from diffusion_jax.likelihood import bpd, density
from diffusion_jax.runtime.sharding import make_mesh

DATA = Gaussian((0.1, -0.2, 0.0, 0.3), (0.2, 0.5, 0.1, 0.8))
PARAMS = {"network": {}, "schedule": {}}
CONTINUOUS = registry.build("objectives", "continuous()")


@dataclasses.dataclass(frozen=True)
class Reals(Split):
    """Continuous data in the place of images, which is all the bound needs of them."""


def split(n=21):
    rng = np.random.default_rng(0)
    x = np.asarray(DATA.mean) + np.sqrt(DATA.variance) * rng.normal(size=(n, 4))
    return Reals("gaussian", x.astype(np.float32), np.zeros(n, np.int32), 256, 0)


def measure(data, **options):
    mesh = make_mesh(jax.devices()[: options.pop("devices", 1)])
    draws, batch = options.pop("draws", 4), options.pop("batch", 8)
    model, params = options.pop("model", DATA.model()), options.pop("params", PARAMS)
    speed = {"defensive": options.pop("defensive", True)}
    how = Pass(mesh, batch, quiet=True, **options)
    return bpd.measure(model, CONTINUOUS, params, data, how, draws=draws, **speed)


def test_every_image_once_in_order():
    data = split()
    records = measure(data)
    assert records.t.shape == records.diffusion.shape == (21, 4)
    # The prior depends on the image alone: it identifies them.
    expected = [float(CONTINUOUS(DATA.model(), PARAMS, jnp.asarray(x)[None], {},
                bpd.Noise(jnp.zeros(1), jnp.zeros((1, 4)), jnp.zeros((1, 4)))).prior[0])
                for x in data.images]  # fmt: skip
    np.testing.assert_allclose(records.prior, expected, rtol=1e-5)
    assert len(measure(data, limit=5).prior) == 5


@pytest.mark.parametrize("how", [{"batch": 1}, {"batch": 5}, {"batch": 100}, {"devices": 8}])
def test_the_figure_does_not_depend_on_batch_or_devices(how):
    reference, other = measure(split()), measure(split(), **how)
    np.testing.assert_array_equal(other.t, reference.t)
    np.testing.assert_allclose(other.diffusion, reference.diffusion, rtol=1e-5)
    np.testing.assert_allclose(other.reconstruction, reference.reconstruction, rtol=1e-5)


def test_times_are_stratified_per_image():
    t = measure(split(), draws=8).t
    assert np.unique(t).size == t.size
    for replicate in np.split(t, 2, axis=1):
        np.testing.assert_array_equal(np.floor(replicate * 4), np.tile(np.arange(4), (21, 1)))


def test_monte_carlo_errors_by_hand():
    """An image's mean of a and b has the error |a - b| / 2; errors of images add in squares."""
    nats = np.log(2.0) * np.array([[1.0, 4.0]])
    assert bpd.replicate_se(nats, 1) == pytest.approx(1.5)
    # Replicates are the first and the second half: (1, 3) and (2, 7), differences 1 and 4.
    four = np.log(2.0) * np.array([[1.0, 3.0, 2.0, 7.0]])
    assert bpd.replicate_se(four, 1) == pytest.approx(np.sqrt(0.5**2 + 2.0**2) / 2)
    both = np.log(2.0) * np.array([[0.0, 6.0], [0.0, 8.0]])
    assert bpd.replicate_se(both, 5) == pytest.approx(np.hypot(3.0, 4.0) / 2 / 5)
    assert density.mean_and_errors(np.array([[1.0, 4.0]]))["monte_carlo_se"] == pytest.approx(1.5)
    pairs = density.mean_and_errors(np.array([[0.0, 6.0], [0.0, 8.0]]))
    assert pairs["monte_carlo_se"] == pytest.approx(np.hypot(3.0, 4.0) / 2)


def test_monte_carlo_se_is_the_spread_over_seeds():
    data = split(12)
    runs = [measure(data, seed=s, draws=4, batch=12) for s in range(60)]
    means = [bpd.summary(r)["bits_per_dim"] for r in runs]
    claimed = np.sqrt(np.mean([r.monte_carlo_se() ** 2 for r in runs]))
    assert np.std(means, ddof=1) == pytest.approx(claimed, rel=0.3)


def test_mean_and_standard_error_cover_the_truth():
    n = 4000
    found = bpd.summary(measure(split(n), batch=4000, draws=16))
    truth = DATA.best_bound(-6.0, 4.0) / (4 * np.log(2))
    assert abs(found["bits_per_dim"] - truth) < 4 * found["standard_error"]
    assert found["standard_error"] < 0.02
    parts = sum(v["bits_per_dim"] for v in found["breakdown"].values())
    assert parts == pytest.approx(found["bits_per_dim"], rel=1e-6)


def test_odd_draws_are_refused():
    with pytest.raises(ConfigError, match="even"):
        measure(split(), draws=3)


def test_loss_by_gamma_integrates_to_the_diffusion_term():
    records = measure(split(500), batch=500, draws=40)
    found = bpd.loss_by_gamma(DATA.model(), PARAMS, records, bins=20)
    gamma, density = (np.asarray(found[k]) for k in ("gamma", "mean"))
    assert len(gamma) == 20 and np.all(np.diff(gamma) > 0)
    area = density.mean() * 10.0  # equal bins over gamma from -6 to 4
    expected = records.per_image()["diffusion"].mean()
    assert area == pytest.approx(expected, rel=1e-5)


def test_loss_by_gamma_is_the_closed_form_on_a_curved_schedule():
    """Half of the times are drawn in gamma: their weights are not 1 where the schedule bends."""
    model = DATA.model("cosine(gamma_min=-6.0, gamma_max=4.0)")
    records = measure(split(2000), model=model, batch=2000, draws=40)
    found = bpd.loss_by_gamma(model, PARAMS, records, bins=10)
    gamma, mean = (np.asarray(found[k]) for k in ("gamma", "mean"))
    signal = 1.0 / (1.0 + np.exp(gamma[:, None]))  # alpha^2
    variance = signal * np.asarray(DATA.variance)
    # The error of the best prediction of eps, summed over the values.
    expected = 0.5 * (variance / (variance + 1.0 - signal)).sum(1) / (4 * np.log(2))
    np.testing.assert_allclose(mean, expected, rtol=0.06)


STRAIGHT = ("linear", "learned_linear")
CURVED = [n for n in registry.available("schedules") if n not in (*STRAIGHT, "mulan")]


@pytest.mark.slow
@pytest.mark.parametrize("name", CURVED)
def test_no_schedule_spoils_the_spread_of_the_estimate(name):
    """Its variance is at most twice that of the straight line, and of the schedule's own times."""
    params, models = {}, {}
    for n in ("linear", name):
        schedule = registry.build("schedules", n, gamma_min=-20.0, gamma_max=10.0, features=16)
        models[n] = dataclasses.replace(DATA.model(), schedule=schedule)
        params[n] = {**PARAMS, "schedule": schedule.init(jax.random.key(0))}
    if "shape" in params[name]["schedule"]:  # trained towards a sharp bend
        params[name]["schedule"]["shape"]["out"] += 0.5

    def found(n, defensive):
        how = {"batch": 200, "draws": 8, "defensive": defensive}
        return measure(split(200), model=models[n], params=params[n], **how)

    straight, own, mixed = found("linear", True), found(name, False), found(name, True)
    least = min(straight.monte_carlo_se(), own.monte_carlo_se())
    assert mixed.monte_carlo_se() < 1.1 * np.sqrt(2.0) * least
    figures = [bpd.summary(r)["breakdown"]["diffusion"] for r in (straight, mixed)]
    apart = abs(figures[0]["bits_per_dim"] - figures[1]["bits_per_dim"])
    assert apart < 4.0 * np.hypot(straight.monte_carlo_se(), mixed.monte_carlo_se())
