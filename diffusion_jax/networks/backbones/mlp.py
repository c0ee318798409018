"""A residual MLP over all values of an example, for small data and data other than images.

It compiles in a second and takes latents of any shape `[B, ..., C]`.
"""

import math

import flax.linen as nn

from diffusion_jax.allowed import Count, Embedding, Finite, Levels, Rate, Whole
from diffusion_jax.networks.layers.blocks import Dtype, compute_dtype, dropout, fold_keys
from diffusion_jax.networks.layers.embed import Conditioning, image_inputs
from diffusion_jax.types import Array, Cond


class MLP(nn.Module):
    """See the module docstring; `make` documents the settings."""

    width: int
    depth: int
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
        """The prediction at latents `z` `[B, ..., C]`, `gamma` `[B]`; shape and type of `z`."""
        c = Conditioning(
            self.embed, self.num_classes, self.augment, False, self.gamma_min, self.gamma_max,
            self.dtype, self.low > 0, name="cond",
        )(gamma, cond)  # fmt: skip
        zeros = nn.initializers.zeros
        h = image_inputs(z, cond, self.levels, self.fourier, self.low).reshape(z.shape[0], -1)
        h = nn.Dense(self.width, dtype=self.dtype, name="in")(h)
        for i in range(self.depth):
            shift = nn.Dense(self.width, use_bias=False, dtype=self.dtype, name=f"cond_{i}")(c)
            inner = nn.Dense(self.width, dtype=self.dtype, name=f"dense_{i}")(nn.swish(h))
            inner = dropout(nn.swish(inner + shift), self.dropout, fold_keys(keys, i))
            h += nn.Dense(self.width, kernel_init=zeros, dtype=self.dtype, name=f"out_{i}")(inner)
        shape = (*z.shape[1:-1], self.channels)
        out = nn.Dense(math.prod(shape), kernel_init=zeros, name="out")(nn.swish(h).astype(z.dtype))
        out = out.reshape(-1, *shape)
        return out + z if out.shape == z.shape else out


def make(
    width: Count = 256,
    depth: Whole = 3,
    dropout: Rate = 0.0,
    fourier: bool = False,
    embed: Embedding = 32,
    channels: Count = 3,
    levels: Levels = 256,
    num_classes: Whole = 0,
    augment: Whole = 0,
    low: Whole = 0,
    gamma_min: Finite = -13.3,
    gamma_max: Finite = 5.0,
    dtype: str = "float32",
) -> MLP:
    """An MLP, which ignores the positions of pixels and grows with the size of the image.

    Args:
        width: number of hidden values.
        depth: number of residual blocks of two dense layers.
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
        dtype: `"float32"` or `"bfloat16"` arithmetic.
    """
    return MLP(
        width, depth, dropout, fourier, embed, channels, levels, num_classes, augment, low,
        gamma_min, gamma_max, compute_dtype(dtype),
    )  # fmt: skip
