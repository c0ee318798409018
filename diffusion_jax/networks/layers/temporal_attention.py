"""Attention between the frames of a video."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.layers.blocks import Dtype, group_norm
from diffusion_jax.types import Array


class TimeAttention(nn.Module):
    """Residual attention of each position to the same position in all frames, zero at init.

    The order of the frames enters only by a learned bias for each distance in time; without it, the
    layer would be equivariant to permutations of the frames.

    Attributes:
        heads: number of heads; must divide the channels.
        frames: number T of frames in a video.
        dtype: arithmetic type (the softmax is at least float32).
        smallest_group: smallest number of channels in a group of the norm.
    """

    heads: int
    frames: int
    dtype: Dtype = None
    smallest_group: int = 2

    @nn.compact
    def __call__(self, x: Array, stills: Array | None = None) -> Array:
        """Applies attention to `x` `[B T,H,W,C]`, in which the frames of a video are adjacent.

        Where `stills` `[B]` is true the frames are unrelated images, and attend to themselves only.
        """
        channels, t = x.shape[-1], self.frames
        if channels % self.heads:
            raise ConfigError(
                f"attention over {channels} channels cannot have heads={self.heads}: choose a "
                f"number that divides {channels}, or another width"
            )
        b, height, width = x.shape[0] // t, *x.shape[1:3]
        h = group_norm(channels, self.dtype, "norm", smallest=self.smallest_group)(x)

        def rows(name: str) -> Array:
            """`[B H W heads, T, C / heads]`, for batched matrix products."""
            a = nn.Dense(channels, dtype=self.dtype, name=name)(h)
            a = a.reshape(b, t, height * width * self.heads, -1)
            return a.swapaxes(1, 2).reshape(-1, t, channels // self.heads)

        q, k, v = rows("q"), rows("k"), rows("v")
        bias = self.param("bias", nn.initializers.zeros, (self.heads, 2 * t - 1))
        distance = jnp.arange(t)[:, None] - jnp.arange(t) + t - 1
        logits = q @ k.swapaxes(1, 2) / q.shape[-1] ** 0.5
        logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        logits = logits.reshape(b, -1, self.heads, t, t) + bias[:, distance]
        if stills is not None:
            visible = jnp.eye(t, dtype=bool) | ~stills[:, None, None]
            logits = jnp.where(visible[:, None, None], logits, -jnp.inf)
        h = jax.nn.softmax(logits).astype(v.dtype).reshape(-1, t, t) @ v
        h = h.reshape(b, -1, t, channels // self.heads).swapaxes(1, 2).reshape(x.shape)
        zeros = nn.initializers.zeros
        return x + nn.Dense(channels, kernel_init=zeros, dtype=self.dtype, name="out")(h)
