"""Files of a model of latents: lossless in both orders, as long as the bound at their latents."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_jax import registry
from diffusion_jax.compression import coder as coding
from diffusion_jax.compression.model_functions import Network
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
