"""Filters on a torus: what they do to shifts, frequencies and impulses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from weights import moved

from diffusion_jax import registry
from diffusion_jax.networks.backbones.fno import FourierFilter


def filtered(x, modes=None, width=2):
    """A random filter's output, and the filter."""
    layer = FourierFilter(width, modes)
    params = layer.init(jax.random.key(1), x)
    return layer.apply(params, x), lambda y: layer.apply(params, y)


@pytest.mark.parametrize("size", [(8, 8), (6, 5)])
def test_a_filter_is_its_impulse_responses_wherever_they_fall(size):
    """Convolution on a torus, summed in space by hand; odd sizes too."""
    x = jax.random.normal(jax.random.key(0), (2, *size, 3))
    out, ask = filtered(x)
    impulses = jnp.zeros((3, *size, 3)).at[jnp.arange(3), 0, 0, jnp.arange(3)].set(1.0)
    responses = np.asarray(ask(impulses))
    expected = sum(
        np.roll(responses[c], (i, j), (0, 1)) * np.asarray(x)[:, i, j, c, None, None, None]
        for c in range(3)
        for i in range(size[0])
        for j in range(size[1])
    )
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_only_the_modes_asked_for_pass():
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    spectrum = np.abs(np.fft.fft2(filtered(x, modes=2)[0], axes=(1, 2)))
    high = np.abs(np.fft.fftfreq(8, 1 / 8)) > 2
    assert spectrum[:, high].max() < 1e-4 and spectrum[:, :, high].max() < 1e-4
    assert spectrum[:, ~high][:, :, ~high].min() > 1e-3


def test_a_shift_of_the_input_shifts_the_output():
    network = registry.build(
        "backbones", "fno(width=8, depth=2, embed=8)", channels=2, levels=2,
        gamma_min=-6.0, gamma_max=5.0,
    )  # fmt: skip
    z = jax.random.normal(jax.random.key(0), (2, 8, 8, 2))
    gamma = jnp.asarray([-1.0, 3.0])
    apply = jax.jit(network.apply)
    params = moved(jax.jit(network.init)(jax.random.key(1), z, gamma, {}), 0.2)
    there = apply(params, jnp.roll(z, (3, 5), (1, 2)), gamma, {})
    here = apply(params, z, gamma, {})
    assert jnp.abs(here - z).max() > 0.1
    np.testing.assert_allclose(there, jnp.roll(here, (3, 5), (1, 2)), atol=1e-5)
