"""Networks that are given a smaller image: it matters, so does its noise, and training hides it."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from test_backbones import LEARNED, SMALL
from weights import moved

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.layers.embed import image_inputs
from diffusion_jax.process.conditioning_augmentation import LowNoise
from diffusion_jax.sampling import generate
from diffusion_jax.sampling.guidance.base import Context
from diffusion_jax.training import step
from diffusion_jax.training.tasks.diffusion import make_recipe
from diffusion_jax.types import alpha, sigma

N = 3
CONTEXT = {"levels": 17, "num_classes": 5, "gamma_min": -8.0, "gamma_max": 5.0}


LOW = [n for n in LEARNED if n != "prior"]  # whose data are vectors


@pytest.fixture(scope="module", params=LOW)
def ready(request):
    """A network of 4x4 parts with 3 channels and a low one, its weights moved from zero."""
    network = registry.build("backbones", SMALL[request.param], channels=3, low=1, **CONTEXT)
    z, low = jnp.zeros((N, 4, 4, 3)), jnp.zeros((N, 4, 4, 1))
    params = jax.jit(lambda k: network.init(k, z, jnp.zeros(N), {"low": low}))(jax.random.key(0))
    return jax.jit(functools.partial(network.apply, moved(params, 0.2)))


def draw(i, *shape):
    return jax.random.normal(jax.random.key(i), shape)


@pytest.mark.slow
def test_low_and_its_noise_matter_for_their_own_example_only(ready):
    z, gamma, low = draw(2, N, 4, 4, 3), jnp.zeros(N), draw(3, N, 4, 4, 1)
    at = ready(z, gamma, {"low": low})
    assert at.shape == z.shape
    clean = ready(z, gamma, {"low": low, "low_gamma": jnp.full(N, -8.0)})
    np.testing.assert_array_equal(at, clean)  # no word of noise: none
    other = ready(z, gamma, {"low": low.at[0].add(1.0)})
    noisy = ready(z, gamma, {"low": low, "low_gamma": jnp.array([-2.0, -8.0, -8.0])})
    for changed in (other, noisy):
        assert float(jnp.abs(changed - at)[0].max()) > 1e-3
        np.testing.assert_allclose(changed[1:], at[1:], atol=1e-5)


@pytest.mark.slow
def test_a_missing_low_image_is_named(ready):
    with pytest.raises(ConfigError, match="needs low images"):
        ready(draw(2, N, 4, 4, 3), jnp.zeros(N), {})


def test_a_smaller_low_image_is_enlarged():
    """As `average()` has it, whose second stage models the whole image."""
    z, low = draw(2, N, 8, 8, 3), draw(3, N, 4, 4, 3)
    big = jnp.repeat(jnp.repeat(low, 2, axis=1), 2, axis=2)
    seen = image_inputs(z, {"low": low}, 17, False, 3)
    np.testing.assert_array_equal(seen, jnp.concatenate([z, big], axis=-1))


def test_guidance_keeps_the_low_image_in_both_halves_of_its_batch():
    seen = []

    def denoise(z, gamma, cond):
        seen.append(cond)
        from diffusion_jax.types import Pred

        return Pred(z, z)

    def null(cond):
        return {**cond, "label": jnp.full_like(cond["label"], 5)}

    low = draw(3, N, 4, 4, 1)
    cond = {"label": jnp.arange(N), "low": low, "low_gamma": jnp.arange(N) - 4.0}
    guided = registry.build("guidance", "cfg(w=2.0)")(denoise, Context(null=null))
    guided(draw(2, N, 4, 4, 3), jnp.zeros(()), cond)
    np.testing.assert_array_equal(seen[0]["low"], jnp.repeat(low, 2, axis=0))
    np.testing.assert_array_equal(seen[0]["low_gamma"], jnp.repeat(cond["low_gamma"], 2))
    assert seen[0]["label"].tolist() == [0, 5, 1, 5, 2, 5]


def test_training_hides_half_of_the_low_images():
    n = 4000
    low = jnp.full((n, 1, 2, 1), 0.5)
    hidden = LowNoise(clean=0.5, gamma_min=-8.0, gamma_max=5.0)(jax.random.key(0), {"low": low})
    clean = hidden["low_gamma"] == -8.0
    np.testing.assert_array_equal(hidden["low"][clean], 0.5)
    assert abs(float(clean.mean()) - 0.5) < 0.04
    levels = np.sort(np.asarray(hidden["low_gamma"][~clean]))
    uniform = np.interp(levels, [-8.0, 5.0], [0.0, 1.0])
    assert np.abs(uniform - np.linspace(0, 1, len(levels))).max() < 0.05  # Kolmogorov-Smirnov
    gamma = hidden["low_gamma"][~clean][:, None, None, None]
    noise = (hidden["low"][~clean] - jnp.sqrt(jax.nn.sigmoid(-gamma)) * 0.5) / jnp.sqrt(
        jax.nn.sigmoid(gamma)
    )
    assert abs(float(noise.mean())) < 0.08 and abs(float(noise.std()) - 1.0) < 0.05
    assert LowNoise(0.5, -8.0, 5.0)(jax.random.key(0), {}) == {}


def test_small_images_are_clean_as_often_as_the_settings_say(tmp_path):
    found = tiny.experiment(tmp_path, view="high(subsample())", low_clean=0.8)
    recipe = make_recipe(found)
    rows = jax.tree.map(jnp.asarray, found.source.split("train").take(np.arange(2000) % 50))
    cond = step.prepare(recipe, rows, jnp.asarray(0))[1]
    clean = np.asarray(cond["low_gamma"]) == recipe.low_noise.gamma_min
    assert clean.mean() == pytest.approx(0.8, abs=0.04)


def test_a_later_stage_gets_small_images_with_the_noise_that_it_is_told():
    decoder = registry.build("decoders", "categorical()", levels=5)
    model = SimpleNamespace(from_latent=False, decoder=decoder)
    n, gamma = 20000, 0.7
    cond = {"low": jnp.full((n, 1, 2, 1), 4, jnp.uint8), "label": jnp.zeros(n, int)}
    keys = jax.random.split(jax.random.key(0), n)
    clean = generate.in_model_space(model, {}, cond, keys)
    x = float(decoder.encode(jnp.uint8(4)))
    np.testing.assert_allclose(clean["low"], x, rtol=1e-6)
    assert "low_gamma" not in clean
    found = generate.in_model_space(model, {}, cond | {"low_gamma": jnp.full(n, gamma)}, keys)
    noise = (np.asarray(found["low"]).reshape(n, 2) - alpha(gamma) * x) / sigma(gamma)
    assert np.abs(noise.mean(0)).max() < 4 / np.sqrt(n)
    np.testing.assert_allclose(np.cov(noise.T), np.eye(2), atol=5 / np.sqrt(n))
    np.testing.assert_array_equal(found["low_gamma"], np.full(n, gamma, np.float32))
