"""The contract of a proposal: the distribution of the times at which a bound is sampled.

Any density q(t) on [0, 1] gives an unbiased estimate of the bound, `loss(t) / q(t)` with `t ~ q`; a
good one has low variance. Proposals are defined in gamma, where the optimum does not depend on the
schedule. They affect training only; evaluation uses its own times.
"""

from typing import Protocol, runtime_checkable

import jax

from diffusion_jax.process.schedules.base import Schedule, gamma_and_slope, inverse
from diffusion_jax.types import Array, Params


@runtime_checkable
class Proposal(Protocol):
    """A density of times, fixed or learned from the losses seen so far.

    A proposal whose times are uniform in t, so that the schedule's shape decides where the bound is
    sampled, declares `uniform = True`.
    """

    def init(self) -> Params:
        """The state before the first step; an empty dict if nothing is learned."""

    def times(
        self, state: Params, schedule: Schedule, params: Params, u: Array
    ) -> tuple[Array, Array]:
        """`(t, 1 / q(t))` from uniform `u` `[B]` in [0, 1); `params` are the schedule's."""

    def observe(self, fraction: Array, density: Array) -> Params:
        """Statistics of a batch, as sums, so that those of micro-batches can be added.

        `fraction` `[B]` is the position of gamma between its ends, from 0 to 1, and `density` `[B]`
        the loss per unit of gamma in nats.
        """

    def update(self, state: Params, seen: Params) -> Params:
        """The state after a step with the statistics `seen`."""


def is_uniform(proposal: Proposal) -> bool:
    """Whether the proposal declares that its times are uniform in t."""
    return bool(getattr(proposal, "uniform", False))


def from_gamma(
    schedule: Schedule, params: Params, gamma: Array, density: Array
) -> tuple[Array, Array]:
    """Times and weights of gammas drawn with a given density.

    Args:
        schedule: the noise schedule.
        params: its parameters.
        gamma: drawn values, `[B]`.
        density: their density, `[B]`.

    Returns:
        `(t, 1 / q(t))` with `q(t) = density gamma'(t)`.
    """
    t = inverse(schedule, params, gamma)
    _, slope = gamma_and_slope(schedule, params, t)
    return jax.tree.map(jax.lax.stop_gradient, (t, 1.0 / (density * slope)))
