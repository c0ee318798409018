"""Contracts of autoencoders and their heads."""

from typing import Any

import jax
import jax.numpy as jnp

from diffusion_jax.networks.autoencoders.base import is_pointwise
from diffusion_jax.testing._tools import SHAPE, close, must
from diffusion_jax.types import Array


def head(plugin: Any) -> None:
    """Probabilities of levels sum to 1 for every value; `log_prob` agrees with `log_probs`."""
    key, channels = jax.random.key(0), getattr(plugin, "channels", 3)
    out = 2.0 * jax.random.normal(key, (2, 3, 3, plugin.outputs(channels)))
    image = jax.random.randint(key, (2, 3, 3, channels), 0, plugin.levels)
    every = plugin.log_probs(out, image)
    must(every.shape == (*image.shape, plugin.levels), f"log_probs has shape {every.shape}")
    must(bool(jnp.isfinite(every).all()), "the log-probability of a level is not finite")
    total = float(jnp.abs(jnp.exp(every).sum(-1) - 1.0).max())
    must(total < 1e-5, f"probabilities of levels sum to 1 +- {total:.1e}")
    of_image = jnp.take_along_axis(every, image[..., None], axis=-1)[..., 0]
    must(close(plugin.log_prob(out, image), of_image, 1e-4), "log_prob differs from log_probs")
    if plugin.sequential:  # a channel depends only on the channels before it
        last = image.at[..., -1].set((image[..., -1] + 1) % plugin.levels)
        same = close(plugin.log_probs(out, last), every, 1e-5)
        must(same, "the distribution of a channel depends on its own value")


def autoencoder(plugin: Any) -> None:
    """Latents have the declared shape; one `log_prob` per image; images are independent."""
    latent = plugin.latent_shape(SHAPE)
    x = jax.random.uniform(jax.random.key(0), (2, *SHAPE), minval=-0.9, maxval=0.9)
    params = jax.jit(lambda: plugin.init(jax.random.key(1), SHAPE))()
    encode = jax.jit(plugin.encode)
    mean, std = encode(params, x)
    must(mean.shape == (2, *latent), f"a latent has shape {mean.shape[1:]}, not {latent}")
    must((std is not None) == plugin.noisy, "`noisy` must say whether there is a deviation")
    if std is not None:
        must(bool((std > 0.0).all()), "a standard deviation is not positive")
        must(std.shape == mean.shape, "the standard deviation and the mean differ in shape")
    other, _ = encode(params, x.at[0].set(0.0))
    must(close(mean[1], other[1], 1e-4), "a latent depends on the other images in the batch")
    if is_pointwise(plugin):
        other, _ = encode(params, x.at[:, 0, 0].set(0.0))
        same = close(mean[:, 1:], other[:, 1:], 1e-4)
        must(same, "it declares pointwise, but a latent depends on other positions")

    def read(params: Any) -> tuple[Array, Array, Array | None]:
        gamma = jnp.asarray(-5.0)
        every = plugin.log_probs(params, x, mean, gamma) if plugin.discrete else None
        return plugin.log_prob(params, x, mean, gamma), plugin.decode(params, mean), every

    score, image, every = jax.jit(read)(params)
    must(score.shape == (2,) and bool(jnp.isfinite(score).all()), f"log_prob is {score}")
    must(image.shape == x.shape, f"decode returns shape {image.shape} for images {x.shape}")
    if every is not None:
        total = float(jnp.abs(jnp.exp(every).sum(-1) - 1.0).max())
        must(total < 1e-4, f"probabilities of levels sum to 1 +- {total:.1e}")
