"""Residual block, attention block, and the small pieces they share (Linen, NHWC).

Parameters are float32; `dtype` is the arithmetic type (None for that of the inputs).
"""

import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.layers.conv import conv3x3
from diffusion_jax.networks.layers.fusion_barrier import computed_once
from diffusion_jax.networks.layers.norm import GroupNorm
from diffusion_jax.types import Array

Dtype = jnp.dtype | None


def compute_dtype(name: str) -> Dtype:
    """`"bfloat16"` as a dtype; `"float32"` as None, so that float64 inputs stay float64."""
    return None if name == "float32" else jnp.dtype(name)


def group_norm(
    channels: int, dtype: Dtype, name: str, groups: int = 32, smallest: int = 2
) -> GroupNorm:
    """GroupNorm with up to `groups` groups of at least `smallest` channels each.

    The default minimum is two, because with one channel per group the norm erases what the
    conditioning adds to that channel. The published networks with 32 channels have one.
    """
    groups = math.gcd(channels, groups)
    while groups > 1 and channels // groups < smallest:
        groups //= 2
    return GroupNorm(groups, dtype=dtype, name=name)


def fold_keys(keys: Array | None, i: int | Array) -> Array | None:
    """Folds `i` into every key of a `[B]` array of keys; None stays None."""
    return None if keys is None else jax.vmap(jax.random.fold_in, (0, None))(keys, i)


def dropout(x: Array, rate: float, keys: Array | None) -> Array:
    """Dropout with one key per example, so that splitting a batch does not change the masks.

    Args:
        x: activations, `[B, ...]`.
        rate: probability of dropping a value, in steps of 1/65536.
        keys: typed PRNG keys, `[B]`, or None for no dropout.

    Returns:
        Activations, rescaled to keep their mean.
    """
    if keys is None or rate == 0.0:
        return x
    # Two 16-bit values per word, because drawing bits takes a tenth of a small network's step.
    n, *rest = x.shape[1:]
    words = jax.vmap(lambda k: jax.random.bits(k, ((n + 1) // 2, *rest), jnp.uint32))(keys)
    halves = jnp.concatenate([words & 0xFFFF, words >> 16], axis=1)[:, :n]
    dropped = min(round(rate * 65536), 65535)
    return jnp.where(halves < dropped, jnp.zeros((), x.dtype), x / (1.0 - dropped / 65536))


def attend(q: Array, k: Array, v: Array, implementation: Literal["xla", "cudnn"] = "xla") -> Array:
    """Softmax attention, `[B, N, heads, size]`; in float64 too, where JAX's softmax is float32."""
    if q.dtype != jnp.float64:
        return jax.nn.dot_product_attention(q, k, v, implementation=implementation)
    logits = jnp.einsum("bqhc,bkhc->bhqk", q, k) / math.sqrt(q.shape[-1])
    return jnp.einsum("bhqk,bkhc->bqhc", jax.nn.softmax(logits), v)


class ResBlock(nn.Module):
    """`x + conv(dropout(swish(norm(conv(swish(norm(x))) + proj(c)))))`, second conv zero at init.

    Attributes:
        width: output channels.
        dropout: rate before the second convolution.
        dtype: arithmetic type.
        groups: largest number of groups of its two norms.
        smallest_group: smallest number of channels in a group.
    """

    width: int
    dropout: float = 0.0
    dtype: Dtype = None
    groups: int = 32
    smallest_group: int = 2

    @nn.compact
    def __call__(self, x: Array, c: Array | None, keys: Array | None = None) -> Array:
        """Applies the block to `x` `[B,H,W,C]` with conditioning `c` `[B,K]`, or None."""
        zeros = nn.initializers.zeros
        x = computed_once(x)
        groups = self.groups, self.smallest_group
        h = nn.swish(group_norm(x.shape[-1], self.dtype, "norm1", *groups)(x))
        h = conv3x3(self.width, dtype=self.dtype, name="conv1")(h)
        if c is not None:
            project = nn.Dense(
                self.width, use_bias=False, kernel_init=zeros, dtype=self.dtype, name="cond"
            )
            h = h + project(c)[:, None, None, :]
        h = nn.swish(group_norm(self.width, self.dtype, "norm2", *groups)(h))
        h = dropout(h, self.dropout, keys)
        h = conv3x3(self.width, kernel_init=zeros, dtype=self.dtype, name="conv2")(h)
        if x.shape[-1] != self.width:
            x = nn.Dense(self.width, dtype=self.dtype, name="shortcut")(x)
        return x + h


class Attention(nn.Module):
    """Residual self-attention over all positions, output projection zero at init.

    Attributes:
        heads: number of heads; must divide the channels.
        dtype: arithmetic type (the softmax is float32 at least).
        smallest_group: smallest number of channels in a group of its norm.
    """

    heads: int = 1
    dtype: Dtype = None
    smallest_group: int = 2

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Applies attention to `x` `[B,H,W,C]`."""
        b, height, width, channels = x.shape
        if channels % self.heads:
            raise ConfigError(
                f"attention over {channels} channels cannot have heads={self.heads}: choose a "
                f"number that divides {channels}, or another width"
            )
        h = group_norm(channels, self.dtype, "norm", smallest=self.smallest_group)(x)
        h = h.reshape(b, height * width, channels)
        q, k, v = (
            nn.Dense(channels, dtype=self.dtype, name=n)(h).reshape(
                b, -1, self.heads, channels // self.heads
            )
            for n in ("q", "k", "v")
        )
        h = attend(q, k, v).reshape(b, height * width, channels)
        h = nn.Dense(channels, kernel_init=nn.initializers.zeros, dtype=self.dtype, name="out")(h)
        return x + h.reshape(x.shape)
