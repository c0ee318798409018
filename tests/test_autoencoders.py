"""Autoencoders: the contract of every plug-in; pixels are the decoder; shapes that do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_jax import registry, testing
from diffusion_jax.errors import ConfigError

KNOWN = {"decoder": registry.build("decoders", "categorical(levels=256)"), "levels": 256}
SMALL = "conv(widths=(8, 8), channels=2, attention=False, head=logistic(mixtures=2)"


@pytest.mark.parametrize(
    "spec",
    ["pixels()", f"{SMALL})", "conv(widths=(8,), noise='fixed', head=categorical())"],
)
def test_contract(spec):
    made = testing.check("autoencoders", spec, **KNOWN)
    assert getattr(made, "channels", 8) == (2 if "channels" in spec else 8)  # not the images'


def test_pixels_are_the_decoder():
    pixels, decoder = registry.build("autoencoders", "pixels()", **KNOWN), KNOWN["decoder"]
    x = decoder.encode(jnp.arange(12).reshape(1, 2, 2, 3))
    y, gamma = x + 0.1, jnp.asarray(-6.0)
    assert pixels.encode({}, x) == (x, None)
    np.testing.assert_array_equal(pixels.log_prob({}, x, y, gamma), decoder.log_prob(x, y, gamma))
    np.testing.assert_array_equal(pixels.log_probs({}, x, y, gamma), decoder.log_probs(y, gamma))
    np.testing.assert_array_equal(pixels.decode({}, y), decoder.decode(y))


def test_standardised_latents_score_images_the_same():
    conv = registry.build("autoencoders", f"{SMALL})", levels=256, shape=(4, 4, 1))
    x = jnp.linspace(-0.9, 0.9, 32).reshape(2, 4, 4, 1)
    params = jax.jit(lambda: conv.init(jax.random.key(0), (4, 4, 1)))()
    shift, scale = jnp.asarray([0.5, -1.0]), jnp.asarray([2.0, 0.1])
    other = {**params, "standard": {"shift": shift, "scale": scale}}
    encode, log_prob = jax.jit(conv.encode), jax.jit(conv.log_prob)
    (mean, std), (mean2, std2) = encode(params, x), encode(other, x)
    np.testing.assert_allclose(mean2 * scale + shift, mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(std2 * scale, std, rtol=1e-5)
    gamma = jnp.asarray(-5.0)
    np.testing.assert_allclose(
        log_prob(other, x, mean2, gamma), log_prob(params, x, mean, gamma), rtol=1e-5
    )


def test_sizes_that_cannot_be_halved_name_what_can():
    conv = registry.build("autoencoders", "conv(widths=(8, 8, 8, 8))", levels=2, shape=(28, 28, 1))
    with pytest.raises(ConfigError, match=r"28x28 can be halved twice.*at most 3 widths"):
        conv.latent_shape((28, 28, 1))
    with pytest.raises(ConfigError, match=r"7x8 can not be halved.*at most 1 widths"):
        conv.latent_shape((7, 8, 1))
    with pytest.raises(ConfigError, match=r"noise='none'.*allowed: learned, fixed"):
        registry.build("autoencoders", "conv(noise='none')", levels=2, shape=(28, 28, 1))
