"""The mask of an edit among latents: each latent is painted that sees a painted pixel."""

import numpy as np

from diffusion_jax.errors import ConfigError


def latent_mask(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The largest value in the patch of each latent, grown by one latent to all sides.

    Args:
        mask: `[..., H, W, 1]`.
        shape: of one latent, `(h, w, c)`; the very shape of the image leaves the mask as it is.

    Returns:
        `[..., h, w, 1]`.

    Raises:
        ConfigError: something of the image is to be kept, and nothing of its latents would be.
    """
    (height, width), (h, w) = mask.shape[-3:-1], shape[:2]
    if (height, width) == (h, w):
        return mask
    patches = mask.reshape(*mask.shape[:-3], h, height // h, w, width // w)
    small = patches.max(axis=(-3, -1))
    around = np.pad(small, [(0, 0)] * (small.ndim - 2) + [(1, 1)] * 2)
    grown = np.max([around[..., i : i + h, j : j + w] for i in range(3) for j in range(3)], axis=0)
    every = tuple(range(grown.ndim - 2, grown.ndim))
    lost = (grown.min(axis=every) > 0.0) & (mask.min(axis=(-3, -2, -1)) == 0.0)
    if np.any(lost):
        raise ConfigError(
            f"the mask leaves none of the {h}x{w} latents alone (one is {height // h}x{width // w} "
            "pixels, and those next to the mask are painted too): paint less, or use sdedit()"
        )
    return grown[..., None]
