"""Every network through bound, sampler, codec and ODE: what holds for any weights at all."""

import functools
import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_backbones import LEARNED
from weights import drawn

from diffusion_jax import registry
from diffusion_jax.compression import coder as coding
from diffusion_jax.compression.model_functions import Network
from diffusion_jax.denoiser import with_condition
from diffusion_jax.likelihood.objectives.continuous import Continuous
from diffusion_jax.model import Model
from diffusion_jax.sampling.edits.base import Brush, Inputs
from diffusion_jax.sampling.guidance.base import Context
from diffusion_jax.sampling.loop import integrate
from diffusion_jax.sampling.method import Method
from diffusion_jax.types import Noise

SMALL = {
    "vdm_unet": "vdm_unet(width=8, depth=1, embed=8)",
    "unet": "unet(width=8, mults=(1, 2), blocks=1, attention=(), fourier=False)",
    "dit": "dit(width=8, depth=1, heads=2, patch=1)",
    "uvit": "uvit(width=8, depth=2, heads=2, patch=2)",
    "fno": "fno(width=8, depth=1, embed=8)",
    "mlp": "mlp(width=8, depth=1, embed=8)",
    "prior": "prior(width=8, depth=1, heads=2, embed=8)",
}
LEVELS, SHAPE = 2, (2, 2, 1)
ENDS = {"gamma_min": -6.0, "gamma_max": 5.0, "levels": LEVELS, "channels": 1}


@functools.cache
def made(name):
    """The model with small random weights."""
    assert name in SMALL, "give the new network a small setting here"
    model = Model(
        registry.build("backbones", SMALL[name], **ENDS),
        registry.build("schedules", "linear()", **ENDS),
        registry.build("decoders", "categorical()", **ENDS),
        "eps",
    )
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), SHAPE))
    return model, drawn(shapes, 0.05)


every = pytest.mark.parametrize("name", LEARNED)


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


transformers = pytest.mark.parametrize("name", ["dit", "uvit"])


@transformers
def test_densities_along_the_flow_are_probabilities(name):
    """Importance weights of all images, by the ODE and its exact trace, add up to one."""
    model, params = made(name)
    wide = registry.build("schedules", "linear(gamma_min=0.0, gamma_max=5.0)", **ENDS)
    model = replace(model, schedule=wide)  # the noise of z_0 covers what the model may make
    measure = registry.build("likelihood", "ode(dequantization='decoder', steps=8, k=1)")
    measure.check(model)
    images = np.array(list(itertools.product(range(LEVELS), repeat=4))).reshape(-1, *SHAPE)
    x = jnp.repeat(model.decoder.encode(jnp.asarray(images, jnp.uint8)), 64, axis=0)
    keys = jax.random.split(jax.random.key(4), len(x))
    found = jax.jit(lambda x, keys: measure(model, params, x, {}, keys))(x, keys)
    weights = np.exp(found.density + found.correction).reshape(16, 64)
    error = np.sqrt((weights.var(1, ddof=1) / 64).sum())
    assert abs(weights.mean(1).sum() - 1) < 4 * error < 0.2


@transformers
def test_an_edit_keeps_what_is_not_painted_and_never_sees_what_is(name):
    model, params = made(name)
    edit = registry.build("edits", "repaint(resamplings=2)")
    method = Method(
        guidance=registry.build("guidance", "none()"),
        sampler=registry.build("samplers", "ancestral()"),
        gammas=edit.plan(np.linspace(5.0, -6.0, 4)),
        final=registry.build("final_steps", "decode()"),
    )
    edit.check(model, method)
    brush = Brush(model, params, method, Context())
    mask = np.zeros((1, *SHAPE), np.float32)
    mask[:, 0, 1] = 1.0
    paint = jax.jit(lambda canvas: edit.paint(brush, canvas, jax.random.key(5)))

    def painted(images):
        layout = edit.lay_out(Inputs(images, np.repeat(mask, len(images), 0), {}, 1))
        image = model.decoder.encode(jnp.asarray(layout.canvas.image))
        return np.asarray(paint(layout.canvas._replace(image=image)))

    images = np.random.default_rng(1).integers(0, LEVELS, (8, *SHAPE)).astype(np.uint8)
    other = np.where(mask > 0, 1 - images, images).astype(np.uint8)
    found = painted(images)
    np.testing.assert_array_equal(found, painted(other))
    kept = np.broadcast_to(mask == 0, images.shape)
    np.testing.assert_array_equal(found[kept], images[kept])
    assert len(np.unique(found[~kept])) == LEVELS
