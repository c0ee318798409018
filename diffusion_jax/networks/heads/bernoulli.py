"""One logit per value, for binary images."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_jax.allowed import Levels
from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.heads.base import chosen
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Bernoulli:
    """An independent Bernoulli distribution for each value."""

    levels: int = 2
    sequential: bool = False

    def outputs(self, channels: int) -> int:
        """The logit of level 1."""
        return channels

    def log_prob(self, out: Array, image: Array) -> Array:
        """Log-probability of each value, nats."""
        return chosen(self.log_probs(out, image), image)

    def log_probs(self, out: Array, image: Array) -> Array:
        """Log-probabilities of levels 0 and 1, nats."""
        return jnp.stack([jax.nn.log_sigmoid(-out), jax.nn.log_sigmoid(out)], axis=-1)


def make(levels: Levels = 2) -> Bernoulli:
    """An independent Bernoulli distribution for each value; the data must have two levels."""
    if levels != 2:
        raise ConfigError(
            f"head bernoulli: these data have {levels} levels, not 2; use logistic() or "
            "categorical()"
        )
    return Bernoulli()
