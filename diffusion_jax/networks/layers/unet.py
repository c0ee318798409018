"""The U-Net of many resolutions, of images and, with attention between frames, of video.

Wide-ResNet blocks with GroupNorm, a channel multiplier per resolution, attention at chosen
resolutions, a skip from every down block to its up block. A video is its frames side by side in the
batch (Ho et al. 2022, "Video diffusion models"): every layer is that of images, and has its weights
by the same names.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffusion_jax.errors import ConfigError, SpecError
from diffusion_jax.networks.layers import patches
from diffusion_jax.networks.layers.blocks import (
    Attention,
    Dtype,
    ResBlock,
    fold_keys,
    group_norm,
)
from diffusion_jax.networks.layers.conv import conv3x3
from diffusion_jax.networks.layers.embed import (
    Conditioning,
    LevelEmbedding,
    given_low,
    image_inputs,
)
from diffusion_jax.networks.layers.temporal_attention import TimeAttention
from diffusion_jax.networks.layers.text import TextAttention, read
from diffusion_jax.networks.text_encoders.base import TextEncoder
from diffusion_jax.types import Array, Cond

POSITIONS = ("none", "sincos", "learned")


def check_position(who: str, position: str, width: int) -> str:
    """Returns `position`; raises SpecError unless it is one of `POSITIONS` and fits the width."""
    if position not in POSITIONS:
        raise SpecError(f"{who}: position={position!r}; allowed are {', '.join(POSITIONS)}")
    return patches.check_position(who, position, width, width)


class UNet(nn.Module):
    """See the module docstring; the plug-ins `unet` and `video_unet` document the settings.

    Attributes:
        position: how places are told apart, one of `POSITIONS`.
        smallest_group: fewest channels in a group of the norms.
        who: the plug-in, for messages.
        frames: of the videos that it takes, `[B,T,H,W,C]`; 0 for images.
        time: whether frames see one another.
        stills: the class of examples whose frames are unrelated images, and do not.
        given: further frames, the first ones, that it is told: `cond["low"]`.
    """

    width: int
    mults: tuple[int, ...]
    blocks: int
    attention: tuple[int, ...]
    heads: int
    dropout: float
    fourier: bool
    remat: bool
    patch: int
    level_features: int
    channels: int
    levels: int
    num_classes: int
    augment: int
    low: int
    gamma_min: float
    gamma_max: float
    dtype: Dtype
    text: TextEncoder | None = None
    position: str = "none"
    smallest_group: int = 2
    who: str = "unet"
    frames: int = 0
    time: bool = True
    stills: int | None = None
    given: int = 0

    skip = True  # z is added to the output; no field, as it is always so

    @nn.compact
    def __call__(self, z: Array, gamma: Array, cond: Cond, keys: Array | None = None) -> Array:
        """The prediction at latents `z` `[B,H,W,C]`, `gamma` `[B]`; shape and type of `z`."""
        if z.ndim == 4 and not self.frames:
            return self._images(z, gamma, cond, keys, 1)
        if not self.frames:
            patches.need_images(self.who, z.shape)
        if z.ndim != 5 or z.shape[1] != self.frames:
            raise ConfigError(
                f"{self.who}: it takes videos [B, {self.frames}, H, W, C]; got {z.shape}"
            )
        b, frames, *one = z.shape
        if self.given:
            told = given_low(cond).astype(z.dtype)
            if told.shape != (b, self.given, *one):
                raise ConfigError(
                    f"{self.who}: it is given frames {[b, self.given, *one]}; got {told.shape}"
                )
            z, frames = jnp.concatenate([told, z], axis=1), self.given + frames
        out = self._images(z.reshape(b * frames, *one), gamma, cond, keys, frames)
        return out.reshape(b, frames, *out.shape[1:])[:, self.given :]

    def _images(self, z: Array, gamma: Array, cond: Cond, keys: Array | None, frames: int) -> Array:
        """The same at `[B T,H,W,C]`, all frames of a video after each other."""

        def each(a: Array, of_given: Array | None = None) -> Array:  # of a video to its frames
            if of_given is not None:
                told = jnp.repeat(of_given[:, None], self.given, axis=1)
                own = jnp.repeat(a[:, None], frames - self.given, axis=1)
                return jnp.concatenate([told, own], axis=1).reshape(-1, *a.shape[1:])
            return jnp.repeat(a, frames, axis=0) if frames > 1 else a

        grid = patches.grid_of(self.who, z.shape, self.patch)
        shrink = 2 ** (len(self.mults) - 1)
        if grid[0] % shrink or grid[1] % shrink:
            raise ConfigError(
                f"{self.who}: {grid[0]}x{grid[1]} {'images' if self.patch == 1 else 'patches'} "
                f"cannot be halved {len(self.mults) - 1} times; give at most as many mults as the "
                f"size allows (mults={self.mults})"
            )
        text, cond = read(self.text, cond, gamma.shape[0])
        low = 0 if self.given else self.low  # frames that are given are frames, not channels
        told = Conditioning(
            self.width, self.num_classes, self.augment, False, self.gamma_min, self.gamma_max,
            self.dtype, low > 0, name="cond",
        )  # fmt: skip
        c, clean, of_given = told(gamma, cond), None, None
        if self.given:
            clean = cond.get("low_gamma", jnp.full(gamma.shape, self.gamma_min, gamma.dtype))
            of_given = told(clean, {k: a for k, a in cond.items() if k != "to"})
        apart = None
        if self.stills is not None and "label" in cond:
            apart = cond["label"] == self.stills
        c, gamma, text = each(c, of_given), each(gamma, clean), jax.tree.map(each, text)
        if keys is not None and frames > 1:
            own = jax.vmap(lambda key: jax.random.split(key, frames))(keys)
            keys = own.reshape(-1)
        block_type = nn.remat(ResBlock) if self.remat else ResBlock
        small: dict[str, Any] = {"smallest_group": self.smallest_group}
        count = 0

        def block(h: Array, width: int, name: str) -> Array:
            nonlocal count
            count += 1
            made = block_type(width, self.dropout, self.dtype, **small, name=name)
            h = made(h, c, fold_keys(keys, count))
            return between(attend(h, name) if h.shape[1] in self.attention else h, name)

        def between(h: Array, name: str) -> Array:
            if not self.frames or not self.time:
                return h
            return TimeAttention(self.heads, frames, self.dtype, **small, name=f"{name}_time")(
                h, apart
            )

        def attend(h: Array, name: str) -> Array:
            h = Attention(self.heads, self.dtype, **small, name=f"{name}_attn")(h)
            if text is not None:
                ask = TextAttention(
                    self.heads, self.dtype, self.position, **small, name=f"{name}_text"
                )
                h = ask(h, text)
            return h

        h = image_inputs(z, cond, self.levels, self.fourier, low)
        if self.level_features:
            known = LevelEmbedding(self.level_features, self.levels, name="levels")(z, gamma)
            h = jnp.concatenate([h, known], axis=-1)
        h = patches.fold(h, self.patch)
        h = conv3x3(self.width, dtype=self.dtype, name="conv_in")(h)
        tokens = h.reshape(len(h), -1, self.width)
        h = patches.place(self, tokens, self.position, grid, self.heads)[0].reshape(h.shape)
        skips = [h]
        for level, mult in enumerate(self.mults):
            for i in range(self.blocks):
                h = block(h, self.width * mult, f"down{level}_{i}")
                skips.append(h)
            if level < len(self.mults) - 1:
                h = conv3x3(h.shape[-1], strides=(2, 2), dtype=self.dtype, name=f"shrink{level}")(h)
                skips.append(h)
        made = block_type(h.shape[-1], self.dropout, self.dtype, **small, name="mid_0")
        h = made(h, c, fold_keys(keys, 0))
        h = between(attend(h, "mid"), "mid")
        h = block(h, h.shape[-1], "mid_1")
        for level, mult in reversed(list(enumerate(self.mults))):
            for i in range(self.blocks + 1):
                h = block(
                    jnp.concatenate([h, skips.pop()], axis=-1), self.width * mult, f"up{level}_{i}"
                )
            if level:
                b, height, width, channels = h.shape
                h = jax.image.resize(h, (b, 2 * height, 2 * width, channels), "nearest")
                h = conv3x3(channels, dtype=self.dtype, name=f"grow{level}")(h)
        norm = group_norm(h.shape[-1], self.dtype, "norm_out", smallest=self.smallest_group)
        h = nn.swish(norm(h)).astype(z.dtype)
        size = (3, 3) if self.patch == 1 else (1, 1)  # each patch gives its own pixels
        out = conv3x3(
            self.patch**2 * self.channels, kernel_size=size, kernel_init=nn.initializers.zeros,
            name="conv_out",
        )(h)  # fmt: skip
        out = patches.unfold(out, self.patch)
        return out + z if out.shape == z.shape else out
