"""A transformer of sequences `[B,1,T,C]`: signals, and texts by `autoencoder='embedding()'`.

The blocks are DiT's (adaLN-zero) with rotary position embeddings. With self-conditioning (Chen
et al. 2022, "Analog bits") the network runs twice, the second time with its first prediction as an
input. The published method passes the prediction from step to step; here it is a function of `z`
alone, so that bounds and samplers need no changes.
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

_SHARE = 0.25  # share of training examples with self-conditioning (Gulrajani & Hashimoto 2023)


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

    skip = True  # class attribute, not a field: z is always added to the output

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
        inputs = image_inputs(z, cond, self.levels, self.fourier, 0)[:, 0]
        none = jnp.zeros((*inputs.shape[:2], self.channels), z.dtype)
        out = body(inputs, c, none if self.self_conditioning else None, fold_keys(keys, 1))
        if self.self_conditioning:
            first = out  # in evaluation its derivatives with respect to z count too
            if keys is not None:
                first = jax.lax.stop_gradient(out)
                used = jax.vmap(lambda k: jax.random.bernoulli(k, _SHARE))(fold_keys(keys, 0))
                first = jnp.where(used[:, None, None], first, 0.0)
            out = body(inputs, c, first, fold_keys(keys, 1))
        out = out[:, None]
        return out + z if out.shape == z.shape else out


class _Body(nn.Module):
    """The transformer, from `[B,T,C]` to `[B,T,channels]`."""

    width: int
    depth: int
    heads: int
    ratio: float
    dropout: float
    channels: int
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Array, c: Array, first: Array | None, keys: Array | None) -> Array:
        h = nn.Dense(self.width, kernel_init=transformer.XAVIER, dtype=self.dtype, name="in")(x)
        h, zeros = h.astype(x.dtype), transformer.ZEROS
        if first is not None:
            project = nn.Dense(self.width, use_bias=False, kernel_init=zeros, name="told")
            h = h + project(transformer.normalise(first)).astype(x.dtype)
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
        width: values per token; there is one token for each sample or letter.
        depth: number of blocks.
        heads: number of attention heads; the size of a head must be divisible by 4.
        ratio: hidden values of the MLP per token value.
        dropout: rate in the blocks.
        self_conditioning: feed the network its own first prediction: twice the calls, and a better
            bound for texts. With fewer than three channels (signals) it is useless, because the
            prediction is normalised over channels.
        fourier: add Fourier features to the input, for signals with many levels.
        embed: size of the time embedding.
        channels: channels of the prediction.
        levels: number of levels of the data.
        num_classes: number of classes to condition on; 0 for none.
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
