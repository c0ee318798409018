"""The contract of a head: exact probabilities of levels 0 .. V-1 from the outputs of a network.

Probabilities sum to one over the V levels of each value, without clamps, so that the codec uses
exactly the distribution that is scored. Levels in model space are the bin centres
`2 (k + 1/2) / V - 1`, and the edges between bins are `2 k / V - 1`, as for the decoders.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from diffusion_jax.types import Array


@runtime_checkable
class Head(Protocol):
    """The distribution of an image given features.

    Attributes:
        levels: number of grey levels V.
        sequential: whether a channel's distribution depends on the channels before it.
    """

    @property
    def levels(self) -> int: ...  # noqa: D102

    @property
    def sequential(self) -> bool: ...  # noqa: D102

    def outputs(self, channels: int) -> int:
        """Number of network outputs per pixel, for images with `channels` channels."""
        ...

    def log_prob(self, out: Array, image: Array) -> Array:
        """Log-probability of each value of `image`, nats, `[B, H, W, C]`.

        `out` is `[B, H, W, outputs]`, `image` integer levels.
        """
        ...

    def log_probs(self, out: Array, image: Array) -> Array:
        """Log-probabilities of every level, `[B, H, W, C, V]`.

        If the head is sequential, channel c is conditioned on the channels of `image` before it.
        """
        ...


def chosen(log_probs: Array, image: Array) -> Array:
    """The entries of `log_probs` `[B, H, W, C, V]` at the levels of an image."""
    return jnp.take_along_axis(log_probs, image[..., None], axis=-1)[..., 0]


def levels_of(x: Array, levels: int) -> Array:
    """The nearest levels, int32, of data in model space."""
    nearest = jnp.round((x + 1.0) * (0.5 * levels) - 0.5).astype(jnp.int32)
    return jnp.clip(nearest, 0, levels - 1)


def centres(image: Array, levels: int, dtype: jnp.dtype) -> Array:
    """Integer levels in model space."""
    return (2.0 * (image.astype(dtype) + 0.5) / levels - 1.0).astype(dtype)


def fill(
    log_probs: Callable[[Array], Array],
    shape: tuple[int, ...],
    sequential: bool,
    choose: Callable[[Array, int], Array],
) -> Array:
    """An image, uint8, whose levels `choose` picks from their log-probabilities.

    Args:
        log_probs: log-probabilities of every level, given an integer image `[B, H, W, C]`.
        shape: shape of the images, `(B, H, W, C)`.
        sequential: whether channel c needs the channels before it.
        choose: `(log_probs [B, H, W, C, V], c) -> [B, H, W, C]`, for all channels at once (c is 0)
            or for channel c alone.
    """
    image = jnp.zeros(shape, jnp.int32)
    if not sequential:
        return choose(log_probs(image), 0).astype(jnp.uint8)
    for c in range(shape[-1]):
        log_p = log_probs(image)[..., c : c + 1, :]
        image = image.at[..., c : c + 1].set(choose(log_p, c).astype(jnp.int32))
    return image.astype(jnp.uint8)


def likeliest(log_p: Array, c: int) -> Array:
    """The most probable level: a `choose` for `fill`."""
    return jnp.argmax(log_p, axis=-1)


def by_chance(keys: Array) -> Callable[[Array, int], Array]:
    """Levels sampled from their probabilities, with one key per example: a `choose` for `fill`."""

    def choose(log_p: Array, c: int) -> Array:
        def one(key: Array, log_p: Array) -> Array:
            return jax.random.categorical(jax.random.fold_in(key, c), log_p, axis=-1)

        return jax.vmap(one)(keys, log_p)

    return choose
