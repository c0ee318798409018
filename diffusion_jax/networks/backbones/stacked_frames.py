"""A network for images applied to videos, with frames as channels (MCVD, Voleti et al. 2022).

The simple alternative to `video_unet`: every layer mixes all frames, and none knows their order or
that they are similar.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from diffusion_jax.allowed import Count, Whole
from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.layers.embed import as_channels, given_low
from diffusion_jax.networks.text_encoders.base import TextEncoder
from diffusion_jax.types import Array, Cond, Params


class StackedFrames(nn.Module):
    """See the module docstring; `make` documents the settings."""

    of: nn.Module
    frames: int
    channels: int
    levels: int

    @property
    def skip(self) -> bool:
        """Whether the inner network adds `z` to its output."""
        return bool(getattr(self.of, "skip", False))

    @property
    def fourier(self) -> bool:
        """Whether the inner network adds Fourier features."""
        return bool(getattr(self.of, "fourier", False))

    @property
    def low(self) -> int:
        """Total number of channels of the frames that it is conditioned on."""
        return int(getattr(self.of, "low", 0))

    @property
    def text(self) -> TextEncoder | None:
        """The text encoder of the inner network, or None."""
        return getattr(self.of, "text", None)

    @property
    def examples(self) -> int:
        """Number of training examples that the inner network starts from."""
        return int(getattr(self.of, "examples", 0))

    def from_examples(self, x: Array, cond: Cond) -> Params:
        """The parameters of the inner network with examples `x` `[N,T,H,W,C]`."""
        return {"of": self.of.from_examples(as_channels(x), self._inner(cond))}

    def _inner(self, cond: Cond) -> Cond:
        """The condition of the inner network, in which frames are channels."""
        return {**cond, "low": as_channels(given_low(cond))} if self.low else cond

    def __call__(self, z: Array, gamma: Array, cond: Cond, keys: Array | None = None) -> Array:
        """The prediction at latents `z` `[B,T,H,W,C]`, `gamma` `[B]`; shape and type of `z`."""
        if z.ndim == 4:
            return self.of(z, gamma, cond, keys)
        if z.ndim != 5 or z.shape[1] != self.frames:
            raise ConfigError(
                f"stacked_frames takes videos [B, {self.frames}, H, W, C]; got {z.shape}"
            )
        b, t, height, width, _ = z.shape
        out = self.of(as_channels(z), gamma, self._inner(cond), keys)
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
    """A network for images with T times as many channels.

    Args:
        of: a network for images, such as `vdm_unet(width=32, depth=2)`.
        channels: channels of a frame.
        levels: number of grey levels of the data.
        low: channels of a frame that it is conditioned on; 0 for none.
        given: number of frames that it is conditioned on; they are channels of the smaller image of
            `of`.
        shape: shape of a video, `(T, H, W, C)`.
        text: encoder of captions, if the inner network takes one; or None.

    Raises:
        ConfigError: `of` is not a network with `channels`.
    """
    if not isinstance(of, nn.Module) or not hasattr(of, "channels"):
        raise ConfigError(
            f"stacked_frames takes a network, as in stacked_frames(of=unet()); got {of}"
        )
    frames = shape[0] if len(shape) == 4 else 1
    changes: dict[str, Any] = {"low": given * low} if given and hasattr(of, "low") else {}
    if text is not None and hasattr(of, "text"):
        changes["text"] = text
    return StackedFrames(of.clone(channels=frames * channels, **changes), frames, channels, levels)
