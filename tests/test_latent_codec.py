"""Files of a model of latents: lossless in both orders, as long as the bound at their latents."""

import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_jax import registry
from diffusion_jax.compression import coder as coding
from diffusion_jax.compression.latent_chain import make_latent_chain
from diffusion_jax.compression.model_functions import Latents, Network
from diffusion_jax.model import Model

SHAPE, LEVELS = (4, 4, 3), 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("noise", "order", "head"),
    [
        ("learned", "bitswap", "logistic(mixtures=2)"),
        ("learned", "topdown", "categorical()"),
        ("fixed", "bitswap", "logistic(mixtures=2)"),
    ],
)
def test_round_trip_and_length(noise, order, head):
    spec = f"conv(widths=(8,), channels=1, attention=False, noise={noise!r}, head={head})"
    model = Model(
        network=registry.build("backbones", "standard_normal()"),
        schedule=registry.build("schedules", "linear(gamma_min=-5.0, gamma_max=5.0)"),
        decoder=registry.build("decoders", "categorical()", levels=LEVELS),
        prediction="v",
        autoencoder=registry.build("autoencoders", spec, levels=LEVELS, shape=SHAPE),
    )
    params = jax.jit(lambda: model.init(jax.random.key(0), SHAPE))()
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    rough = [a + 0.01 * jax.random.normal(k, a.shape) for k, a in zip(keys, leaves, strict=True)]
    network = Network(model, jax.tree.unflatten(tree, rough), SHAPE, batch=2)
    coder = coding.make(network, timesteps=100, order=order, group=4)
    images = np.asarray(jax.random.randint(jax.random.key(2), (5, *SHAPE), 0, LEVELS), np.uint8)
    coded = coding.encode(coder, images, None)
    back, _ = coding.decode(coder, coded.groups, len(images))
    np.testing.assert_array_equal(back, images)
    gap = (coded.bits.sum() - coded.nats.sum() / math.log(2.0)) / images.size
    assert abs(gap) < 0.003
    assert coded.nats.mean() / np.prod(SHAPE) / math.log(2.0) > 1.0
    assert jnp.isfinite(coded.nats).all()


def test_latents_with_noise_of_their_own_are_drawn_backwards_by_bayes():
    """`q(z_s | z_t, x)` is prior times likelihood: the law of z_s, and a step of noise to z_t."""
    gammas = np.array([-3.0, -1.0, 0.5, 2.0, 4.0])
    traits = SimpleNamespace(mean_coefficient=0.0, pixels=False)
    network = SimpleNamespace(
        model=SimpleNamespace(traits=traits), shift=lambda x, gamma, labels: 0.0, values=3
    )
    chain = make_latent_chain(network, 4, False, gammas)
    rng = np.random.default_rng(0)
    x = Latents(rng.normal(size=(5, 3)), rng.uniform(0.2, 1.5, (5, 3)))
    alpha, variance = 1 / np.sqrt(1 + np.exp(gammas)), 1 / (1 + np.exp(-gammas))
    for i in range(1, 5):
        k = rng.integers(-50, 50, (5, 3))
        z_t, ratio = chain.latent(k, i), alpha[i] / alpha[i - 1]
        added = variance[i] - ratio**2 * variance[i - 1]  # from z_s to z_t
        before = alpha[i - 1] ** 2 * x.std**2 + variance[i - 1]
        precision = 1 / before + ratio**2 / added
        mean = (alpha[i - 1] * x.mean / before + ratio * z_t / added) / precision
        found = chain.back(k, i, x, None)
        np.testing.assert_allclose(found.mean, mean, rtol=1e-9)
        np.testing.assert_allclose(found.std, precision**-0.5, rtol=1e-9)
