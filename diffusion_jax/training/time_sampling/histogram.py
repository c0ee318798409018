"""Adaptive times: `p(gamma)` proportional to `sqrt(E m^2)`, m the loss per unit of gamma.

This density has the lowest variance (by Cauchy-Schwarz). The second moment is a moving average in
equal bins between the ends of gamma (Nichol & Dhariwal 2021 keep one per time step).
"""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.allowed import Count, Part, Rate
from diffusion_jax.process.schedules.base import Schedule, endpoints
from diffusion_jax.training.time_sampling.base import Proposal, from_gamma
from diffusion_jax.types import Array, Params

_LARGEST = 1e15  # loss per unit of gamma: the sum of its squares must fit into float32


@dataclass(frozen=True)
class Histogram:
    """A histogram of the loss.

    Attributes:
        bins: number of bins.
        decay: decay of the moving average, per step in which a bin was seen.
        floor: fraction of the samples that is uniform in gamma, which bounds the weights.
    """

    bins: int
    decay: float
    floor: float

    def init(self) -> Params:
        """`{"second": [bins]}`, the mean of m^2; equal at first, so times are uniform in gamma."""
        return {"second": jnp.ones(self.bins)}

    def masses(self, state: Params) -> Array:
        """The probability of each bin, `[bins]`."""
        root = jnp.sqrt(state["second"])
        # Relative to the largest, so that no number leaves the range of float32.
        root = jnp.where(root.max() > 0.0, root / root.max(), 1.0)
        return (1.0 - self.floor) * root / root.sum() + self.floor / self.bins

    def times(
        self, state: Params, schedule: Schedule, params: Params, u: Array
    ) -> tuple[Array, Array]:
        """Times by the piecewise linear quantile, and their weights."""
        masses = self.masses(state)
        cdf = jnp.concatenate([jnp.zeros(1), jnp.cumsum(masses)])
        # Rounding may leave the last value below 1; the last bin then takes the rest.
        index = jnp.clip(jnp.searchsorted(cdf, u, side="right") - 1, 0, self.bins - 1)
        inside = jnp.clip((u - cdf[index]) / masses[index], 0.0, 1.0)
        gamma_0, gamma_1 = endpoints(schedule, params)
        span = gamma_1 - gamma_0
        gamma = gamma_0 + span * (index + inside) / self.bins
        return from_gamma(schedule, params, gamma, masses[index] * self.bins / span)

    def observe(self, fraction: Array, density: Array) -> Params:
        """Sums of m^2 and counts, per bin."""
        index = jnp.clip((fraction * self.bins).astype(jnp.int32), 0, self.bins - 1)
        zeros = jnp.zeros(self.bins, density.dtype)
        square = jnp.minimum(jnp.abs(density), _LARGEST) ** 2
        return {"sum": zeros.at[index].add(square), "count": zeros.at[index].add(1.0)}

    def update(self, state: Params, seen: Params) -> Params:
        """The moving average of the bins that were seen."""
        new = seen["sum"] / jnp.maximum(seen["count"], 1e-12)
        mixed = self.decay * state["second"] + (1.0 - self.decay) * new
        return {"second": jnp.where(seen["count"] > 0, mixed, state["second"])}


def make(bins: Count = 64, decay: Rate = 0.99, floor: Part = 0.1) -> Proposal:
    """The adaptive proposal.

    Args:
        bins: number of bins.
        decay: decay of the moving average, in [0, 1).
        floor: fraction of the samples that is uniform in gamma, in (0, 1].

    Returns:
        The proposal.
    """
    return Histogram(bins, float(decay), float(floor))
