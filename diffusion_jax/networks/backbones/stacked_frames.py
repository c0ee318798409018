"""A network of images on videos: the frames are channels of one image (MCVD, Voleti et al. 2022).

The plain rival of `video_unet`: every layer mixes all frames, none knows their order or that they
are alike.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from diffusion_jax.allowed import Count, Whole
from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.layers.embed import as_channels, given_low
from diffusion_jax.networks.text_encoders.base import TextEncoder
from diffusion_jax.types import Array, Cond


class StackedFrames(nn.Module):
    """See the module docstring; `make` documents the settings."""

    of: nn.Module
    frames: int
    channels: int
    levels: int

    @property
    def skip(self) -> bool:
        """As the network of images."""
        return bool(getattr(self.of, "skip", False))

    @property
    def fourier(self) -> bool:
        """As the network of images."""
        return bool(getattr(self.of, "fourier", False))

    @property
    def low(self) -> int:
        """Channels of the frames that it is given, all of them together."""
        return int(getattr(self.of, "low", 0))

    @property
    def text(self) -> TextEncoder | None:
        """How captions are read: as the network of images does."""
        return getattr(self.of, "text", None)

    def __call__(self, z: Array, gamma: Array, cond: Cond, keys: Array | None = None) -> Array:
        """The prediction at latents `z` `[B,T,H,W,C]`, `gamma` `[B]`; shape and type of `z`."""
        if z.ndim == 4:
            return self.of(z, gamma, cond, keys)
        if z.ndim != 5 or z.shape[1] != self.frames:
            raise ConfigError(
                f"stacked_frames: it takes videos [B, {self.frames}, H, W, C]; got {z.shape}"
            )
        b, t, height, width, _ = z.shape
        if self.low:
            cond = {**cond, "low": as_channels(given_low(cond))}
        out = self.of(as_channels(z), gamma, cond, keys)
        return jnp.moveaxis(out.reshape(b, height, width, t, -1), 3, 1)


def make(
    of: object,
    channels: Count = 3,
    levels: Count = 256,
    low: Whole = 0,
    given: Whole = 0,
    shape: tuple[Count, ...] = (),
    text: TextEncoder | None = None,
) -> Any:
    """A network of images with T times as many channels.

    Args:
        of: a network of images, as `vdm_unet(width=32, depth=2)`.
        channels: of a frame.
        levels: grey levels of the data.
        low: channels of a frame that it is given; 0 for none.
        given: how many frames it is given: they are channels of the smaller image of `of`.
        shape: of a video, `(T, H, W, C)`.
        text: how captions are read, by a network of images that can.

    Raises:
        ConfigError: `of` is no network with `channels`.
    """
    if not isinstance(of, nn.Module) or not hasattr(of, "channels"):
        raise ConfigError(f"stacked_frames takes a network, as stacked_frames(of=unet()); got {of}")
    frames = shape[0] if len(shape) == 4 else 1
    told: dict[str, Any] = {"low": given * low} if given and hasattr(of, "low") else {}
    if text is not None and hasattr(of, "text"):
        told["text"] = text
    return StackedFrames(of.clone(channels=frames * channels, **told), frames, channels, levels)
