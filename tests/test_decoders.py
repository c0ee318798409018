import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_every_level_survives_the_round_trip(levels):
    decoder = registry.build("decoders", f"categorical(levels={levels})")
    image = np.arange(levels, dtype=np.uint8).reshape(1, levels, 1, 1)
    x = decoder.encode(jnp.asarray(image))
    assert float(jnp.abs(x).max()) < 1.0
    np.testing.assert_array_equal(decoder.decode(x), image)
    # Anything within half a bin decodes to the same level; beyond the range to the last one.
    np.testing.assert_array_equal(decoder.decode(x + 0.49 * 2 / levels), image)
    np.testing.assert_array_equal(decoder.decode(x + 5.0), np.full_like(image, levels - 1))


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_probabilities_sum_to_one(levels):
    decoder = registry.build("decoders", f"categorical(levels={levels})")
    every = decoder.encode(jnp.arange(levels, dtype=jnp.uint8).reshape(levels, 1, 1, 1))
    y = jnp.full_like(every, 0.1234)
    log_p = decoder.log_prob(every, y, jnp.asarray(-3.0))
    assert float(jnp.exp(log_p).sum()) == pytest.approx(1.0, abs=1e-5)


def test_true_level_is_the_most_probable_one():
    decoder = registry.build("decoders", "categorical(levels=17)")
    image = jax.random.randint(jax.random.key(0), (50, 4, 4, 1), 0, 17)
    x = decoder.encode(image)
    log_p = decoder.log_prob(x, x, jnp.asarray(-7.9))
    others = decoder.log_prob(decoder.encode((image + 1) % 17), x, jnp.asarray(-7.9))
    assert jnp.all(log_p > others)
    assert jnp.all(log_p > -0.2)


def test_gaussian_against_scipy():
    decoder = registry.build("decoders", "gaussian()")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 6, 3))
    expected = norm.logpdf(x, y, np.exp(-0.5)).sum(1)
    found = decoder.log_prob(jnp.asarray(x), jnp.asarray(y), jnp.asarray(-1.0))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_levels_out_of_range():
    with pytest.raises(ConfigError, match="levels=300"):
        registry.build("decoders", "categorical(levels=300)")
