"""The two halves of a convolutional autoencoder (Linen, NHWC), with GroupNorm.

As in latent diffusion (Rombach et al. 2022), the encoder has residual blocks and a strided
convolution for each halving, the decoder one block more and nearest-neighbour upsampling. There is
attention only at 8x8 positions or fewer.
"""

import math

import flax.linen as nn
import jax.numpy as jnp

from diffusion_jax.networks.layers.blocks import (
    Attention,
    Dtype,
    ResBlock,
    fold_keys,
    group_norm,
)
from diffusion_jax.networks.layers.conv import conv3x3
from diffusion_jax.types import Array

_MOST_POSITIONS = 64  # largest number of positions with attention
_START, _LOWEST, _HIGHEST = -2.0, -6.0, 1.0  # log std of the latent: initial value, and range
_MIDDLE, _HALF = 0.5 * (_LOWEST + _HIGHEST), 0.5 * (_HIGHEST - _LOWEST)


class _Stage(nn.Module):
    """Residual blocks of one width, followed by attention if the grid is small."""

    width: int
    blocks: int
    attention: bool
    dropout: float
    dtype: Dtype

    @nn.compact
    def __call__(self, h: Array, keys: Array | None) -> Array:
        for i in range(self.blocks):
            h = ResBlock(self.width, self.dropout, self.dtype, name=f"block{i}")(
                h, None, fold_keys(keys, i)
            )
        if self.attention and h.shape[1] * h.shape[2] <= _MOST_POSITIONS:
            h = Attention(dtype=self.dtype, name="attention")(h)
        return h


class Encoder(nn.Module):
    """Maps images in model space to the mean and, if `noisy`, the log std of latents.

    Attributes:
        widths: channels at each size, from that of the images down.
        blocks: residual blocks at each size.
        channels: channels of the latents.
        noisy: whether there is a log std.
        attention: whether there is attention at the smallest size, if that is small enough.
        dropout: rate in the blocks.
        dtype: arithmetic type.
    """

    widths: tuple[int, ...]
    blocks: int
    channels: int
    noisy: bool
    attention: bool
    dropout: float
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Array, keys: Array | None = None) -> tuple[Array, Array | None]:
        """`(mean, log std or None)` of images `x` `[B, H, W, C]`."""
        h = conv3x3(self.widths[0], dtype=self.dtype, name="in")(x)
        for i, width in enumerate(self.widths):
            if i:
                h = conv3x3(width, strides=(2, 2), dtype=self.dtype, name=f"down{i}")(h)
            last = i == len(self.widths) - 1
            h = _Stage(
                width, self.blocks + last, last and self.attention, self.dropout, self.dtype,
                name=f"stage{i}",
            )(h, fold_keys(keys, i))  # fmt: skip
        h = nn.swish(group_norm(h.shape[-1], self.dtype, "norm")(h)).astype(x.dtype)
        small = nn.initializers.variance_scaling(0.1, "fan_in", "normal")
        mean = conv3x3(self.channels, kernel_init=small, name="mean")(h)
        if not self.noisy:
            return mean, None
        start = nn.initializers.constant(math.atanh((_START - _MIDDLE) / _HALF))
        raw = conv3x3(self.channels, kernel_init=small, bias_init=start, name="log_std")(h)
        return mean, _MIDDLE + _HALF * jnp.tanh(raw)


class Decoder(nn.Module):
    """Maps latents to the inputs of a head, `outputs` per pixel; for the fields see `Encoder`."""

    widths: tuple[int, ...]
    blocks: int
    outputs: int
    attention: bool
    dropout: float
    dtype: Dtype

    @nn.compact
    def __call__(self, y: Array, keys: Array | None = None) -> Array:
        """`[B, H, W, outputs]` for latents `y` `[B, h, w, c]`."""
        h = conv3x3(self.widths[-1], dtype=self.dtype, name="in")(y)
        for i, width in reversed(list(enumerate(self.widths))):
            last = i == len(self.widths) - 1
            if not last:
                h = jnp.repeat(jnp.repeat(h, 2, axis=1), 2, axis=2)
                h = conv3x3(width, dtype=self.dtype, name=f"up{i}")(h)
            h = _Stage(
                width, self.blocks + 1, last and self.attention, self.dropout, self.dtype,
                name=f"stage{i}",
            )(h, fold_keys(keys, i))  # fmt: skip
        h = nn.swish(group_norm(h.shape[-1], self.dtype, "norm")(h)).astype(y.dtype)
        return conv3x3(self.outputs, name="out")(h)
