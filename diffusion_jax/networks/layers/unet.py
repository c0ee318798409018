"""The multi-resolution U-Net for images and, with attention between frames, for videos.

Wide-ResNet blocks with GroupNorm, a channel multiplier per resolution, attention at chosen
resolutions, and a skip from every down block to its up block. The frames of a video are put in the
batch (Ho et al. 2022, "Video diffusion models"), so that all other layers, and the names of their
weights, are those for images.
"""

import itertools
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
        raise SpecError(f"{who}: position={position!r}; allowed: {', '.join(POSITIONS)}")
    return patches.check_position(who, position, width, width)


class UNet(nn.Module):
    """See the module docstring; the plug-ins `unet` and `video_unet` document the settings.

    Attributes:
        position: position embedding, one of `POSITIONS`.
        smallest_group: smallest number of channels in a group of the norms.
        who: name of the plug-in, for messages.
        frames: number T of frames in videos `[B,T,H,W,C]`; 0 for images.
        time: whether frames attend to each other.
        stills: class of examples whose frames are unrelated images and do not attend to each other.
        given: number of first frames, in `cond["low"]`, that it is conditioned on.
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

    skip = True  # class attribute, not a field: z is always added to the output

    @nn.compact
    def __call__(self, z: Array, gamma: Array, cond: Cond, keys: Array | None = None) -> Array:
        """The prediction at latents `z` `[B,H,W,C]`, `gamma` `[B]`; shape and type of `z`."""
        if z.ndim == 4 and not self.frames:
            return self._images(z, gamma, cond, keys, 1)
        if not self.frames:
            patches.need_images(self.who, z.shape)
        if z.ndim != 5 or z.shape[1] != self.frames:
            raise ConfigError(f"{self.who} takes videos [B, {self.frames}, H, W, C]; got {z.shape}")
        b, frames, *frame = z.shape
        if self.given:
            first = given_low(cond).astype(z.dtype)
            if first.shape != (b, self.given, *frame):
                raise ConfigError(
                    f"{self.who} is conditioned on first frames {[b, self.given, *frame]}; got "
                    f"{first.shape}"
                )
            z, frames = jnp.concatenate([first, z], axis=1), self.given + frames
        out = self._images(z.reshape(b * frames, *frame), gamma, cond, keys, frames)
        return out.reshape(b, frames, *out.shape[1:])[:, self.given :]

    def _images(self, z: Array, gamma: Array, cond: Cond, keys: Array | None, frames: int) -> Array:
        """The prediction at `[B T,H,W,C]`, in which the frames of a video are adjacent."""
        grid = patches.grid_of(self.who, z.shape, self.patch)
        shrink = 2 ** (len(self.mults) - 1)
        if grid[0] % shrink or grid[1] % shrink:
            raise ConfigError(
                f"{self.who}: {grid[0]}x{grid[1]} {'images' if self.patch == 1 else 'patches'} "
                f"cannot be halved {len(self.mults) - 1} times; give at most as many mults as the "
                f"size allows (mults={self.mults})"
            )
        text, cond = read(self.text, cond, gamma.shape[0])
        low = 0 if self.given else self.low  # given frames are inputs as frames, not as channels
        stills = None  # which videos are unrelated images
        if self.stills is not None and "label" in cond:
            stills = cond["label"] == self.stills
        c, gamma = self._conditioning(gamma, cond, frames, low > 0)
        text = jax.tree.map(lambda a: _repeat(a, frames), text)
        if keys is not None and frames > 1:
            keys = jax.vmap(lambda key: jax.random.split(key, frames))(keys).reshape(-1)
        block_type = nn.remat(ResBlock) if self.remat else ResBlock
        small: dict[str, Any] = {"smallest_group": self.smallest_group}
        numbers = itertools.count(1)  # number the blocks' dropout keys; `mid_0` has 0

        def block(h: Array, width: int, name: str) -> Array:
            module = block_type(width, self.dropout, self.dtype, **small, name=name)
            h = module(h, c, fold_keys(keys, next(numbers)))
            h = attend_in_frame(h, name) if h.shape[1] in self.attention else h
            return attend_in_time(h, name)

        def attend_in_time(h: Array, name: str) -> Array:
            if not self.frames or not self.time:
                return h
            return TimeAttention(self.heads, frames, self.dtype, **small, name=f"{name}_time")(
                h, stills
            )

        def attend_in_frame(h: Array, name: str) -> Array:
            h = Attention(self.heads, self.dtype, **small, name=f"{name}_attn")(h)
            if text is None:
                return h
            return TextAttention(
                self.heads, self.dtype, self.position, **small, name=f"{name}_text"
            )(h, text)

        h = image_inputs(z, cond, self.levels, self.fourier, low)
        if self.level_features:
            features = LevelEmbedding(self.level_features, self.levels, name="levels")(z, gamma)
            h = jnp.concatenate([h, features], axis=-1)
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
        middle = block_type(h.shape[-1], self.dropout, self.dtype, **small, name="mid_0")
        h = middle(h, c, fold_keys(keys, 0))
        h = attend_in_time(attend_in_frame(h, "mid"), "mid")
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
        size = (3, 3) if self.patch == 1 else (1, 1)  # each patch predicts its own pixels
        out = conv3x3(
            self.patch**2 * self.channels, kernel_size=size, kernel_init=nn.initializers.zeros,
            name="conv_out",
        )(h)  # fmt: skip
        out = patches.unfold(out, self.patch)
        return out + z if out.shape == z.shape else out

    def _conditioning(
        self, gamma: Array, cond: Cond, frames: int, low: bool
    ) -> tuple[Array, Array]:
        """Conditioning vectors `[B T, K]` and gammas `[B T]` of all frames, given ones first."""
        conditioning = Conditioning(
            self.width, self.num_classes, self.augment, False, self.gamma_min, self.gamma_max,
            self.dtype, low, name="cond",
        )  # fmt: skip
        c = conditioning(gamma, cond)
        if not self.given:
            return _repeat(c, frames), _repeat(gamma, frames)
        clean = cond.get("low_gamma", jnp.full(gamma.shape, self.gamma_min, gamma.dtype))
        c_given = conditioning(clean, {k: a for k, a in cond.items() if k != "to"})

        def join(given: Array, others: Array) -> Array:
            given = jnp.repeat(given[:, None], self.given, axis=1)
            others = jnp.repeat(others[:, None], frames - self.given, axis=1)
            return jnp.concatenate([given, others], axis=1).reshape(-1, *others.shape[2:])

        return join(c_given, c), join(clean, gamma)


def _repeat(a: Array, frames: int) -> Array:
    """From one row per video to one row per frame."""
    return jnp.repeat(a, frames, axis=0) if frames > 1 else a
