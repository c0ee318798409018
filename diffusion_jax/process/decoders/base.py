"""The contract of a decoder: how data enter the model, and `p(x | z_0)`."""

from typing import Protocol, runtime_checkable

from diffusion_jax.types import Array


@runtime_checkable
class Decoder(Protocol):
    """Maps data to model space and back, and scores data given `y = z_0 / alpha_0`.

    A decoder of discrete data also has `levels`, their number, and `log_probs(y, gamma_0)`, the
    log-probability of every level in nats, which the codec needs.
    """

    def encode(self, image: Array) -> Array:
        """Maps stored data (such as uint8 images) to model space: default float, same shape."""
        ...

    def log_prob(self, x: Array, y: Array, gamma_0: Array) -> Array:
        """`log p(x | z_0)` in nats, `[B]`, for `x` in model space and `y = z_0 / alpha_0`."""
        ...

    def decode(self, y: Array) -> Array:
        """The most probable data given `y = z_0 / alpha_0`, as stored (such as uint8 images)."""
        ...
