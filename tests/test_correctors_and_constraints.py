"""The Langevin corrector's stationary law, and what replacement does to known pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closed_form import MIXTURE, Draws, Gaussian, build

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError
from diffusion_jax.sampling import integrate, replacement
from diffusion_jax.sampling.correctors import langevin
from diffusion_jax.types import alpha, sigma

pytestmark = pytest.mark.usefixtures("float64")
KEY = jax.random.key(0)


@pytest.mark.parametrize("r", [0.16, 0.5])
def test_langevin_settles_where_theory_says(monkeypatch, r):
    """`v / (1 - delta / (2 v))` for a Gaussian of variance v: the step biases it in a known way."""
    data, gamma = Gaussian(np.array([0.7]), np.array([[0.3]])), 0.5
    correct = langevin.make(r=r)
    constant = np.zeros((3, 1))
    constant[0] = 1.0
    z = np.array([[0.2], [1.0], [0.0]])  # functionals: constant, start, the number drawn
    with monkeypatch.context() as m, jax.disable_jit():
        m.setattr(jax.random, "normal", Draws(2, 3))
        denoise = lambda z, g: data.denoise(z, g, constant)
        moved = np.asarray(correct(denoise, jnp.asarray(z), jnp.asarray(gamma), KEY))
    shrink, drawn = moved[1, 0], moved[2, 0]
    (v,) = data.noised(gamma)[1].ravel()
    delta = 2.0 * r**2 * float(sigma(jnp.asarray(gamma))) ** 2
    np.testing.assert_allclose(drawn**2 / (1.0 - shrink**2), v / (1.0 - delta / (2.0 * v)))
    # The mean is drawn towards the true one.
    (mean,) = data.noised(gamma)[0]
    np.testing.assert_allclose(moved[0, 0] - mean, shrink * (0.2 - mean))


def test_langevin_repeats_and_adapts_per_example():
    z = jax.random.normal(KEY, (3, 2))
    gamma = jnp.asarray(0.0)
    ran = []

    def denoise(z, gamma):
        jax.debug.callback(lambda: ran.append(1))
        return MIXTURE.denoise(z, gamma)

    for adaptive in (False, True):
        correct = langevin.make(repeats=3, adaptive=adaptive)
        ran.clear()
        moved = jax.block_until_ready(correct(denoise, z, gamma, KEY))
        jax.effects_barrier()
        assert len(ran) == 3
        other = correct(denoise, z.at[0].multiply(9.0), gamma, KEY)
        np.testing.assert_array_equal(moved[1:], other[1:])
    # The paper's rule: drift and noise have norms in the ratio r, for every example.
    step = langevin.make(r=0.1, adaptive=True)(denoise, z, gamma, KEY) - z
    noise = jax.random.normal(jax.random.split(KEY, 1)[0], z.shape)
    eps = MIXTURE.denoise(z, gamma).eps
    size = 0.1 * jnp.linalg.norm(noise, axis=1) / jnp.linalg.norm(eps, axis=1)
    drift = step - sigma(gamma) * 2 * size[:, None] * noise
    ratio = jnp.linalg.norm(drift, axis=1) / jnp.linalg.norm(step - drift, axis=1)
    np.testing.assert_allclose(ratio, 0.1)


def test_langevin_inside_a_run_mends_a_coarse_one():
    """Few DDIM steps leave the law of a mixture; the corrector brings it back."""
    z = jax.random.normal(KEY, (4000, 2))
    gammas = np.linspace(5.0, -2.0, 6)
    end = lambda correct: integrate(
        MIXTURE.denoise, build("ddim()"), gammas, z, KEY, correct=correct
    )
    a, s = alpha(jnp.asarray(-2.0)), sigma(jnp.asarray(-2.0))
    spread = MIXTURE.probs @ MIXTURE.means**2 - (MIXTURE.probs @ MIXTURE.means) ** 2
    true = a**2 * (spread + MIXTURE.var) + s**2
    plain, mended = (np.abs(end(c).var(0) - true).max() for c in (None, langevin.make(0.3, 20)))
    assert mended < 0.6 * plain


def test_replacement_keeps_the_known_and_leaves_the_rest():
    known = jnp.array([[0.5, 9.0]])
    constrain = replacement.make(known, jnp.array([1.0, 0.0]))
    z, gamma = jax.random.normal(KEY, (5000, 2)), jnp.asarray(0.3)
    out = constrain(z, gamma, jax.random.key(1))
    np.testing.assert_array_equal(out[:, 1], z[:, 1])
    assert out[:, 0].mean() == pytest.approx(float(alpha(gamma)) * 0.5, abs=0.05)
    assert out[:, 0].std() == pytest.approx(float(sigma(gamma)), abs=0.05)


def test_replacement_ends_at_the_known_pixels():
    known = jnp.array([0.5, -0.5])
    mask = jnp.array([1.0, 0.0])
    z = integrate(
        MIXTURE.denoise,
        build("dpmpp_2m()"),
        np.linspace(5.0, -13.3, 12),
        jax.random.normal(KEY, (8, 2)),
        KEY,
        constrain=replacement.make(known, mask),
    )
    np.testing.assert_allclose(z[:, 0], 0.5, atol=0.01)


def test_settings_are_checked():
    for bad in ("langevin(r=0.0)", "langevin(repeats=0)"):
        with pytest.raises(ConfigError, match="langevin"):
            registry.build("correctors", bad)
