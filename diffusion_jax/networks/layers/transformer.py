"""Transformer layers: attention, MLP, and the blocks of DiT and U-ViT.

Tokens are `[B, N, width]`. The residual stream, norms, softmax and modulations are float32 (or
wider, if the tokens are); `dtype` is the type of the matrix products.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffusion_jax.errors import ConfigError, SpecError
from diffusion_jax.networks.layers.blocks import Dtype, attend, dropout, fold_keys
from diffusion_jax.networks.layers.fusion_barrier import computed_once
from diffusion_jax.networks.layers.patches import rotate
from diffusion_jax.networks.layers.text import CrossAttention
from diffusion_jax.types import Array

ATTENTION = ("xla", "cudnn")
XAVIER = nn.initializers.xavier_uniform()
ZEROS = nn.initializers.zeros


def wide(x: Array) -> Array:
    """`x` in float32, or its own type if that is wider."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def normalise(x: Array) -> Array:
    """Layer norm over the last axis, without scale and shift."""
    x = wide(x)
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)


def modulate(x: Array, shift: Array, scale: Array) -> Array:
    """`x (1 + scale) + shift`, one scale and shift `[B, width]` for all tokens."""
    return x * (1 + scale[:, None]) + shift[:, None]


def drop_branch(branch: Array, rate: float | Array, keys: Array | None) -> Array:
    """Stochastic depth: drops an example's whole branch at `rate`, and rescales those kept.

    Args:
        branch: the update of the residual stream, `[B, N, width]`.
        rate: probability of dropping it.
        keys: one key per example, or None to drop nothing.
    """
    if keys is None:
        return branch
    kept = jax.vmap(jax.random.uniform)(keys) >= rate
    return jnp.where(kept[:, None, None], branch / (1 - rate), 0).astype(branch.dtype)


def check_heads(who: str, width: int, heads: int, attention: str, dtype: str, platform: str) -> int:
    """The size of a head, after checking the settings of attention.

    Raises:
        SpecError: `heads` does not divide `width`, or the attention does not support this type and
            device.
    """
    if width % heads:
        fit = [str(h) for h in range(1, min(width // 16, 64) + 1) if width % h == 0] or ["1"]
        raise SpecError(
            f"{who}: width={width} is not divisible by heads={heads}; allowed: {', '.join(fit)}"
        )
    if attention not in ATTENTION:
        raise SpecError(f"{who}: attention={attention!r}; allowed: {', '.join(ATTENTION)}")
    if attention == "cudnn" and (dtype != "bfloat16" or platform != "gpu"):
        raise SpecError(
            f"{who}: attention='cudnn' needs bfloat16 on a GPU, not {dtype} on {platform}; "
            "use attention='xla', or --config.dtype=bfloat16"
        )
    return width // heads


def check_memory(
    who: str, tokens: int, heads: int, batch: int, blocks: int, memory: int | None, devices: int
) -> None:
    """Checks that the attention weights alone fit into the memory of a device.

    Args:
        who: name of the network, for the message.
        tokens: tokens per example.
        heads: number of attention heads.
        batch: number of examples over all devices.
        blocks: number of blocks that keep their weights at a time; all in training without `remat`.
        memory: memory of a device in bytes; None if unknown.
        devices: number of devices.

    Raises:
        ConfigError: they do not fit.
    """
    share = math.ceil(batch / devices)
    needed = 4 * tokens**2 * heads * share * blocks
    if memory is not None and needed > memory:
        raise ConfigError(
            f"{who}: attention among {tokens} tokens needs {needed / 2**30:.1f} GiB per device "
            f"({heads} heads, {share} images, {blocks} blocks at a time), which has "
            f"{memory / 2**30:.1f}; use a larger patch, a smaller batch, accumulate or remat"
        )


class SelfAttention(nn.Module):
    """Attention among all tokens.

    Attributes:
        heads: number of heads; must divide the width.
        qk_norm: normalise queries and keys to root mean square 1 times a learned scale.
        bias: whether the projection to queries, keys and values has biases.
        attention: `"xla"`, or `"cudnn"`'s fused kernel.
        kernel_init: initialiser of both projections.
        dtype: arithmetic type.
    """

    heads: int
    qk_norm: bool
    bias: bool
    attention: str
    kernel_init: Callable[..., Any]
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Array, angles: Array | None = None) -> Array:
        """Attention among `x`, with queries and keys rotated by `angles` if given."""
        b, n, width = x.shape
        same = {"kernel_init": self.kernel_init, "dtype": self.dtype}
        qkv = nn.Dense(3 * width, use_bias=self.bias, **same, name="qkv")(x)
        q, k, v = jnp.moveaxis(qkv.reshape(b, n, 3, self.heads, -1), 2, 0)
        if self.qk_norm:
            q, k = (
                wide(a) * jax.lax.rsqrt(jnp.square(wide(a)).mean(-1, keepdims=True) + 1e-6)
                * self.param(name, nn.initializers.ones, a.shape[-1:])
                for name, a in (("q_scale", q), ("k_scale", k))
            )  # fmt: skip
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        h = attend(
            q.astype(v.dtype), k.astype(v.dtype), v, cast(Literal["xla", "cudnn"], self.attention)
        )
        return nn.Dense(width, **same, name="out")(h.reshape(b, n, width))


class Mlp(nn.Module):
    """Two dense layers with a GELU between them.

    Attributes:
        hidden: number of hidden values.
        dropout: dropout rate of the hidden values.
        tanh: whether to use DiT's approximate GELU instead of the exact one.
        kernel_init: initialiser of both layers.
        dtype: arithmetic type.
    """

    hidden: int
    dropout: float
    tanh: bool
    kernel_init: Callable[..., Any]
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Array, keys: Array | None = None) -> Array:
        """Applies it to every token of `x`."""
        same = {"kernel_init": self.kernel_init, "dtype": self.dtype}
        h = nn.gelu(nn.Dense(self.hidden, **same, name="in")(x), approximate=self.tanh)
        return nn.Dense(x.shape[-1], **same, name="out")(dropout(h, self.dropout, keys))


class AdaptiveBlock(nn.Module):
    """DiT's block: conditions shift, scale and gate both branches; the gates are zero at init.

    Attributes:
        heads: attention heads.
        ratio: hidden values of the MLP per token value.
        dropout: rate on the attention's output and inside the MLP.
        qk_norm: see `SelfAttention`.
        attention: see `SelfAttention`.
        shared: whether the modulations are inputs, to which the block adds a learned offset.
        dtype: arithmetic type of the matrix products.
    """

    heads: int
    ratio: float
    dropout: float
    qk_norm: bool
    attention: str
    shared: bool
    dtype: Dtype

    @nn.compact
    def __call__(
        self,
        x: Array,
        c: Array,
        angles: Array | None,
        rate: float | Array = 0.0,
        keys: Array | None = None,
        text: tuple[Array, Array] | None = None,
    ) -> Array:
        """Applies the block.

        Args:
            x: tokens.
            c: conditions `[B, K]`; if `shared`, modulations `[B, 6 width]`.
            angles: see `SelfAttention`.
            rate: probability of dropping a branch in training.
            keys: one key per example, or None.
            text: tokens and bias of a text to attend to, or None.
        """
        x, width = computed_once(x), x.shape[-1]
        if self.shared:
            six = c + self.param("offset", ZEROS, (6 * width,))
        else:
            six = nn.Dense(6 * width, kernel_init=ZEROS, name="modulation")(c)
        shift1, scale1, gate1, shift2, scale2, gate2 = jnp.split(six, 6, axis=-1)
        k1, k2, k3, k4 = (fold_keys(keys, i) for i in range(4))

        h = SelfAttention(
            self.heads, self.qk_norm, True, self.attention, XAVIER, self.dtype, name="attn"
        )(modulate(normalise(x), shift1, scale1), angles)
        h = wide(dropout(h, self.dropout, k1))
        x = x + drop_branch(gate1[:, None] * h, rate, k2)
        if text is not None:
            read = CrossAttention(self.heads, self.dtype, name="text")(normalise(x), *text)
            x = x + wide(read)
        mlp = Mlp(
            max(1, int(self.ratio * width)), self.dropout, True, XAVIER, self.dtype, name="mlp"
        )  # fmt: skip
        h = wide(mlp(modulate(normalise(x), shift2, scale2), k3))
        return x + drop_branch(gate2[:, None] * h, rate, k4)


class PlainBlock(nn.Module):
    """U-ViT's block: norm, attention, norm, MLP; conditions are tokens among the others.

    Tokens concatenated with their long skip, twice as wide, are first projected to `width`.

    Attributes:
        width: values per token of the result.
        heads: attention heads.
        ratio: hidden values of the MLP per token value.
        dropout: rate on the attention's output and inside the MLP.
        qk_norm: see `SelfAttention`.
        attention: see `SelfAttention`.
        dtype: arithmetic type of the matrix products.
    """

    width: int
    heads: int
    ratio: float
    dropout: float
    qk_norm: bool
    attention: str
    dtype: Dtype

    @nn.compact
    def __call__(
        self,
        x: Array,
        angles: Array | None,
        rate: float | Array = 0.0,
        keys: Array | None = None,
    ) -> Array:
        """Applies the block; for the arguments see `AdaptiveBlock`."""
        if x.shape[-1] != self.width:
            x = wide(nn.Dense(self.width, kernel_init=XAVIER, dtype=self.dtype, name="skip")(x))
        x = computed_once(x)
        k1, k2, k3, k4 = (fold_keys(keys, i) for i in range(4))

        h = SelfAttention(
            self.heads, self.qk_norm, False, self.attention, XAVIER, self.dtype, name="attn"
        )(nn.LayerNorm(epsilon=1e-5, name="norm1")(x), angles)
        x = x + drop_branch(wide(dropout(h, self.dropout, k1)), rate, k2)
        mlp = Mlp(
            max(1, int(self.ratio * self.width)), self.dropout, False, XAVIER, self.dtype,
            name="mlp",
        )  # fmt: skip
        h = wide(mlp(nn.LayerNorm(epsilon=1e-5, name="norm2")(x), k3))
        return x + drop_branch(h, rate, k4)
