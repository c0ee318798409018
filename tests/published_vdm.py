"""VDM's score network as it was published, written once more with flax's own layers and names."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


def dense(width, name, bias=True):
    return nn.Dense(width, bias, name=name)


def conv(width, name):
    return nn.Conv(width, (3, 3), name=name)


def norm():
    return nn.GroupNorm(32)


class Block(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x, c):
        h = conv(self.width, "conv1")(nn.swish(norm()(x)))
        h = h + dense(self.width, "cond_proj", False)(c)[:, None, None]
        h = conv(self.width, "conv2")(nn.swish(norm()(h)))
        return h + (x if x.shape[-1] == self.width else dense(self.width, "nin_shortcut")(x))


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x):
        b, _, _, channels = x.shape
        h = norm()(x).reshape(b, -1, channels)
        q, k, v = (dense(channels, name)(h) for name in "qkv")
        weights = jax.nn.softmax(q @ k.swapaxes(1, 2) / np.sqrt(channels))
        return x + dense(channels, "proj_out")(weights @ v).reshape(x.shape)


class ScoreUNet(nn.Module):
    width: int
    depth: int
    attention: bool

    @nn.compact
    def __call__(self, z, gamma, conditioning):
        time = 1000 * (gamma + 13.3) / (5.0 + 13.3)
        half = self.width // 2
        angles = time[:, None] * np.exp(-np.arange(half) * np.log(10000) / (half - 1))
        c = jnp.concatenate([jnp.sin(angles), jnp.cos(angles), conditioning[:, None]], axis=1)
        for name in ("dense0", "dense1"):
            c = nn.swish(dense(4 * self.width, name)(c))
        angles = jnp.stack([2 * np.pi * 2.0**f * z for f in (6, 7)], axis=-1)
        waves = [part(angles).reshape(*z.shape[:3], -1) for part in (jnp.sin, jnp.cos)]
        hs = [conv(self.width, "conv_in")(jnp.concatenate([z, *waves], axis=-1))]

        def stage(h, name):
            h = Block(self.width, name=name.format("block"))(h, c)
            return Attention(name=name.format("attn"))(h) if self.attention else h

        for i in range(self.depth):
            hs.append(stage(hs[-1], f"down.{{}}_{i}"))
        h = Block(self.width, name="mid.block_1")(hs[-1], c)
        h = Attention(name="mid.attn_1")(h)
        h = Block(self.width, name="mid.block_2")(h, c)
        for i in range(self.depth + 1):
            h = stage(jnp.concatenate([h, hs.pop()], axis=-1), f"up.{{}}_{i}")
        return conv(z.shape[-1], "conv_out")(nn.swish(norm()(h))) + z
