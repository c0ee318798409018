"""A logit for every level: any distribution, for data with few levels."""

from dataclasses import dataclass

import jax

from diffusion_jax.allowed import Levels
from diffusion_jax.networks.heads.base import chosen
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Categorical:
    """Softmax over V levels, independent per value."""

    levels: int
    sequential: bool = False

    def outputs(self, channels: int) -> int:
        """A logit for each level."""
        return channels * self.levels

    def log_prob(self, out: Array, image: Array) -> Array:
        """Log-probability of each value, nats."""
        return chosen(self.log_probs(out, image), image)

    def log_probs(self, out: Array, image: Array) -> Array:
        """Log-probabilities of every level, nats."""
        return jax.nn.log_softmax(out.reshape(*image.shape, self.levels))


def make(levels: Levels = 256) -> Categorical:
    """A softmax over `levels` levels (2 to 256)."""
    return Categorical(levels)
