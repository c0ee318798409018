"""Masks at lower resolution: for latents, and for the parts that a cascade models."""

import numpy as np

from diffusion_jax.errors import ConfigError


def latent_mask(mask: np.ndarray, shape: tuple[int, ...], pointwise: bool = False) -> np.ndarray:
    """The mask of latents: one is painted if a pixel of its patch or of a neighbouring patch is.

    Args:
        mask: mask of pixels, `[..., H, W, 1]`.
        shape: shape of one example's latents, `(h, w, c)`.
        pointwise: whether each latent depends on one pixel only; the mask is then unchanged.

    Returns:
        Mask `[..., h, w, 1]`.

    Raises:
        ConfigError: a mask keeps part of the image but would keep none of its latents.
    """
    if pointwise:
        return mask
    (height, width), (h, w) = mask.shape[-3:-1], shape[:2]
    small = patches(mask, (h, w))[..., 0]
    around = np.pad(small, [(0, 0)] * (small.ndim - 2) + [(1, 1)] * 2)
    grown = np.max([around[..., i : i + h, j : j + w] for i in range(3) for j in range(3)], axis=0)
    _need_some_kept(
        mask, grown[..., None],
        f"the {h}x{w} latents (one is {height // h}x{width // w} pixels, and those next to the "
        "mask are painted too)",
    )  # fmt: skip
    return grown[..., None]


def patches(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The largest value in each patch of a mask `[..., H, W, 1]`: `[..., *size, 1]`."""
    (height, width), (h, w) = mask.shape[-3:-1], size
    cut = mask.reshape(*mask.shape[:-3], h, height // h, w, width // w)
    return cut.max(axis=(-3, -1))[..., None]


def in_blocks(mask: np.ndarray, side: int) -> np.ndarray:
    """A mask `[..., H, W, 1]` grown to whole blocks of `side` x `side` pixels.

    Raises:
        ConfigError: a mask keeps part of the image but would keep no whole block.
    """
    height, width = mask.shape[-3:-1]
    grown = patches(mask, (height // side, width // side))
    grown = grown.repeat(side, axis=-3).repeat(side, axis=-2)
    _need_some_kept(
        mask, grown, f"the {side}x{side} blocks, one for each pixel of the smallest image,"
    )
    return grown


def _need_some_kept(mask: np.ndarray, grown: np.ndarray, what: str) -> None:
    inner = (-3, -2, -1)
    if np.any((grown.min(axis=inner) > 0.0) & (mask.min(axis=inner) == 0.0)):
        raise ConfigError(f"the mask keeps none of {what}: paint less, or use sdedit()")
