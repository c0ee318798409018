"""Inputs of the networks besides the image: gamma, labels, augmentations, Fourier features."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.layers.blocks import Dtype
from diffusion_jax.types import Array, Cond, alpha, expand, sigma


def timestep_embedding(tau: Float[Array, " b"], size: int) -> Float[Array, "b size"]:
    """Sines and cosines of `1000 tau` at `size / 2` geometric frequencies; `[B]` to `[B, size]`.

    Raises:
        ConfigError: `size` is below 4 (two frequencies).
    """
    half = size // 2
    if half < 2:
        raise ConfigError(f"a time embedding of length {size} is too short: use 4 or more")
    freqs = jnp.exp(-math.log(10000.0) / (half - 1) * jnp.arange(half))
    angles = 1000.0 * tau[:, None] * freqs
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def fourier_features(z: Float[Array, "*b c"], levels: int) -> Float[Array, "*b 5*c"]:
    """`z` with sines and cosines that have periods of two levels and of one level.

    VDM (Kingma et al. 2021, appendix C) uses 2^6 and 2^7 cycles per unit for 256 levels; that is
    V/4 and V/2 for V levels. Computed in the type of `z` (float32), because bfloat16 is too coarse.

    Args:
        z: latents, `[..., C]`.
        levels: number V of grey levels of the data.

    Returns:
        `[..., 5 C]`: `z`, all sines, all cosines (channel-major, two frequencies per channel).
    """
    freqs = 2.0 * math.pi * levels * jnp.asarray([0.25, 0.5])
    angles = (z[..., None] * freqs).reshape(*z.shape[:-1], -1)
    return jnp.concatenate([z, jnp.sin(angles), jnp.cos(angles)], axis=-1)


_LOGITS = 10.0  # logits per unit of the parameter, because Adam's steps are small


class LevelEmbedding(nn.Module):
    """Embedding of each value's level, averaged over the posterior of the level given its own `z`.

    The prior is a learned marginal. The embedding is a table, initialised to sines and cosines an
    octave apart, starting with half a period over all levels. Unlike Fourier features of `z` it is
    smooth at high noise and exact at low noise.

    Attributes:
        size: length of the embedding of one value.
        levels: number of grey levels of the data.
    """

    size: int
    levels: int

    @nn.compact
    def __call__(self, z: Array, gamma: Array) -> Array:
        """`[B,H,W,C]` and `[B]` to `[B,H,W,C size]`, in the type of `z`."""
        centres = (2.0 * jnp.arange(self.levels) + 1.0) / self.levels - 1.0

        def waves(key: Array, shape: tuple[int, int]) -> Array:
            octaves = 0.5 * math.pi * 2.0 ** jnp.arange((shape[1] + 1) // 2)
            angles = centres[:, None] * octaves
            both = jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1)
            return both.reshape(shape[0], -1)[:, : shape[1]]

        table = self.param("table", waves, (self.levels, self.size))
        marginal = self.param("marginal", nn.initializers.zeros, (self.levels,))
        g = expand(gamma, z)[..., None]
        distance = (z[..., None] - alpha(g) * centres) / sigma(g)
        weight = jax.nn.softmax(_LOGITS * marginal - 0.5 * jnp.square(distance))
        return (weight @ table).reshape(*z.shape[:-1], -1).astype(z.dtype)


def image_inputs(z: Array, cond: Cond, levels: int, fourier: bool, low: int) -> Array:
    """The input channels of a network of images.

    Args:
        z: latents, `[B, H, W, C]`.
        cond: the condition.
        levels: number of grey levels of the data.
        fourier: whether to add Fourier features.
        low: channels of the smaller image `cond["low"]` `[B, h, w, low]`; 0 for none.

    Returns:
        `z`, its Fourier features, and the smaller image enlarged to its size, as channels. For a
        video each frame has all the given frames as channels.

    Raises:
        ConfigError: the smaller image is missing.
    """
    h = fourier_features(z, levels) if fourier else z
    if not low:
        return h
    given = given_low(cond).astype(z.dtype)
    if given.ndim == 5:
        given = jnp.broadcast_to(
            as_channels(given)[:, None], (*z.shape[:-1], given.shape[1] * given.shape[-1])
        )
    elif given.shape[1:3] != z.shape[1:3]:
        given = jax.image.resize(given, (*z.shape[:3], given.shape[-1]), "nearest")
    return jnp.concatenate([h, given], axis=-1)


def given_low(cond: Cond) -> Array:
    """The smaller images, or first frames, on which a later stage of a cascade is conditioned.

    Raises:
        ConfigError: they are missing.
    """
    if "low" not in cond:
        raise ConfigError(
            "this model is a later stage of a cascade, conditioned on smaller images or first "
            "frames, and needs them in cond['low']"
        )
    return cond["low"]


def as_channels(frames: Array) -> Array:
    """Videos `[B,T,H,W,C]` as images with the channels of all frames, `[B,H,W,T C]`."""
    b, t, height, width, channels = frames.shape
    return jnp.moveaxis(frames, 1, 3).reshape(b, height, width, t * channels)


class Conditioning(nn.Module):
    """One vector from gamma, the label and the augmentation.

    Attributes:
        size: length of the time embedding; the result has `4 * size`.
        num_classes: 0 for an unconditional network. Class `num_classes` is the *learned* null
            embedding of classifier-free guidance.
        augment: length of the augmentation vector, 0 for none (the zero vector: not augmented).
        scalar: append `cond["scalar"]` (or 0) to the time embedding, as published VDM networks do.
        gamma_min: gamma at which the time embedding is 0.
        gamma_max: gamma at which it is 1. Both are settings, not the trained end points.
        dtype: arithmetic type of the two dense layers.
        low: whether it receives the noise level of a smaller image, `cond["low_gamma"]`; a missing
            one means no noise.
    """

    size: int
    num_classes: int
    augment: int
    scalar: bool
    gamma_min: float
    gamma_max: float
    dtype: Dtype
    low: bool = False

    @nn.compact
    def __call__(self, gamma: Array, cond: Cond) -> Array:
        """Conditioning vectors `[B, 4 size]` from `gamma` `[B]` and `cond`."""

        def embedding(gamma: Array) -> Array:
            tau = (gamma - self.gamma_min) / (self.gamma_max - self.gamma_min)
            return timestep_embedding(tau, self.size)

        def add(h: Array, name: str, vector: Array, **options: Any) -> Array:
            dense = nn.Dense(4 * self.size, use_bias=False, dtype=self.dtype, name=name, **options)
            return h + dense(vector)

        h = embedding(gamma)
        if self.scalar:
            h = jnp.concatenate([h, cond.get("scalar", jnp.zeros_like(gamma))[:, None]], axis=-1)
        h = nn.Dense(4 * self.size, dtype=self.dtype, name="dense0")(h)
        if self.num_classes:
            null = jnp.full(gamma.shape, self.num_classes, jnp.int32)
            label = cond.get("label", null)
            # As large as the time embedding, which would drown out the default, 1/sqrt(size).
            h += nn.Embed(
                self.num_classes + 1,
                4 * self.size,
                embedding_init=nn.initializers.normal(1.0),
                dtype=self.dtype,
                name="label",
            )(label)
        if self.augment:
            h = add(h, "augment", cond.get("augment", jnp.zeros((gamma.shape[0], self.augment))))
        if self.low:
            noise = cond.get("low_gamma", jnp.full(gamma.shape, self.gamma_min, gamma.dtype))
            h = add(h, "low_gamma", embedding(noise))
        # The layers below exist only if the model was initialised with these conditions.
        zeros = {"kernel_init": nn.initializers.zeros}
        if "latent" in cond:
            h = add(h, "latent", cond["latent"], **zeros)
        if "w" in cond:  # a student's guidance weight; at 1 it has no effect
            h = add(h, "w", cond["w"][:, None] - 1.0, **zeros)
        if "to" in cond:  # the end of a flow map's jump; at `gamma` it has no effect
            end = jnp.broadcast_to(cond["to"], gamma.shape)
            h = add(h, "to", embedding(end) - embedding(gamma), **zeros)
        if "text_pooled" in cond:
            h = add(h, "text", cond["text_pooled"], **zeros)
        if "embedding" in cond:  # of a CLIP; zeros for none
            h = add(h, "embedding", cond["embedding"], **zeros)
        h = nn.Dense(4 * self.size, dtype=self.dtype, name="dense1")(nn.swish(h))
        return nn.swish(h)
