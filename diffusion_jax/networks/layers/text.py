"""What networks make of a text: its tokens, and attention to them.

Padding is masked everywhere: a longer padding changes nothing. Each attention has a learned sink
beside the tokens, so that queries have somewhere to look where there is no text at all.
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

_MORE = 4  # tokens of an embedding (Ramesh et al. 2022, section 2.1)


class TextContext(NamedTuple):
    """A text as attention sees it.

    Attributes:
        tokens: `[B, L, width]`.
        bias: `[B, L]`, what is added to the logits: log of a token's weight, -inf for padding.
        pooled: `[B, width]`, the mean of the tokens, or the last; a learned vector where there is
            no text.
    """

    tokens: Array
    bias: Array
    pooled: Array


def attend(q: Array, k: Array, v: Array, bias: Array, heads: int) -> Array:
    """Attention `[B, N, C]` with `bias` `[B, N or 1, M]`; some key of each query is not -inf."""
    q, k, v = (a.reshape(*a.shape[:2], heads, -1) for a in (q, k, v))
    logits = jnp.einsum("bqhc,bkhc->bhqk", q, k) / q.shape[-1] ** 0.5
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32)) + bias[:, None]
    out = jnp.einsum("bhqk,bkhc->bqhc", jax.nn.softmax(logits).astype(v.dtype), v)
    return out.reshape(*out.shape[:2], -1)


class TextTokens(nn.Module):
    """Token numbers, or states of another network, to a `TextContext`.

    By embeddings (of states a projection), positions, and blocks of a transformer.

    Attributes:
        vocabulary: how many numbers there are.
        width: values in a token.
        depth: blocks.
        heads: of attention.
        at_end: whether the last token stands for the text, and not the mean of all.
    """

    vocabulary: int
    width: int
    depth: int
    heads: int
    at_end: bool = False

    @nn.compact
    def __call__(self, ids: Array, weight: Array | None = None) -> TextContext:
        """Reads `ids` int32 `[B, L]`, or states `[B, L, W]`; `weight` `[B, L]` is 1 if None.

        Padding is 0, all of it.
        """
        small = nn.initializers.normal(0.02)
        if ids.ndim == 2:
            there = ids > 0
            h = nn.Embed(self.vocabulary, self.width, name="embed")(ids)
        else:
            there = (ids != 0).any(-1)
            h = nn.Dense(self.width, name="project")(ids.astype(jnp.float32))
        h = h + self.param("position", small, (ids.shape[1], self.width))
        # Padding sees itself, which nobody else does: its softmax is finite.
        seen = there[:, None] | jnp.eye(ids.shape[1], dtype=bool)
        bias = jnp.where(seen, 0.0, -jnp.inf)
        for i in range(self.depth):
            n = nn.LayerNorm(name=f"norm{i}_0")(h)
            q, k, v = jnp.split(nn.Dense(3 * self.width, name=f"qkv{i}")(n), 3, axis=-1)
            h = h + nn.Dense(self.width, name=f"out{i}")(attend(q, k, v, bias, self.heads))
            n = nn.gelu(nn.Dense(4 * self.width, name=f"hidden{i}")(
                nn.LayerNorm(name=f"norm{i}_1")(h)))  # fmt: skip
            h = h + nn.Dense(self.width, name=f"mlp{i}")(n)
        h = jnp.where(there[..., None], nn.LayerNorm(name="norm")(h), 0.0)
        none = self.param("none", small, (self.width,))
        count = there.sum(1, keepdims=True)
        if self.at_end:
            last = (there * jnp.arange(ids.shape[1])).argmax(1)
            pooled = jnp.take_along_axis(h, last[:, None, None], axis=1)[:, 0]
        else:
            pooled = h.sum(1) / jnp.maximum(count, 1)
        pooled = jnp.where(count > 0, pooled, none)
        weight = jnp.ones_like(h[..., 0]) if weight is None else weight
        return TextContext(h, jnp.where(there, jnp.log(weight), -jnp.inf), pooled)


class CrossAttention(nn.Module):
    """What positions learn from a text; the output projection is zero at init.

    Attributes:
        heads: of attention; they divide the channels.
        dtype: arithmetic type (the softmax is float32 at least).
    """

    heads: int
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Array, tokens: Array, bias: Array) -> Array:
        """What to add to positions `x` `[B, N, C]`, given `tokens` and `bias` of the context."""
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
    """`CrossAttention` of all pixels, with a norm before it and the residual after it.

    Attributes:
        heads: see `CrossAttention`.
        dtype: see `CrossAttention`.
        position: how pixels tell the text where they are, one of `patches.POSITIONS`.
        smallest_group: fewest channels in a group of the norm.
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
    """The text with further tokens, of what a CLIP sees of the image; masked where it is zeros."""
    b, width = context.pooled.shape
    more = nn.Dense(_MORE * width, use_bias=False, name="embedding")(embedding)
    more = more.reshape(b, _MORE, width).astype(context.tokens.dtype)
    there = jnp.where(embedding[:, -1:] > 0, jnp.zeros((b, _MORE)), -jnp.inf)
    tokens = jnp.concatenate([context.tokens, more], axis=1)
    return context._replace(tokens=tokens, bias=jnp.concatenate([context.bias, there], axis=1))


def read(encoder: TextEncoder | None, cond: Cond, batch: int) -> tuple[TextContext | None, Cond]:
    """The text of a condition, for a module that calls this in its `__call__`.

    Args:
        encoder: how texts are read; None for a network that takes none.
        cond: with `"text"` int32 `[B, L]` (missing: none), perhaps `"text_weight"` `[B, L]` and
            `"embedding"` `[B, D + 1]`.
        batch: examples.

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
    if "embedding" in cond:  # weights for it exist only if the model was initialised with one
        context = _with_embedding(context, cond["embedding"])
    return context, {**cond, "text_pooled": context.pooled}
