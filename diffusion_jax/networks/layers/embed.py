"""Inputs of the networks besides the image: gamma, labels, augmentations, Fourier features."""

import math

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
        ConfigError: `size` is below 4, for two frequencies.
    """
    half = size // 2
    if half < 2:
        raise ConfigError(f"a time embedding of length {size} is too short: use 4 or more")
    freqs = jnp.exp(-math.log(10000.0) / (half - 1) * jnp.arange(half))
    angles = 1000.0 * tau[:, None] * freqs
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def fourier_features(z: Float[Array, "*b c"], levels: int) -> Float[Array, "*b 5*c"]:
    """`z` with sines and cosines whose period is two levels and one level.

    VDM (Kingma et al. 2021, appendix C) uses 2^6 and 2^7 cycles per unit for 256 levels; that is
    V/4 and V/2 for V levels. Always in the type of `z` (float32): bfloat16 would be noise.

    Args:
        z: latents, `[..., C]`.
        levels: grey levels V of the data.

    Returns:
        `[..., 5 C]`: `z`, all sines, all cosines (channel-major, two frequencies a channel).
    """
    freqs = 2.0 * math.pi * levels * jnp.asarray([0.25, 0.5])
    angles = (z[..., None] * freqs).reshape(*z.shape[:-1], -1)
    return jnp.concatenate([z, jnp.sin(angles), jnp.cos(angles)], axis=-1)


_LOGITS = 10.0  # in the unit of parameters: Adam's steps are too small for frequencies of levels


class LevelEmbedding(nn.Module):
    """What a value's own `z` says of its level: the mean of an embedding over its posterior.

    The prior is a learned marginal, the embedding a table that begins as sines and cosines, an
    octave apart, from half a period over all levels on. Unlike Fourier features of `z` it is smooth
    where noise is high and exact where it is low: the network sees neighbours denoised.

    Attributes:
        size: numbers per value.
        levels: grey levels of the data.
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
    """What a network sees of images.

    Args:
        z: latents, `[B, H, W, C]`.
        cond: the condition.
        levels: grey levels of the data.
        fourier: whether Fourier features are added.
        low: channels of the smaller image `cond["low"]` `[B, h, w, low]`; 0 for none.

    Returns:
        `z` with its Fourier features, and the smaller image enlarged to its size, as channels;
        every frame of a video has all frames that are given.

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
    """The smaller images, or first frames, that a later stage is told.

    Raises:
        ConfigError: they are missing.
    """
    if "low" not in cond:
        raise ConfigError(
            "this model is of what smaller images, or first frames, lack (a later stage of a "
            "cascade) and needs these, cond['low']"
        )
    return cond["low"]


def as_channels(frames: Array) -> Array:
    """Videos `[B,T,H,W,C]` as images whose channels are those of all frames, `[B,H,W,T C]`."""
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
        low: whether it is told the noise in a smaller image, `cond["low_gamma"]`; none if missing.
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

        h = embedding(gamma)
        if self.scalar:
            h = jnp.concatenate([h, cond.get("scalar", jnp.zeros_like(gamma))[:, None]], axis=-1)
        h = nn.Dense(4 * self.size, dtype=self.dtype, name="dense0")(h)
        if self.num_classes:
            null = jnp.full(gamma.shape, self.num_classes, jnp.int32)
            label = cond.get("label", null)
            # As large as the time embedding; the default, 1/sqrt(size), would be drowned out.
            h += nn.Embed(
                self.num_classes + 1,
                4 * self.size,
                embedding_init=nn.initializers.normal(1.0),
                dtype=self.dtype,
                name="label",
            )(label)
        if self.augment:
            vector = cond.get("augment", jnp.zeros((gamma.shape[0], self.augment)))
            h += nn.Dense(4 * self.size, use_bias=False, dtype=self.dtype, name="augment")(vector)
        if self.low:
            noise = cond.get("low_gamma", jnp.full(gamma.shape, self.gamma_min, gamma.dtype))
            h += nn.Dense(4 * self.size, use_bias=False, dtype=self.dtype, name="low_gamma")(
                embedding(noise)
            )
        if "latent" in cond:  # the layer exists only if the model was initialised with a latent
            zeros = nn.initializers.zeros
            h += nn.Dense(
                4 * self.size, use_bias=False, kernel_init=zeros, dtype=self.dtype, name="latent"
            )(cond["latent"])
        if "w" in cond:  # likewise: a student that is told its guidance weight, 1 where it is not
            zeros = nn.initializers.zeros
            h += nn.Dense(
                4 * self.size, use_bias=False, kernel_init=zeros, dtype=self.dtype, name="w"
            )(cond["w"][:, None] - 1.0)
        if "to" in cond:  # likewise: a flow map is told where its jump ends; gamma where it is not
            zeros = nn.initializers.zeros
            end = jnp.broadcast_to(cond["to"], gamma.shape)
            h += nn.Dense(
                4 * self.size, use_bias=False, kernel_init=zeros, dtype=self.dtype, name="to"
            )(embedding(end) - embedding(gamma))
        if "text_pooled" in cond:  # likewise
            h += nn.Dense(
                4 * self.size, use_bias=False, kernel_init=nn.initializers.zeros, dtype=self.dtype,
                name="text",
            )(cond["text_pooled"])  # fmt: skip
        if "embedding" in cond:  # likewise: what a CLIP sees of the image, zeros for nothing
            h += nn.Dense(
                4 * self.size, use_bias=False, kernel_init=nn.initializers.zeros, dtype=self.dtype,
                name="embedding",
            )(cond["embedding"])  # fmt: skip
        h = nn.Dense(4 * self.size, dtype=self.dtype, name="dense1")(nn.swish(h))
        return nn.swish(h)
