"""The bound against closed forms: Gaussian data, exact quadrature instead of sampling."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian import Gaussian, legendre

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError
from diffusion_jax.likelihood.objectives.base import prior
from diffusion_jax.process.schedules.base import endpoints, latent_size

pytestmark = pytest.mark.usefixtures("float64")
DATA = Gaussian()
ENDS = (-6.0, 4.0)


def bound(model, objective, times, weights):
    params = {"network": {}, "schedule": model.schedule.init(jax.random.key(0))}
    x, noise, w = DATA.quadrature(times, weights)
    terms = registry.build("objectives", objective)(model, params, x, {}, noise)
    return {k: float(np.sum(w * v)) for k, v in (*terms._asdict().items(), ("total", terms.total))}


def test_continuous_bound_is_entropy_plus_the_cost_of_the_ends():
    found = bound(DATA.model(), "continuous()", *legendre(200))
    assert found["total"] == pytest.approx(DATA.best_bound(*ENDS), abs=1e-9)


def test_no_network_beats_the_optimal_one():
    best = bound(DATA.model(), "continuous()", *legendre(200))["total"]
    for wrong in (-0.05, 0.05):
        assert bound(DATA.model(wrong=wrong), "continuous()", *legendre(200))["total"] > best + 1e-3


# Schedules with a latent per image are tested in test_mulan.py.
PLAIN = [n for n in registry.available("schedules")
         if not latent_size(registry.build("schedules", n, shape=(2, 2, 1)))]  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_continuous_bound_does_not_depend_on_the_schedules_shape(name):
    spec = f"{name}(gamma_min={ENDS[0]}, gamma_max={ENDS[1]})"
    found = bound(DATA.model(spec), "continuous()", *legendre(400))
    # Some schedules keep float32 parameters, which moves their ends by a rounding.
    assert found["total"] == pytest.approx(DATA.best_bound(*ENDS), abs=2e-6)


@pytest.mark.parametrize("prediction", ["v", "x", "velocity"])
def test_parameterizations_give_the_same_terms(prediction):
    reference = bound(DATA.model(), "continuous()", *legendre(50))
    found = bound(DATA.model(prediction=prediction), "continuous()", *legendre(50))
    for k in reference:
        assert found[k] == pytest.approx(reference[k], rel=1e-9)


@pytest.mark.slow
def test_discrete_bound_falls_to_the_continuous_one_like_1_over_t():
    def at(steps):
        times = (np.arange(steps) + 0.5) / steps  # one node inside each step
        spec = f"discrete(timesteps={steps})"
        return bound(DATA.model(), spec, times, np.full(steps, 1 / steps))["total"]

    limit = DATA.best_bound(*ENDS)
    gaps = [at(steps) - limit for steps in (1, 2, 4, 8, 16, 32, 64, 128, 256)]
    assert all(a > b > 0 for a, b in itertools.pairwise(gaps))
    assert gaps[-2] / gaps[-1] == pytest.approx(2.0, rel=0.02)


def test_discrete_steps_at_the_edges_of_time():
    """t = 0 belongs to the first step and t = 1 to the last."""
    values = [
        bound(DATA.model(), "discrete(timesteps=4)", np.array([t]), np.ones(1))["diffusion"]
        for t in (0.0, 0.25, 0.76, 1.0)
    ]
    assert values[0] == values[1] and values[2] == values[3] and values[0] != values[2]
    with pytest.raises(ConfigError, match="timesteps"):
        registry.build("objectives", "discrete(timesteps=0)")


@pytest.mark.parametrize("channels", [1, 3])
def test_reconstruction_of_256_levels(channels):
    """0.010453 bits/dim for interior levels at gamma_0 = -13.3, whatever the channels."""
    decoder = registry.build("decoders", "categorical(levels=256)")
    nodes = np.linspace(-12, 12, 4001)
    weights = np.exp(-0.5 * nodes**2)
    weights /= weights.sum()
    image = np.full((len(nodes), 1, 1, channels), 100, np.uint8)
    x = decoder.encode(jnp.asarray(image))
    y = x + math.exp(-13.3 / 2) * jnp.asarray(nodes)[:, None, None, None]
    nats = -np.asarray(decoder.log_prob(x, y, jnp.asarray(-13.3)))
    assert (weights * nats).sum() / channels / math.log(2) == pytest.approx(0.010453, abs=1e-6)


def test_prior_does_not_cancel_in_float32():
    """Against float64, at an end where sigma^2 is 1 up to a rounding."""
    schedule = registry.build("schedules", "linear(gamma_min=-13.3, gamma_max=12.0)")
    x = np.random.default_rng(0).normal(size=(4, 50)) * 0.1
    model = DATA.model("linear(gamma_min=-13.3, gamma_max=12.0)")
    exact = prior(model, {"schedule": {}}, jnp.asarray(x))
    with jax.enable_x64(False):
        single = prior(model, {"schedule": {}}, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(single, exact, rtol=1e-4)
    assert float(endpoints(schedule, {})[1]) == 12.0
