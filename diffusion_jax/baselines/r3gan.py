"""A small GAN with the recipe of R3GAN (Huang et al. 2024): relativistic loss and two penalties.

It has residual blocks without normalisation, resampling with the filter [1, 2, 1], a learned 4x4
basis, and class conditioning by projection. Differences from the paper: plain instead of grouped
3x3 convolutions; Adam's b2 is constant (theirs rises from 0.9 to 0.99); the learning rate follows
a cosine to a hundredth (theirs to a quarter); and there is no adaptive augmentation.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffusion_jax.networks.layers.conv import conv3x3
from diffusion_jax.types import Array, Params

_BASE = 4  # side of the smallest feature map
_SLOPE = 0.2
# MSRA (He) initialisation for leaky ReLU.
_init = nn.initializers.variance_scaling(2.0 / (1.0 + _SLOPE**2), "fan_in", "normal")
_init_linear = nn.initializers.variance_scaling(1.0, "fan_in", "normal")


def _act(h: Array) -> Array:
    return nn.leaky_relu(h, _SLOPE)


def sizes(side: int) -> tuple[int, ...]:
    """The sides of feature maps, 4, 8, ..., up to the first that is at least `side`."""
    return tuple(_BASE * 2**i for i in range(1 + max(math.ceil(math.log2(side / _BASE)), 0)))


def _widths(width: int | tuple[int, ...], count: int) -> tuple[int, ...]:
    return (width,) * count if isinstance(width, int) else width


def _widen(h: Array, width: int, name: str) -> Array:
    """Changes the number of channels, if needed, with a 1x1 convolution."""
    if h.shape[-1] == width:
        return h
    return nn.Conv(width, (1, 1), use_bias=False, kernel_init=_init_linear, name=name)(h)


def _blur(h: Array) -> Array:
    """The binomial filter [1, 2, 1] / 4 along both axes, with repeated edges."""
    for axis in (1, 2):
        n = h.shape[axis]
        before, after = (
            jax.lax.slice_in_dim(jnp.pad(h, [(1, 1) if a == axis else (0, 0) for a in range(4)],
                                         mode="edge"), i, i + n, axis=axis)
            for i in (0, 2)
        )  # fmt: skip
        h = 0.25 * before + 0.5 * h + 0.25 * after
    return h


def _smaller(h: Array) -> Array:
    return _blur(h)[:, ::2, ::2]


def _larger(h: Array) -> Array:
    return _blur(h.repeat(2, axis=1).repeat(2, axis=2))


class _Block(nn.Module):
    """A residual block of 1x1, 3x3 and 1x1 convolutions, initially the identity."""

    width: int
    blocks: int  # number of blocks in the network; more blocks make initial weights smaller

    @nn.compact
    def __call__(self, h: Array) -> Array:
        scale = self.blocks**-0.25
        small = nn.initializers.variance_scaling(
            scale**2 * 2.0 / (1.0 + _SLOPE**2), "fan_in", "normal"
        )
        r = _act(nn.Conv(self.width, (1, 1), use_bias=False, kernel_init=small, name="in")(h))
        r = _act(conv3x3(self.width, kernel_init=small, name="middle")(r))
        zeros = nn.initializers.zeros
        out = nn.Conv(h.shape[-1], (1, 1), use_bias=False, kernel_init=zeros, name="out")
        return h + out(r)


class Generator(nn.Module):
    """Images from noise and class.

    Attributes:
        shape: shape of an image, `[H, W, C]`.
        width: number of channels, or one number for each size, 4x4 first.
        blocks: residual blocks per size.
        num_classes: number of classes; 0 for an unconditional model.
    """

    shape: tuple[int, int, int]
    width: int | tuple[int, ...]
    blocks: int
    num_classes: int

    @nn.compact
    def __call__(self, z: Array, label: Array | None) -> Array:
        """Noise `[B, D]` and labels int32 `[B]` to images in model space, `[B, H, W, C]`."""
        height, width, channels = self.shape
        n = len(sizes(max(height, width)))
        widths = _widths(self.width, n)
        if self.num_classes:
            embed = nn.Embed(
                self.num_classes, z.shape[-1], embedding_init=nn.initializers.normal(1.0),
                name="label",
            )  # fmt: skip
            z = jnp.concatenate([z, embed(label)], axis=-1)
        basis = self.param("basis", nn.initializers.normal(1.0), (_BASE, _BASE, widths[0]))
        h = basis * nn.Dense(widths[0], use_bias=False, name="dense")(z)[:, None, None, :]
        for level in range(n):
            if level:
                h = _larger(_widen(h, widths[level], f"widen{level}"))
            for i in range(self.blocks):
                h = _Block(widths[level], n * self.blocks, name=f"block{level}_{i}")(h)
        h = nn.Conv(channels, (1, 1), kernel_init=_init, name="out")(h)
        top, left = ((h.shape[a + 1] - self.shape[a]) // 2 for a in (0, 1))
        return h[:, top : top + height, left : left + width]


class Discriminator(nn.Module):
    """Scores how real images look, given their class; attributes as for `Generator`."""

    width: int | tuple[int, ...]
    blocks: int
    num_classes: int

    @nn.compact
    def __call__(self, x: Array, label: Array | None) -> Array:
        """Images in model space `[B, H, W, C]` to scores `[B]`."""
        n = len(sizes(max(x.shape[1:3])))
        widths = _widths(self.width, n)[::-1]  # from the image down to 4x4
        missing = [_BASE * 2 ** (n - 1) - s for s in x.shape[1:3]]
        sides = [(m // 2, m - m // 2) for m in missing]
        h = jnp.pad(x, [(0, 0), *sides, (0, 0)], constant_values=-1.0)
        h = nn.Conv(widths[0], (1, 1), kernel_init=_init, name="in")(h)
        for level in range(n):
            if level:
                h = _widen(_smaller(h), widths[level], f"widen{level}")
            for i in range(self.blocks):
                h = _Block(widths[level], n * self.blocks, name=f"block{level}_{i}")(h)
        basis = self.param("basis", nn.initializers.normal(1.0), (_BASE, _BASE, widths[-1]))
        features = (basis * h).mean((1, 2))
        features = nn.Dense(widths[-1], use_bias=False, kernel_init=_init, name="dense")(features)
        if not self.num_classes:
            return nn.Dense(1, name="out")(features)[:, 0]
        embed = nn.Embed(
            self.num_classes, widths[-1], embedding_init=nn.initializers.normal(1.0), name="label"
        )(label)
        return (features * embed).sum(-1) / math.sqrt(widths[-1])


def penalty(score: Any, x: Array) -> Array:
    """`|grad_x D(x)|^2` of every example, `[B]`; `score` must treat examples independently."""
    gradient = jax.grad(lambda x: score(x).sum())(x)
    return jnp.square(gradient).sum(axis=tuple(range(1, x.ndim)))


def discriminator_loss(score: Any, real: Array, fake: Array, k: Array | float) -> Array:
    """`softplus(D(fake) - D(real)) + k/2 (R1 + R2)`, `[B]`, for pairs of images.

    Args:
        score: the discriminator with fixed classes, `x -> [B]`.
        real: data, `[B, H, W, C]`.
        fake: images of the generator, without gradient.
        k: weight of both penalties (gamma in the paper).
    """
    pair = jax.nn.softplus(score(fake) - score(real))
    return pair + 0.5 * k * (penalty(score, real) + penalty(score, fake))


def generator_loss(score: Any, real: Array, fake: Array) -> Array:
    """`softplus(D(real) - D(fake))`, `[B]`."""
    return jax.nn.softplus(score(real) - score(fake))


def parameters(generator: Generator, discriminator: Discriminator, size: int, key: Array) -> Params:
    """Initial weights `{"generator", "discriminator"}`; `size` is the length of the noise."""
    x, z = jnp.zeros((2, *generator.shape)), jnp.zeros((2, size))
    label = jnp.zeros(2, jnp.int32)
    keys = jax.random.split(key)
    return {
        "generator": generator.init(keys[0], z, label)["params"],
        "discriminator": discriminator.init(keys[1], x, label)["params"],
    }
