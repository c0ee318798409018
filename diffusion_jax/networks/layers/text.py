"""Text in networks: an encoder of tokens, and attention to them.

Padding is masked everywhere, so its length does not matter. Each attention has a learned sink
besides the tokens, to which queries can attend if there is no text at all.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffusion_jax.errors import SpecError
from diffusion_jax.networks.layers.blocks import Dtype, group_norm
from diffusion_jax.networks.layers.patches import place
from diffusion_jax.networks.text_encoders.base import TextEncoder, frozen_width, pooled_at_end
from diffusion_jax.types import Array, Cond

_EMBEDDING_TOKENS = 4  # tokens for a CLIP embedding (Ramesh et al. 2022, section 2.1)


class TextContext(NamedTuple):
    """An encoded text, as input of attention.

    Attributes:
        tokens: vectors of the tokens, `[B, L, width]`.
        bias: bias of the attention logits, `[B, L]`: log of a token's weight, -inf for padding.
        pooled: `[B, width]`, the mean of the tokens, or the last one; a learned vector for an empty
            text.
    """

    tokens: Array
    bias: Array
    pooled: Array


def attend(q: Array, k: Array, v: Array, bias: Array, heads: int) -> Array:
    """Attention `[B, N, C]` with `bias` `[B, N or 1, M]`, finite for some key of each query."""
    q, k, v = (a.reshape(*a.shape[:2], heads, -1) for a in (q, k, v))
    logits = jnp.einsum("bqhc,bkhc->bhqk", q, k) / q.shape[-1] ** 0.5
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32)) + bias[:, None]
    out = jnp.einsum("bhqk,bkhc->bqhc", jax.nn.softmax(logits).astype(v.dtype), v)
    return out.reshape(*out.shape[:2], -1)


class TextTokens(nn.Module):
    """A small transformer from token numbers, or states of another network, to a `TextContext`.

    Attributes:
        vocabulary: number of token numbers.
        width: values per token.
        depth: number of blocks.
        heads: number of attention heads.
        at_end: whether the last token represents the text, instead of the mean of all.
    """

    vocabulary: int
    width: int
    depth: int
    heads: int
    at_end: bool = False

    @nn.compact
    def __call__(self, ids: Array, weight: Array | None = None) -> TextContext:
        """Encodes `ids` int32 `[B, L]`, or states `[B, L, W]`; all zeros mean padding.

        `weight` `[B, L]` is 1 if None.
        """
        small = nn.initializers.normal(0.02)
        if ids.ndim == 2:
            present = ids > 0
            h = nn.Embed(self.vocabulary, self.width, name="embed")(ids)
        else:
            present = (ids != 0).any(-1)
            h = nn.Dense(self.width, name="project")(ids.astype(jnp.float32))
        h = h + self.param("position", small, (ids.shape[1], self.width))
        # Padding tokens attend to real tokens and to themselves, so that their softmax is finite.
        visible = present[:, None] | jnp.eye(ids.shape[1], dtype=bool)
        bias = jnp.where(visible, 0.0, -jnp.inf)
        for i in range(self.depth):
            n = nn.LayerNorm(name=f"norm{i}_0")(h)
            q, k, v = jnp.split(nn.Dense(3 * self.width, name=f"qkv{i}")(n), 3, axis=-1)
            h = h + nn.Dense(self.width, name=f"out{i}")(attend(q, k, v, bias, self.heads))
            n = nn.gelu(nn.Dense(4 * self.width, name=f"hidden{i}")(
                nn.LayerNorm(name=f"norm{i}_1")(h)))  # fmt: skip
            h = h + nn.Dense(self.width, name=f"mlp{i}")(n)
        h = jnp.where(present[..., None], nn.LayerNorm(name="norm")(h), 0.0)
        none = self.param("none", small, (self.width,))
        count = present.sum(1, keepdims=True)
        if self.at_end:
            last = (present * jnp.arange(ids.shape[1])).argmax(1)
            pooled = jnp.take_along_axis(h, last[:, None, None], axis=1)[:, 0]
        else:
            pooled = h.sum(1) / jnp.maximum(count, 1)
        pooled = jnp.where(count > 0, pooled, none)
        weight = jnp.ones_like(h[..., 0]) if weight is None else weight
        return TextContext(h, jnp.where(present, jnp.log(weight), -jnp.inf), pooled)


class CrossAttention(nn.Module):
    """Attention of positions to a text; the output projection is zero at init.

    Attributes:
        heads: number of heads; must divide the channels.
        dtype: arithmetic type (the softmax is at least float32).
    """

    heads: int
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Array, tokens: Array, bias: Array) -> Array:
        """The update of positions `x` `[B, N, C]`, given `tokens` and `bias` of the context."""
        width, (b, _, size) = x.shape[-1], tokens.shape
        sink = self.param("sink", nn.initializers.normal(1.0), (size,))
        keys = jnp.concatenate([jnp.broadcast_to(sink, (b, 1, size)), tokens], axis=1)
        bias = jnp.concatenate([jnp.zeros((b, 1), bias.dtype), bias], axis=1)[:, None]
        q = nn.Dense(width, dtype=self.dtype, name="q")(x)
        k, v = (nn.Dense(width, dtype=self.dtype, name=n)(keys) for n in ("k", "v"))
        zeros = nn.initializers.zeros
        h = attend(q, k, v, bias, self.heads)
        return nn.Dense(width, kernel_init=zeros, dtype=self.dtype, name="out")(h)


class TextAttention(nn.Module):
    """Residual `CrossAttention` of all pixels, after a norm.

    Attributes:
        heads: see `CrossAttention`.
        dtype: see `CrossAttention`.
        position: position embedding of the pixels, one of `patches.POSITIONS`.
        smallest_group: smallest number of channels in a group of the norm.
    """

    heads: int
    dtype: Dtype
    position: str = "none"
    smallest_group: int = 2

    @nn.compact
    def __call__(self, x: Array, context: TextContext) -> Array:
        """Attention of `x` `[B, H, W, C]` to the text."""
        h = group_norm(x.shape[-1], self.dtype, "norm", smallest=self.smallest_group)(x)
        h = h.reshape(x.shape[0], -1, x.shape[-1])
        h = place(self, h, self.position, (x.shape[1], x.shape[2]), self.heads)[0]
        h = CrossAttention(self.heads, self.dtype, name="text")(h, context.tokens, context.bias)
        return x + h.reshape(x.shape)


def _with_embedding(context: TextContext, embedding: Array) -> TextContext:
    """The text with further tokens for the image's CLIP embedding; masked where that is zeros."""
    (b, width), n = context.pooled.shape, _EMBEDDING_TOKENS
    added = nn.Dense(n * width, use_bias=False, name="embedding")(embedding)
    added = added.reshape(b, n, width).astype(context.tokens.dtype)
    bias = jnp.where(embedding[:, -1:] > 0, jnp.zeros((b, n)), -jnp.inf)
    tokens = jnp.concatenate([context.tokens, added], axis=1)
    return context._replace(tokens=tokens, bias=jnp.concatenate([context.bias, bias], axis=1))


def read(encoder: TextEncoder | None, cond: Cond, batch: int) -> tuple[TextContext | None, Cond]:
    """Encodes the text of a condition; to be called in a module's `__call__`.

    Args:
        encoder: the text encoder; None for a network that takes no text.
        cond: the condition, with `"text"` int32 `[B, L]` (if missing, the null text), and
            optionally `"text_weight"` `[B, L]` and `"embedding"` `[B, D + 1]`.
        batch: number of examples.

    Returns:
        The context, and the condition with its pooled vector for `Conditioning`.
    """
    if encoder is None:
        return None, cond
    if encoder.width % encoder.heads:
        raise SpecError(f"text: width={encoder.width} is not divisible by heads={encoder.heads}")
    states = frozen_width(encoder)
    none = (jnp.zeros((batch, encoder.length, states), jnp.float16) if states else
            jnp.zeros((batch, encoder.length), jnp.int32))  # fmt: skip
    ids = cond.get("text", none)
    reader = TextTokens(
        encoder.vocabulary, encoder.width, encoder.depth, encoder.heads, pooled_at_end(encoder),
        name="text",
    )  # fmt: skip
    context = reader(ids, cond.get("text_weight"))
    if "embedding" in cond:  # its weights exist only if the model was initialised with one
        context = _with_embedding(context, cond["embedding"])
    return context, {**cond, "text_pooled": context.pooled}
