"""A transformer of sequences `[B,1,T,C]`: signals, and texts by `autoencoder='embedding()'`.

The blocks are DiT's (adaLN-zero), positions are told by rotation. With self-conditioning (Chen
et al. 2022, "Analog bits") the network runs twice, the second time with what it predicted the
first. Unlike the published way, which hands the prediction from step to step, this is one function
of `z`: bounds and samplers need not know of it.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffusion_jax.allowed import Count, Embedding, Finite, Levels, Positive, Rate, Whole
from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.layers import patches, transformer
from diffusion_jax.networks.layers.blocks import Dtype, compute_dtype, fold_keys
from diffusion_jax.networks.layers.embed import Conditioning, image_inputs
from diffusion_jax.types import Array, Cond

_SHARE = 0.25  # of the examples in training (Gulrajani & Hashimoto 2023)


class Sequence(nn.Module):
    """See the module docstring; `make` documents the settings."""

    width: int
    depth: int
    heads: int
    ratio: float
    dropout: float
    self_conditioning: bool
    fourier: bool
    embed: int
    channels: int
    levels: int
    num_classes: int
    augment: int
    gamma_min: float
    gamma_max: float
    dtype: Dtype

    skip = True  # z is added to the output; no field, as it is always so

    @nn.compact
    def __call__(self, z: Array, gamma: Array, cond: Cond, keys: Array | None = None) -> Array:
        """The prediction at latents `z` `[B,1,T,C]`, `gamma` `[B]`, with `channels` channels."""
        if z.ndim != 4 or z.shape[1] != 1:
            raise ConfigError(f"sequence takes signals and texts [B,1,T,C], not {list(z.shape)}")
        c = Conditioning(
            self.embed, self.num_classes, self.augment, False, self.gamma_min, self.gamma_max,
            self.dtype, name="cond",
        )(gamma, cond).astype(z.dtype)  # fmt: skip
        body = _Body(
            self.width, self.depth, self.heads, self.ratio, self.dropout, self.channels,
            self.dtype, name="body",
        )  # fmt: skip
        seen = image_inputs(z, cond, self.levels, self.fourier, 0)[:, 0]
        none = jnp.zeros((*seen.shape[:2], self.channels), z.dtype)
        out = body(seen, c, none if self.self_conditioning else None, fold_keys(keys, 1))
        if self.self_conditioning:
            known = out  # in evaluation the network is one function of z, derivatives included
            if keys is not None:
                known = jax.lax.stop_gradient(out)
                own = jax.vmap(lambda k: jax.random.bernoulli(k, _SHARE))(fold_keys(keys, 0))
                known = jnp.where(own[:, None, None], known, 0.0)
            out = body(seen, c, known, fold_keys(keys, 1))
        out = out[:, None]
        return out + z if out.shape == z.shape else out


class _Body(nn.Module):
    """The transformer, `[B,T,C]` to `[B,T,channels]`."""

    width: int
    depth: int
    heads: int
    ratio: float
    dropout: float
    channels: int
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Array, c: Array, known: Array | None, keys: Array | None) -> Array:
        h = nn.Dense(self.width, kernel_init=transformer.XAVIER, dtype=self.dtype, name="in")(x)
        h, zeros = h.astype(x.dtype), transformer.ZEROS
        if known is not None:
            before = nn.Dense(self.width, use_bias=False, kernel_init=zeros, name="told")
            h = h + before(transformer.normalise(known)).astype(x.dtype)
        h, angles = patches.place(self, h, "rope", (1, x.shape[1]), self.heads)
        for i in range(self.depth):
            block = transformer.AdaptiveBlock(
                self.heads, self.ratio, self.dropout, True, "xla", False, self.dtype,
                name=f"block{i}",
            )  # fmt: skip
            h = block(h, c, angles, 0.0, fold_keys(keys, i))
        last = nn.Dense(2 * self.width, kernel_init=zeros, name="modulation_out")(c)
        h = transformer.modulate(transformer.normalise(h), *jnp.split(last, 2, -1))
        return nn.Dense(self.channels, kernel_init=zeros, name="out")(h).astype(x.dtype)


def make(
    width: Count = 128,
    depth: Count = 4,
    heads: Count = 4,
    ratio: Positive = 4.0,
    dropout: Rate = 0.0,
    self_conditioning: bool = False,
    fourier: bool = False,
    embed: Embedding = 64,
    channels: Count = 1,
    levels: Levels = 256,
    num_classes: Whole = 0,
    augment: Whole = 0,
    gamma_min: Finite = -13.3,
    gamma_max: Finite = 5.0,
    dtype: str = "float32",
) -> Sequence:
    """A transformer of sequences.

    Args:
        width: values in a token; one token for each sample or letter.
        depth: blocks.
        heads: of attention; the size of a head must be divisible by 4.
        ratio: hidden values of the MLP per token value.
        dropout: rate in the blocks.
        self_conditioning: give it its own first prediction: twice the calls, a better bound, of
            texts; of fewer than three channels (signals) normalisation leaves nothing to read.
        fourier: add Fourier features to the input, for signals of many levels.
        embed: size of the time embedding.
        channels: of the prediction.
        levels: levels of the data.
        num_classes: classes to condition on; 0 for none.
        augment: length of the augmentation vector; 0 for none.
        gamma_min: gamma at which the time embedding is 0.
        gamma_max: gamma at which it is 1.
        dtype: `"float32"` or `"bfloat16"` arithmetic.
    """
    size = transformer.check_heads("sequence", width, heads, "xla", dtype, "cpu")
    patches.check_position("sequence", "rope", size, width)
    return Sequence(
        width, depth, heads, ratio, dropout, self_conditioning, fourier, embed, channels, levels,
        num_classes, augment, gamma_min, gamma_max, compute_dtype(dtype),
    )  # fmt: skip
