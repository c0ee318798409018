"""Inception-v3 for Frechet distances: the TensorFlow network of 2015-12-05, up to pool 3.

Szegedy et al. 2016, "Rethinking the Inception architecture". It differs from the classifier in the
paper and in common libraries: average pools exclude padding from the mean, the last block's pool
branch takes the maximum, and there are 1,008 classes (not computed here). Layers have the names of
the published PyTorch weights, so that a state dict can be loaded by name.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffusion_jax.types import Array

SIZE, FEATURES = 299, 2048
_EPSILON = 1e-3


class Conv(nn.Module):
    """Convolution without bias, batch norm with stored moments, ReLU.

    Attributes:
        features: output channels.
        kernel: `(height, width)`.
        stride: stride in both directions.
        padding: `"SAME"` or `"VALID"`.
    """

    features: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: str = "SAME"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[B, H, W, C]` to `[B, H', W', features]`."""
        x = nn.Conv(self.features, self.kernel, self.stride, self.padding, use_bias=False,
                    name="conv")(x)  # fmt: skip
        norm = nn.BatchNorm(use_running_average=True, epsilon=_EPSILON, name="bn")
        return nn.relu(norm(x))


def _average(x: Array) -> Array:
    """3x3 means with stride 1, excluding padding."""
    return nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)


def _largest(x: Array, stride: int = 1) -> Array:
    return nn.max_pool(x, (3, 3), (stride, stride), "SAME" if stride == 1 else "VALID")


class BlockA(nn.Module):
    """Mixed_5b to 5d, 35 x 35.

    Attributes:
        pool: channels of the pool branch.
    """

    pool: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[B, 35, 35, C]` to `[B, 35, 35, 224 + pool]`."""
        five = Conv(48, name="branch5x5_1")(x)
        three = Conv(64, name="branch3x3dbl_1")(x)
        three = Conv(96, (3, 3), name="branch3x3dbl_2")(three)
        return jnp.concatenate([
            Conv(64, name="branch1x1")(x),
            Conv(64, (5, 5), name="branch5x5_2")(five),
            Conv(96, (3, 3), name="branch3x3dbl_3")(three),
            Conv(self.pool, name="branch_pool")(_average(x)),
        ], -1)  # fmt: skip


class BlockB(nn.Module):
    """Mixed_6a, 35 x 35 to 17 x 17."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[B, 35, 35, 288]` to `[B, 17, 17, 768]`."""
        three = Conv(64, name="branch3x3dbl_1")(x)
        three = Conv(96, (3, 3), name="branch3x3dbl_2")(three)
        return jnp.concatenate([
            Conv(384, (3, 3), 2, "VALID", name="branch3x3")(x),
            Conv(96, (3, 3), 2, "VALID", name="branch3x3dbl_3")(three),
            _largest(x, 2),
        ], -1)  # fmt: skip


class BlockC(nn.Module):
    """Mixed_6b to 6e, 17 x 17.

    Attributes:
        inner: channels of the factorised 7x7 branches.
    """

    inner: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[B, 17, 17, 768]` to `[B, 17, 17, 768]`."""
        c, row, column = self.inner, (1, 7), (7, 1)
        seven = Conv(c, name="branch7x7_1")(x)
        seven = Conv(c, row, name="branch7x7_2")(seven)
        double = Conv(c, name="branch7x7dbl_1")(x)
        double = Conv(c, column, name="branch7x7dbl_2")(double)
        double = Conv(c, row, name="branch7x7dbl_3")(double)
        double = Conv(c, column, name="branch7x7dbl_4")(double)
        return jnp.concatenate([
            Conv(192, name="branch1x1")(x),
            Conv(192, column, name="branch7x7_3")(seven),
            Conv(192, row, name="branch7x7dbl_5")(double),
            Conv(192, name="branch_pool")(_average(x)),
        ], -1)  # fmt: skip


class BlockD(nn.Module):
    """Mixed_7a, 17 x 17 to 8 x 8."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[B, 17, 17, 768]` to `[B, 8, 8, 1280]`."""
        three = Conv(192, name="branch3x3_1")(x)
        seven = Conv(192, name="branch7x7x3_1")(x)
        seven = Conv(192, (1, 7), name="branch7x7x3_2")(seven)
        seven = Conv(192, (7, 1), name="branch7x7x3_3")(seven)
        return jnp.concatenate([
            Conv(320, (3, 3), 2, "VALID", name="branch3x3_2")(three),
            Conv(192, (3, 3), 2, "VALID", name="branch7x7x3_4")(seven),
            _largest(x, 2),
        ], -1)  # fmt: skip


class BlockE(nn.Module):
    """Mixed_7b and 7c, 8 x 8.

    Attributes:
        largest: whether the pool branch takes the maximum (7c) or the mean (7b).
    """

    largest: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[B, 8, 8, C]` to `[B, 8, 8, 2048]`."""
        three = Conv(384, name="branch3x3_1")(x)
        double = Conv(448, name="branch3x3dbl_1")(x)
        double = Conv(384, (3, 3), name="branch3x3dbl_2")(double)
        return jnp.concatenate([
            Conv(320, name="branch1x1")(x),
            Conv(384, (1, 3), name="branch3x3_2a")(three),
            Conv(384, (3, 1), name="branch3x3_2b")(three),
            Conv(384, (1, 3), name="branch3x3dbl_3a")(double),
            Conv(384, (3, 1), name="branch3x3dbl_3b")(double),
            Conv(192, name="branch_pool")(_largest(x) if self.largest else _average(x)),
        ], -1)  # fmt: skip


class Inception(nn.Module):
    """Images in [-1, 1] at 299 x 299 to 2,048 features."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[B, 299, 299, 3]` to `[B, 2048]`: the mean over the last 8 x 8."""
        x = Conv(32, (3, 3), 2, "VALID", name="Conv2d_1a_3x3")(x)
        x = Conv(32, (3, 3), 1, "VALID", name="Conv2d_2a_3x3")(x)
        x = Conv(64, (3, 3), name="Conv2d_2b_3x3")(x)
        x = _largest(x, 2)
        x = Conv(80, name="Conv2d_3b_1x1")(x)
        x = Conv(192, (3, 3), 1, "VALID", name="Conv2d_4a_3x3")(x)
        x = _largest(x, 2)
        for letter, pool in zip("bcd", (32, 64, 64), strict=True):
            x = BlockA(pool, name=f"Mixed_5{letter}")(x)
        x = BlockB(name="Mixed_6a")(x)
        for letter, inner in zip("bcde", (128, 160, 160, 192), strict=True):
            x = BlockC(inner, name=f"Mixed_6{letter}")(x)
        x = BlockD(name="Mixed_7a")(x)
        for letter, largest in zip("bc", (False, True), strict=True):
            x = BlockE(largest, name=f"Mixed_7{letter}")(x)
        return x.mean((1, 2))


def prepare(images: Array, levels: int) -> Array:
    """Integers `[B, H, W, 1 or 3]` to float32 `[B, 299, 299, 3]` in [-1, 1].

    Resizes bilinearly between pixel centres, without antialiasing, like the published PyTorch
    ports.
    """
    x = images.astype(jnp.float32) / (levels - 1)
    x = jax.image.resize(x, (len(x), SIZE, SIZE, x.shape[-1]), "bilinear", antialias=False)
    return 2.0 * jnp.broadcast_to(x, (*x.shape[:3], 3)) - 1.0
