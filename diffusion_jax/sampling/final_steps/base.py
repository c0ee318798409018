"""The contract of a final step: `(denoise, z, gamma, decoder) -> data`, and its network calls."""

from typing import Protocol, runtime_checkable

from diffusion_jax.process.decoders.base import Decoder
from diffusion_jax.sampling.samplers.base import Denoise
from diffusion_jax.types import Array


@runtime_checkable
class Final(Protocol):
    """From the last latent to what is written.

    Attributes:
        nfe: network calls it makes.
    """

    @property
    def nfe(self) -> int: ...  # noqa: D102

    def __call__(self, denoise: Denoise, z: Array, gamma: Array, decoder: Decoder) -> Array:
        """Data for the latent `z` at `gamma`, the end of the plan."""
        ...
