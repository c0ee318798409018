"""Inpainting by replacement: known pixels follow the forward process of the known image.

A `constrain` hook (Song et al. 2021, appendix I.2). On its own it converges to the wrong
distribution, because the unknown pixels see the known ones one step late; `plans.repaint` corrects
that. With a soft mask it blends (Avrahami et al. 2022, "Blended diffusion").
"""

from collections.abc import Callable

from diffusion_jax import rng
from diffusion_jax.types import Array, diffuse


def make(
    known: Array | Callable[[Array], Array], mask: Array
) -> Callable[[Array, Array, Array], Array]:
    """`(z, gamma, key) -> z` that replaces the known pixels, for `integrate(..., constrain=...)`.

    Args:
        known: the image in the units of the data, broadcastable to `[B, ...]`; or a function of
            gamma that returns it, for models whose encoder changes it with time.
        mask: 1 where `known` is kept, 0 where pixels are painted, values between for a blend;
            broadcastable to `[B, ...]`.
    """

    def constrain(z: Array, gamma: Array, key: Array) -> Array:
        x = known(gamma) if callable(known) else known
        noisy = diffuse(x, gamma, rng.normal(key, z.shape, z.dtype))
        return z + mask * (noisy - z)

    return constrain
