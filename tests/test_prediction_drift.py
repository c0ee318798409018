"""Drift of predictions: none for the optimal network of Gaussian data, a known one otherwise."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian import Gaussian

from diffusion_jax.errors import ConfigError
from diffusion_jax.likelihood.prediction_drift import drift

DATA = Gaussian((0.1, -0.2), (0.2, 0.8))


def measured(wrong, n=4000):
    model = DATA.model(wrong=wrong)
    params = model.init(jax.random.key(0), (2,))
    noise = jax.random.normal(jax.random.key(1), (n, 2))
    x = jnp.asarray(DATA.mean) + jnp.sqrt(jnp.asarray(DATA.variance)) * noise
    return drift(model, params, x, {}, jax.random.key(2), points=4, steps=3)


def test_a_perfect_network_does_not_drift():
    found = measured(0.0)
    np.testing.assert_array_equal(found.gamma[1:], found.end[:-1])
    assert np.all(np.abs(found.mean) < 4.0 * found.standard_error)
    assert np.all(found.standard_error > 0.0)


def test_a_wrong_one_does_by_what_can_be_computed():
    """Noise predicted too large by w: a run moves by that, and the last prediction is off by it.

    Everything is affine, so that the mean drift follows step by step in numpy.
    """
    w, found = 0.3, measured(0.3)
    mean, variance = np.asarray(DATA.mean), np.asarray(DATA.variance)

    def x_hat(z, g):
        a2 = 1 / (1 + np.exp(g))
        a, s = np.sqrt(a2), np.sqrt(1 - a2)
        eps = s * (z - a * mean) / (a2 * variance + s**2) + w
        return (z - s * eps) / a

    for i in range(4):
        z = mean + 0.5  # any: an affine map moves all means alike
        plan = np.linspace(found.gamma[i], found.end[i], 4)
        there = z
        for g, s in itertools.pairwise(plan):
            a_g, a_s = (1 / np.sqrt(1 + np.exp(v)) for v in (g, s))
            c = -np.expm1(s - g)
            there = a_s / a_g * (1 - c) * there + a_s * c * x_hat(there, g)
        wanted = np.mean(np.square(x_hat(there, found.end[i]) - x_hat(z, found.gamma[i])))
        assert abs(found.mean[i] - wanted) < 4.0 * found.standard_error[i] + 1e-6
    assert found.mean[0] > 5.0 * found.standard_error[0]


def test_data_that_change_with_time_are_refused():
    model = DATA.model()
    params = model.init(jax.random.key(0), (2,))

    class Moving(type(model)):
        @property
        def traits(self):
            import dataclasses

            return dataclasses.replace(super().traits, time_dependent_data=True)

    moving = Moving(model.network, model.schedule, model.decoder, model.prediction)
    with pytest.raises(ConfigError, match="changes the data with time"):
        drift(moving, params, jnp.zeros((2, 2)), {}, jax.random.key(0))
