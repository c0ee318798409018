"""DiffEnc's encoder network y(x, gamma): a small U-Net with max-pooling (Nielsen et al. 2024).

Unlike the score networks it has no Fourier features and does not add its input; its last
convolution is zero at initialisation, and its output passes through tanh.
"""

import itertools

import flax.linen as nn
import jax.numpy as jnp

from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.layers.blocks import Attention, ResBlock, fold_keys, group_norm
from diffusion_jax.networks.layers.conv import conv3x3
from diffusion_jax.networks.layers.embed import Conditioning
from diffusion_jax.networks.layers.patches import need_images
from diffusion_jax.types import Array, Cond

# Number of groups in the two middle residual blocks, in which the published networks differ.
KINDS = {"unet": 16, "unet_mult_res": 32}

_CONDITIONS = ("label", "augment", "scalar")  # all others are for the score network


def layout(kind: str, blocks: int, height: int) -> tuple[int, int]:
    """`(resolutions, residual blocks per resolution)` of the published networks.

    Args:
        kind: one of `KINDS`.
        blocks: residual blocks on the way down.
        height: image height.

    Returns:
        For `"unet"`, one block at each of `blocks` resolutions; `"unet_mult_res"` stops halving at
        8 pixels or an odd size and divides its blocks among the resolutions.
    """
    if kind == "unet":
        return blocks, 1
    for level in range(1, blocks + 1):
        size = height / 2**level
        if size % 2 == 1 or size <= 8:
            return level, blocks // level
    return blocks, 1


def _halve(h: Array) -> Array:
    """Max-pooling by two, as a plain maximum, which has derivatives of every kind and precision."""
    b, height, width, channels = h.shape
    return h.reshape(b, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))


class EncoderUNet(nn.Module):
    """See the module docstring and `encoders.diffenc.make`."""

    kind: str
    blocks: int
    width: int
    dropout: float
    scalar: bool
    smallest_group: int
    channels: int
    num_classes: int
    augment: int
    gamma_min: float
    gamma_max: float

    @nn.compact
    def __call__(self, x: Array, gamma: Array, cond: Cond, keys: Array | None = None) -> Array:
        """The output y in (-1, 1), shape of `x` `[B,H,W,C]`, at `gamma` `[B]`."""
        need_images("the encoder", x.shape)
        levels, repeat = layout(self.kind, self.blocks, x.shape[1])
        if x.shape[1] % 2**levels or x.shape[2] % 2**levels:
            raise ConfigError(
                f"encoder {self.kind} with blocks={self.blocks}: {x.shape[1]}x{x.shape[2]} images "
                f"cannot be halved {levels} times"
            )
        c = Conditioning(
            self.width, self.num_classes, self.augment, self.scalar, self.gamma_min,
            self.gamma_max, None, name="cond",
        )(gamma, {k: cond[k] for k in _CONDITIONS if k in cond})  # fmt: skip
        numbers = itertools.count(1)  # number the blocks' dropout keys

        def block(h: Array, width: int, name: str, groups: int = 32) -> Array:
            module = ResBlock(
                width, self.dropout, groups=groups, smallest_group=self.smallest_group, name=name
            )
            return module(h, c, fold_keys(keys, next(numbers)))

        h = conv3x3(self.width, name="conv_in")(x)
        skips = []
        for level in range(levels):
            for i in range(repeat):
                h = block(h, self.width * 2**level, f"down{level}_{i}")
            skips.append(h)
            h = _halve(h)
        h = block(h, h.shape[-1], "mid_0", KINDS[self.kind])
        h = Attention(smallest_group=self.smallest_group, name="mid_attn")(h)
        h = block(h, h.shape[-1], "mid_1", KINDS[self.kind])
        for level in reversed(range(levels)):
            width = self.width * 2**level
            h = nn.ConvTranspose(width, (2, 2), (2, 2), name=f"grow{level}")(h)
            h = jnp.concatenate([h, skips.pop()], axis=-1)
            for i in range(repeat):
                h = block(h, width, f"up{level}_{i}")
        h = nn.swish(group_norm(self.width, None, "norm_out", 16, self.smallest_group)(h))
        zeros = nn.initializers.zeros
        return jnp.tanh(conv3x3(self.channels, kernel_init=zeros, name="conv_out")(h))
