"""The contract of a proposal: where in time a bound is sampled.

Any density q(t) on [0, 1] estimates the same bound, as `loss(t) / q(t)` with `t ~ q`; a good one
has less variance. Proposals are written in gamma, where their optimum does not depend on the
schedule. They change training only: evaluation has times of its own.
"""

from typing import Protocol, runtime_checkable

import jax

from diffusion_jax.process.schedules.base import Schedule, gamma_and_slope, inverse
from diffusion_jax.types import Array, Params


@runtime_checkable
class Proposal(Protocol):
    """A density of times, fixed or learned from the losses seen so far.

    One whose times are uniform in t, so that the schedule's shape decides where the bound is
    sampled, declares `uniform = True`.
    """

    def init(self) -> Params:
        """The state before the first step; an empty dict if nothing is learned."""

    def times(
        self, state: Params, schedule: Schedule, params: Params, u: Array
    ) -> tuple[Array, Array]:
        """`(t, 1 / q(t))` for uniform numbers `u` `[B]` in [0, 1); `params` of the schedule."""

    def observe(self, fraction: Array, density: Array) -> Params:
        """What to remember of a batch, in sums: micro-batches are added.

        `fraction` `[B]` is the place of gamma between its ends, `density` the loss per unit of
        gamma in nats.
        """

    def update(self, state: Params, seen: Params) -> Params:
        """The state after a step that has seen `seen`."""


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
