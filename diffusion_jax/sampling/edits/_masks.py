"""Masks of what is smaller than the image: of latents, and of the parts that a cascade models."""

import numpy as np

from diffusion_jax.errors import ConfigError


def latent_mask(mask: np.ndarray, shape: tuple[int, ...], pointwise: bool = False) -> np.ndarray:
    """A latent is painted if it sees a painted pixel: its patch's, or one next to that.

    Args:
        mask: `[..., H, W, 1]`.
        shape: of one latent, `(h, w, c)`.
        pointwise: a latent sees its own pixel alone: the mask stays as it is.

    Returns:
        `[..., h, w, 1]`.

    Raises:
        ConfigError: something of the image is to be kept, and nothing of its latents would be.
    """
    if pointwise:
        return mask
    (height, width), (h, w) = mask.shape[-3:-1], shape[:2]
    small = patches(mask, (h, w))[..., 0]
    around = np.pad(small, [(0, 0)] * (small.ndim - 2) + [(1, 1)] * 2)
    grown = np.max([around[..., i : i + h, j : j + w] for i in range(3) for j in range(3)], axis=0)
    _need_some_kept(
        mask, grown[..., None],
        f"the {h}x{w} latents alone (one is {height // h}x{width // w} pixels, and those next to "
        "the mask are painted too)",
    )  # fmt: skip
    return grown[..., None]


def patches(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The largest value in each patch of a mask `[..., H, W, 1]`: `[..., *size, 1]`."""
    (height, width), (h, w) = mask.shape[-3:-1], size
    cut = mask.reshape(*mask.shape[:-3], h, height // h, w, width // w)
    return cut.max(axis=(-3, -1))[..., None]


def in_blocks(mask: np.ndarray, side: int) -> np.ndarray:
    """A mask `[..., H, W, 1]` grown to whole blocks of so many pixels a side.

    Raises:
        ConfigError: something of the image is to be kept, and nothing of it would be.
    """
    height, width = mask.shape[-3:-1]
    grown = patches(mask, (height // side, width // side))
    grown = grown.repeat(side, axis=-3).repeat(side, axis=-2)
    _need_some_kept(
        mask, grown, f"the {side}x{side} blocks that one pixel of the smallest image is"
    )
    return grown


def _need_some_kept(mask: np.ndarray, grown: np.ndarray, what: str) -> None:
    inner = (-3, -2, -1)
    if np.any((grown.min(axis=inner) > 0.0) & (mask.min(axis=inner) == 0.0)):
        raise ConfigError(f"the mask leaves none of {what}: paint less, or use sdedit()")
