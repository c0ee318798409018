"""Guidance by measurements, against the posterior of a Gaussian conditioned in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closed_form import MIXTURE, Gaussian, build

from diffusion_jax.sampling import integrate, inverse_problems
from diffusion_jax.sampling.guidance.base import Context
from diffusion_jax.types import alpha, sigma

pytestmark = pytest.mark.usefixtures("float64")
KEY = jax.random.key(0)
A = np.array([[1.0, 0.5, 0.0], [0.0, -0.3, 2.0]])
Y = np.array([0.4, -1.1])
VARIANCE = 0.05
GAMMAS = [-6.0, 0.3, 4.0]


def forward(x):
    return x @ A.T


def conditioned(data, z, gamma):
    """`E[x | z, y]` from the joint Gaussian of x, z and y: no score, no Jacobian."""
    a, s = float(alpha(gamma)), float(sigma(gamma))
    observe = np.vstack([a * np.eye(3), A])
    noise = np.diag([s * s] * 3 + [VARIANCE] * 2)
    gain = data.cov @ observe.T @ np.linalg.inv(observe @ data.cov @ observe.T + noise)
    seen = np.concatenate([z, np.broadcast_to(Y, (len(z), 2))], 1)
    return data.mean + (seen - observe @ data.mean) @ gain.T


def guided(guidance, data):
    return guidance(lambda z, gamma, cond: data.denoise(z, gamma), Context())


@pytest.mark.parametrize("gamma", GAMMAS)
def test_exact_for_gaussian_data(gamma):
    spread = np.array([[1.0, 0.4, 0.1], [0.4, 0.8, -0.2], [0.1, -0.2, 0.3]])
    data, gamma = Gaussian(np.array([0.2, -0.5, 0.9]), spread), jnp.asarray(gamma)
    z = jax.random.normal(KEY, (4, 3))
    pred = guided(inverse_problems.exact(forward, Y, VARIANCE), data)(z, gamma, {})
    np.testing.assert_allclose(pred.x, conditioned(data, z, gamma), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(alpha(gamma) * pred.x + sigma(gamma) * pred.eps, z, atol=1e-9)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_pigdm_is_exact_for_white_data(gamma):
    """Where its assumption `Cov[x | z] = sigma^2 I` holds."""
    data, gamma = Gaussian(np.zeros(3), np.eye(3)), jnp.asarray(gamma)
    z = jax.random.normal(KEY, (4, 3))
    pred = guided(inverse_problems.pigdm(forward, Y, VARIANCE), data)(z, gamma, {})
    np.testing.assert_allclose(pred.x, conditioned(data, z, gamma), rtol=1e-9, atol=1e-9)


def test_sampling_the_posterior():
    data = Gaussian(np.array([0.2, -0.5, 0.9]), np.diag([1.0, 0.5, 0.3]))
    denoise = guided(inverse_problems.exact(forward, Y, VARIANCE), data)
    z = integrate(
        lambda z, gamma: denoise(z, gamma, {}),
        build("dpmpp_2m(eta=1.0)"),
        np.linspace(7.0, -9.0, 81),
        jax.random.normal(KEY, (20000, 3)),
        jax.random.key(1),
    )
    gain = data.cov @ A.T @ np.linalg.inv(A @ data.cov @ A.T + VARIANCE * np.eye(2))
    np.testing.assert_allclose(z.mean(0), data.mean + gain @ (Y - A @ data.mean), atol=0.03)
    np.testing.assert_allclose(np.cov(z.T), data.cov - gain @ A @ data.cov, atol=0.02)


@pytest.mark.slow
def test_dps_follows_the_measurement_within_its_limit():
    observe = lambda x: x[:, :1] ** 2  # it need not be linear
    z, gamma = jax.random.normal(KEY, (5, 2)), jnp.asarray(0.5)
    plain = MIXTURE.denoise(z, gamma)

    def at(z, **options):
        guidance = inverse_problems.dps(observe, np.array([0.3]), **options)
        return guidance(lambda z, gamma, cond: MIXTURE.denoise(z, gamma), Context())(z, gamma, {})

    misfit = lambda pred: jnp.abs(0.3 - observe(pred.x))[:, 0]
    assert jnp.all(misfit(at(z, scale=1e-3)) < misfit(plain))
    moved = lambda **options: jnp.linalg.norm(at(z, **options).eps - plain.eps, axis=1) / 2**0.5
    free = moved(scale=1.0)
    limit = float(jnp.median(free))
    np.testing.assert_allclose(moved(scale=1.0, limit=limit), jnp.minimum(free, limit))
    # Twice the scale is twice the guidance, and examples do not see one another.
    np.testing.assert_allclose(moved(scale=2.0), 2.0 * free)
    other = at(z.at[0].add(1.0), scale=1.0, limit=limit)
    np.testing.assert_allclose(other.x[1:], at(z, scale=1.0, limit=limit).x[1:])


def test_dps_at_a_perfect_fit_does_nothing():
    z, gamma = jax.random.normal(KEY, (1, 2)), jnp.asarray(0.5)
    plain = MIXTURE.denoise(z, gamma)
    guidance = inverse_problems.dps(lambda x: x, plain.x)
    pred = guidance(lambda z, gamma, cond: MIXTURE.denoise(z, gamma), Context())(z, gamma, {})
    np.testing.assert_array_equal(pred.x, plain.x)
