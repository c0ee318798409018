"""The unCLIP prior (Ramesh et al. 2022): a transformer that predicts a CLIP image embedding.

The sequence is [tokens of the text, the pooled text, time and class, the noisy vector, a learned
query], and the prediction is read at the query. The paper's attention is causal; here it is not,
unless `causal` is set. Data of any shape are flattened to one vector.
"""

import math

import flax.linen as nn
import jax.numpy as jnp

from diffusion_jax.allowed import Count, Embedding, Finite, Levels, Positive, Rate, Whole
from diffusion_jax.errors import SpecError
from diffusion_jax.networks.layers.blocks import Dtype, compute_dtype, dropout, fold_keys
from diffusion_jax.networks.layers.embed import Conditioning, image_inputs
from diffusion_jax.networks.layers.text import attend, read
from diffusion_jax.networks.text_encoders.base import TextEncoder
from diffusion_jax.types import Array, Cond


class Prior(nn.Module):
    """See the module docstring; `make` documents the settings."""

    width: int
    depth: int
    heads: int
    causal: bool
    ratio: float
    dropout: float
    fourier: bool
    embed: int
    channels: int
    levels: int
    num_classes: int
    augment: int
    gamma_min: float
    gamma_max: float
    dtype: Dtype
    text: TextEncoder | None = None

    skip = True  # class attribute, not a field: z is always added to the output

    @nn.compact
    def __call__(self, z: Array, gamma: Array, cond: Cond, keys: Array | None = None) -> Array:
        """The prediction at latents `z` `[B, ..., C]`, `gamma` `[B]`; shape and type of `z`."""
        batch = z.shape[0]
        # An embedding among the conditions enters by `Conditioning`, together with the time.
        text, _ = read(self.text, {k: v for k, v in cond.items() if k != "embedding"}, batch)
        c = Conditioning(
            self.embed, self.num_classes, self.augment, False, self.gamma_min, self.gamma_max,
            self.dtype, name="cond",
        )(gamma, cond)  # fmt: skip
        inputs = image_inputs(z, cond, self.levels, self.fourier, 0).reshape(batch, 1, -1)
        query = self.param("query", nn.initializers.normal(1.0), (self.width,))
        h = [self._dense("time", c[:, None]), self._dense("in", inputs),
             jnp.broadcast_to(query, (batch, 1, self.width))]  # fmt: skip
        bias = jnp.zeros((batch, len(h)), jnp.float32)
        if text is not None:
            tokens = self._dense("text_in", text.tokens)
            h = [tokens, self._dense("pooled", text.pooled[:, None]), *h]
            bias = jnp.concatenate([text.bias, jnp.zeros_like(bias[:, :1]), bias], axis=1)
        h = jnp.concatenate([part.astype(z.dtype) for part in h], axis=1)
        n = h.shape[1]
        h = h + self.param("position", nn.initializers.normal(0.02), (n, self.width))
        bias = bias[:, None]
        if self.causal:
            # Every token, also padding, attends to itself, so that the softmax is finite.
            diagonal = jnp.eye(n, dtype=bool)
            bias = jnp.where(diagonal, 0.0, jnp.where(jnp.tri(n, dtype=bool), bias, -jnp.inf))
        for i in range(self.depth):
            h = self._block(h, bias, fold_keys(keys, i), i)
        zeros, shape = nn.initializers.zeros, (*z.shape[1:-1], self.channels)
        last = nn.LayerNorm(name="norm")(h[:, -1]).astype(z.dtype)
        out = nn.Dense(math.prod(shape), kernel_init=zeros, name="out")(last)
        out = out.reshape(-1, *shape)
        return out + z if out.shape == z.shape else out

    def _dense(self, name: str, x: Array, size: int = 0) -> Array:
        return nn.Dense(size or self.width, dtype=self.dtype, name=name)(x)

    def _block(self, h: Array, bias: Array, keys: Array | None, i: int) -> Array:
        n = nn.LayerNorm(name=f"norm{i}_0")(h)
        q, k, v = jnp.split(self._dense(f"qkv{i}", n, 3 * self.width), 3, axis=-1)
        update = self._dense(f"attended{i}", attend(q, k, v, bias, self.heads))
        h = h + dropout(update, self.dropout, fold_keys(keys, 0)).astype(h.dtype)
        n = nn.LayerNorm(name=f"norm{i}_1")(h)
        inner = nn.gelu(self._dense(f"hidden{i}", n, max(1, int(self.ratio * self.width))))
        update = self._dense(f"mlp{i}", dropout(inner, self.dropout, fold_keys(keys, 1)))
        return h + update.astype(h.dtype)


def make(
    width: Count = 128,
    depth: Count = 4,
    heads: Count = 4,
    causal: bool = False,
    ratio: Positive = 4.0,
    dropout: Rate = 0.0,
    fourier: bool = False,
    embed: Embedding = 32,
    channels: Count = 64,
    levels: Levels = 64,
    num_classes: Whole = 0,
    augment: Whole = 0,
    gamma_min: Finite = -10.5,
    gamma_max: Finite = 5.0,
    dtype: str = "float32",
    text: TextEncoder | None = None,
) -> Prior:
    """A transformer that predicts one vector.

    Args:
        width: values per token.
        depth: number of blocks.
        heads: number of attention heads; must divide the width.
        causal: whether tokens attend only to earlier ones, as published.
        ratio: hidden values of the MLP per token value.
        dropout: rate in the blocks.
        fourier: add Fourier features to the input.
        embed: size of the time embedding.
        channels: channels of the prediction.
        levels: number of levels of the data.
        num_classes: number of classes to condition on; 0 for none.
        augment: length of the augmentation vector; 0 for none.
        gamma_min: gamma at which the time embedding is 0.
        gamma_max: gamma at which it is 1.
        dtype: `"float32"` or `"bfloat16"` arithmetic.
        text: encoder of captions, or None; with it the sequence begins with the text.

    Raises:
        SpecError: the heads do not divide the width.
    """
    if width % heads:
        raise SpecError(f"prior: width={width} is not divisible by heads={heads}")
    return Prior(
        width, depth, heads, causal, ratio, dropout, fourier, embed, channels, levels, num_classes,
        augment, gamma_min, gamma_max, compute_dtype(dtype), text,
    )  # fmt: skip
