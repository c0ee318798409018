"""A Fourier neural operator, in which every layer filters the whole image in Fourier space.

Li et al. 2021, "Fourier neural operator for parametric partial differential equations". Products of
transforms are convolutions on a torus with kernels as large as the image: a shift of the input
shifts the output, and there are no borders. It suits data on a torus (periodic fields, `toys`), not
images with a top and a bottom.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from diffusion_jax.allowed import Count, Embedding, Finite, Levels, Rate, Whole
from diffusion_jax.networks.layers.blocks import (
    Dtype,
    compute_dtype,
    dropout,
    fold_keys,
    group_norm,
)
from diffusion_jax.networks.layers.embed import Conditioning, image_inputs
from diffusion_jax.networks.layers.patches import need_images
from diffusion_jax.types import Array, Cond


class FourierFilter(nn.Module):
    """A convolution of all channels on a torus, with a kernel as large as the image.

    Attributes:
        width: output channels.
        modes: highest frequency that passes, in periods per image; None for all.
        zeros: whether the kernel is zero at initialisation.
    """

    width: int
    modes: int | None = None
    zeros: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Filters `x` `[B,H,W,C]`; transforms are at least float32."""
        _, height, across, channels = x.shape
        most = max(height, across) if self.modes is None else self.modes
        rows = np.flatnonzero(np.abs(np.fft.fftfreq(height, 1 / height)) <= most)
        columns = np.arange(min(across // 2, most) + 1)
        shape = (2, len(rows), len(columns), channels, self.width)
        scale = nn.initializers.normal(channels**-0.5)
        kernel = self.param("kernel", nn.initializers.zeros if self.zeros else scale, shape)
        real, imag = kernel.astype(jnp.promote_types(x.dtype, jnp.float32))
        # Use products of real matrices: complex ones are slow on CPU and are split on TPU.
        matrix = jnp.concatenate(
            [jnp.concatenate([real, imag], -1), jnp.concatenate([-imag, real], -1)], -2
        )
        waves = jnp.fft.rfft2(jnp.moveaxis(x.astype(real.dtype), -1, 1), norm="ortho")
        kept = jnp.moveaxis(waves[:, :, rows[:, None], columns], (2, 3), (0, 1))
        parts = jnp.concatenate([kept.real, kept.imag], -1)  # [rows, columns, B, 2C]
        out = parts @ matrix
        mixed = jnp.moveaxis(out[..., : self.width] + 1j * out[..., self.width :], (0, 1), (2, 3))
        every = jnp.zeros((*mixed.shape[:2], height, across // 2 + 1), mixed.dtype)
        every = every.at[:, :, rows[:, None], columns].set(mixed)
        back = jnp.fft.irfft2(every, (height, across), norm="ortho")
        return jnp.moveaxis(back, 1, -1).astype(x.dtype)


class FNO(nn.Module):
    """See the module docstring; `make` documents the settings."""

    width: int
    depth: int
    modes: int | None
    dropout: float
    fourier: bool
    embed: int
    channels: int
    levels: int
    num_classes: int
    augment: int
    low: int
    gamma_min: float
    gamma_max: float
    dtype: Dtype

    skip = True  # class attribute, not a field: z is always added to the output

    @nn.compact
    def __call__(self, z: Array, gamma: Array, cond: Cond, keys: Array | None = None) -> Array:
        """The prediction at latents `z` `[B,H,W,C]`, `gamma` `[B]`; shape and type of `z`."""
        need_images("fno", z.shape)
        c = Conditioning(
            self.embed, self.num_classes, self.augment, False, self.gamma_min, self.gamma_max,
            self.dtype, self.low > 0, name="cond",
        )(gamma, cond)  # fmt: skip
        h = image_inputs(z, cond, self.levels, self.fourier, self.low)
        h = FourierFilter(self.width, name="filter_in")(h)
        for i in range(self.depth):
            modulation = nn.Dense(2 * self.width, dtype=self.dtype, name=f"cond_{i}")(c)
            scale, shift = jnp.split(modulation[:, None, None], 2, axis=-1)
            inner = group_norm(self.width, self.dtype, f"norm_{i}")(h) * (1 + scale) + shift
            inner = nn.Dense(self.width, dtype=self.dtype, name=f"dense_{i}")(nn.swish(inner))
            inner = dropout(nn.swish(inner), self.dropout, fold_keys(keys, i))
            local = nn.Dense(
                self.width, kernel_init=nn.initializers.zeros, dtype=self.dtype, name=f"local_{i}"
            )(inner)
            h += local + FourierFilter(self.width, self.modes, True, name=f"filter_{i}")(inner)
        h = nn.swish(group_norm(self.width, self.dtype, "norm_out")(h)).astype(z.dtype)
        out = FourierFilter(self.channels, zeros=True, name="filter_out")(h)
        return out + z if out.shape == z.shape else out


def make(
    width: Count = 64,
    depth: Whole = 4,
    modes: Whole | None = None,
    dropout: Rate = 0.0,
    fourier: bool = False,
    embed: Embedding = 64,
    channels: Count = 3,
    levels: Levels = 256,
    num_classes: Whole = 0,
    augment: Whole = 0,
    low: Whole = 0,
    gamma_min: Finite = -13.3,
    gamma_max: Finite = 5.0,
    dtype: str = "float32",
) -> FNO:
    """Filters on a torus, as large as the image; for videos use `stacked_frames(of=fno())`.

    Args:
        width: number of channels.
        depth: number of residual blocks.
        modes: highest frequency that filters inside the blocks pass, in periods per image: 0 for
            the mean only, None for all. The first and the last filter pass all frequencies.
        dropout: rate in the blocks.
        fourier: add Fourier features to the input.
        embed: size of the time embedding.
        channels: image channels.
        levels: number of grey levels of the data.
        num_classes: number of classes to condition on; 0 for none.
        augment: length of the augmentation vector; 0 for none.
        low: channels of the smaller image it is conditioned on; 0 for none.
        gamma_min: gamma at which the time embedding is 0.
        gamma_max: gamma at which it is 1.
        dtype: `"float32"` or `"bfloat16"` arithmetic, except in the filters.
    """
    return FNO(
        width, depth, modes, dropout, fourier, embed, channels, levels, num_classes,
        augment, low, gamma_min, gamma_max, compute_dtype(dtype),
    )  # fmt: skip
