"""A straightforward implementation of VDM's network in `flax.linen`, without optimisations.

It is the baseline in the tables of `benchmarks.train_step`. With the parameters of `vdm_unet`
(without attention after every block) it gives the same numbers, block by block.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.layers.block_stack import unstacked
from diffusion_jax.types import Array, Cond, Params


def _norm(x: Array, name: str) -> Array:
    groups = min(32, x.shape[-1] // 2)
    return nn.GroupNorm(groups, epsilon=1e-6, name=name)(x)


class Block(nn.Module):
    """A residual block, and attention after it if asked."""

    width: int
    dropout: float
    attention: bool = False

    @nn.compact
    def __call__(self, x: Array, c: Array, keys: Array | None) -> Array:
        """Applies the block to `x` `[B,H,W,C]` with conditioning `c` `[B,K]`."""
        x = Residual(self.width, self.dropout, name="block")(x, c, keys)
        return Attention(name="attn")(x) if self.attention else x


class Residual(nn.Module):
    """Norm, swish, convolution; conditioning; norm, swish, dropout, convolution."""

    width: int
    dropout: float

    @nn.compact
    def __call__(self, x: Array, c: Array, keys: Array | None) -> Array:
        """Applies the block to `x` `[B,H,W,C]` with conditioning `c` `[B,K]`."""
        h = nn.Conv(self.width, (3, 3), name="conv1")(nn.swish(_norm(x, "norm1")))
        h = h + nn.Dense(self.width, use_bias=False, name="cond")(c)[:, None, None]
        h = nn.swish(_norm(h, "norm2"))
        if keys is not None and self.dropout:
            keep = jax.vmap(lambda k: jax.random.bernoulli(k, 1 - self.dropout, h.shape[1:]))(keys)
            h = jnp.where(keep, h / (1 - self.dropout), 0)
        h = nn.Conv(self.width, (3, 3), name="conv2")(h)
        return h + (x if x.shape[-1] == self.width else nn.Dense(self.width, name="shortcut")(x))


class Attention(nn.Module):
    """Attention of all pixels to all pixels, one head."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Applies attention to `x` `[B,H,W,C]`."""
        channels = x.shape[-1]
        h = _norm(x, "norm").reshape(x.shape[0], -1, channels)
        q, k, v = (nn.Dense(channels, name=n)(h) for n in "qkv")
        weights = jax.nn.softmax(jnp.einsum("bqc,bkc->bqk", q, k) / math.sqrt(channels))
        h = jnp.einsum("bqk,bkc->bqc", weights, v)
        return x + nn.Dense(channels, name="out")(h).reshape(x.shape)


class Condition(nn.Module):
    """The time embedding and the label."""

    size: int
    num_classes: int

    @nn.compact
    def __call__(self, t: Array, cond: Cond) -> Array:
        """Conditioning vectors `[B, 4 size]` for `t` in [0, 1]."""
        half = self.size // 2
        angles = 1000 * t[:, None] * jnp.exp(-math.log(1e4) / (half - 1) * jnp.arange(half))
        h = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)
        h = nn.Dense(4 * self.size, name="dense0")(h)
        if self.num_classes:
            h += nn.Embed(self.num_classes + 1, 4 * self.size, name="label")(cond["label"])
        return nn.swish(nn.Dense(4 * self.size, name="dense1")(nn.swish(h)))


class Plain(nn.Module):
    """The network; attributes as in `vdm_unet`."""

    width: int
    depth: int
    dropout: float
    embed: int
    levels: int
    num_classes: int
    gamma_min: float
    gamma_max: float

    @nn.compact
    def __call__(self, z: Array, gamma: Array, cond: Cond, keys: Array | None = None) -> Array:
        """The prediction at `z` `[B,H,W,C]`, `gamma` `[B]`."""
        t = (gamma - self.gamma_min) / (self.gamma_max - self.gamma_min)
        c = Condition(self.embed, self.num_classes, name="cond")(t, cond)
        angles = z[..., None] * (2 * math.pi * self.levels * jnp.asarray([0.25, 0.5]))
        angles = angles.reshape(*z.shape[:-1], -1)
        h = jnp.concatenate([z, jnp.sin(angles), jnp.cos(angles)], -1)
        h = nn.Conv(self.width, (3, 3), name="conv_in")(h)
        skips = [h]

        def key(salt: int, i: int | None = None) -> Array | None:
            fold = jax.vmap(jax.random.fold_in, (0, None))
            if keys is None:
                return None
            return fold(keys, salt) if i is None else fold(fold(keys, salt), i)

        for i in range(self.depth):
            h = Block(self.width, self.dropout, name=f"down_{i}")(h, c, key(0, i))
            skips.append(h)
        h = Block(self.width, self.dropout, True, name="mid_0")(h, c, key(2))
        h = Block(self.width, self.dropout, name="mid_1")(h, c, key(3))
        for i in range(self.depth + 1):
            h = jnp.concatenate([h, skips.pop()], -1)
            h = Block(self.width, self.dropout, name=f"up_{i}")(h, c, key(1, i))
        h = nn.swish(_norm(h, "norm_out"))
        return z + nn.Conv(z.shape[-1], (3, 3), name="conv_out")(h)


def of(network: nn.Module) -> Plain:
    """The plain version of a `vdm_unet`; raises `ConfigError` for settings it does not support."""
    if network.attention or network.scalar or network.augment or not network.fourier:
        raise ConfigError(
            f"there is no plain version of {network}: only vdm_unet has one, with Fourier features "
            "and without attention, augmentation or a scalar gamma"
        )
    return Plain(
        network.width, network.depth, network.dropout, network.embed, network.levels,
        network.num_classes, network.gamma_min, network.gamma_max,
    )  # fmt: skip


def weights(network: Params) -> Params:
    """The parameters of `vdm_unet` as its plain version takes them, `{"params": ...}` too."""
    if set(network) == {"params"}:
        return {"params": weights(network["params"])}
    rest = {k: v for k, v in network.items() if k not in ("down", "up")}
    stacks = {side: unstacked(network[side]) for side in ("down", "up")}
    return rest | {f"{k}_{i}": p for k, blocks in stacks.items() for i, p in enumerate(blocks)}
