"""Every network through bound, sampler, codec and ODE: what holds for any weights at all."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_models import LEARNED
from weights import drawn

from diffusion_jax import registry
from diffusion_jax.compression import coder as coding
from diffusion_jax.compression.network import Network
from diffusion_jax.denoiser import with_condition
from diffusion_jax.likelihood.objectives.continuous import Continuous
from diffusion_jax.model import Model
from diffusion_jax.sampling.loop import integrate
from diffusion_jax.types import Noise

SMALL = {
    "vdm_unet": "vdm_unet(width=8, depth=1, embed=8)",
    "unet": "unet(width=8, mults=(1, 2), blocks=1, attention=(), fourier=False)",
    "dit": "dit(width=8, depth=1, heads=2, patch=1)",
    "uvit": "uvit(width=8, depth=2, heads=2, patch=2)",
    "mlp": "mlp(width=8, depth=1, embed=8)",
}
LEVELS, SHAPE = 2, (2, 2, 1)
ENDS = {"gamma_min": -6.0, "gamma_max": 5.0, "levels": LEVELS, "channels": 1}


@functools.cache
def made(name):
    """The model with small random weights."""
    assert name in SMALL, "give the new network a small setting here"
    model = Model(
        registry.build("models", SMALL[name], **ENDS),
        registry.build("schedules", "linear()", **ENDS),
        registry.build("decoders", "categorical()", **ENDS),
        "eps",
    )
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), SHAPE))
    return model, drawn(shapes, 0.05)


every = pytest.mark.parametrize("name", LEARNED)


@every
def test_probabilities_of_all_images_do_not_exceed_one(name):
    """Kraft's inequality: a bound that anything leaks into would break it."""
    model, params = made(name)
    images = np.array(list(itertools.product(range(LEVELS), repeat=4))).reshape(-1, *SHAPE)
    draws = 128
    x = jnp.repeat(model.decoder.encode(jnp.asarray(images, jnp.uint8)), draws, axis=0)
    eps, eps_0 = jax.random.normal(jax.random.key(2), (2, *x.shape))
    t = jnp.tile((jnp.arange(draws) + 0.5) / draws, len(images))
    terms = jax.jit(lambda n: Continuous()(model, params, x, {}, n).total)(Noise(t, eps, eps_0))
    mass = float(jnp.exp(-terms.reshape(-1, draws).mean(1)).sum())
    assert 0 < mass < 1.02


@every
def test_samples_do_not_depend_on_the_batch(name):
    model, params = made(name)
    denoise = with_condition(model.denoiser(params), {})
    gammas = jnp.linspace(5.0, -6.0, 4)

    @jax.jit
    def sample(keys):
        z = jax.vmap(lambda k: jax.random.normal(k, SHAPE))(keys)
        return integrate(denoise, registry.build("samplers", "ancestral()"), gammas, z, keys)

    keys = jax.random.split(jax.random.key(3), 4)
    whole = sample(keys)
    assert bool(jnp.isfinite(whole).all())
    parts = jnp.concatenate([sample(keys[:2]), sample(keys[2:])])
    np.testing.assert_allclose(whole, parts, rtol=1e-4, atol=1e-4)


@every
def test_the_codec_is_lossless_and_no_longer_than_its_bound(name):
    model, params = made(name)
    images = np.random.default_rng(0).integers(0, LEVELS, (6, *SHAPE)).astype(np.uint8)
    coder = coding.make(Network(model, params, SHAPE, 4), 12, "auto")
    coded = coding.encode(coder, images, None)
    np.testing.assert_array_equal(coding.decode(coder, coded.groups, 6)[0], images)
    bits, nats = coded.bits.sum() / images.size, coded.nats.sum() / images.size
    # The bins of the latents can only lower the divergence between posterior and model.
    assert 0 < bits < nats / np.log(2) + 0.01
