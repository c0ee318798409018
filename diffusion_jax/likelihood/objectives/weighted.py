"""A bound whose loss is weighted by gamma, so that training can favour sample quality.

The weight affects the network only. Prior, reconstruction and the gradient for the schedule's ends
are those of the bound, and evaluation uses the bound (`bound_of` in `base`).
"""

from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError
from diffusion_jax.likelihood.objectives.base import (
    Objective,
    ShapeInvariant,
    bound_of,
    is_shape_invariant,
    without_weight,
)
from diffusion_jax.likelihood.weightings.base import Weighting
from diffusion_jax.model import Model
from diffusion_jax.process.schedules.base import gamma_and_slope
from diffusion_jax.registry import Spec
from diffusion_jax.types import Array, Cond, Data, Noise, Params, Terms


@jax.custom_vjp
def gradient_over(x: Array, w: Array) -> Array:
    """`x`, with its gradient divided by `w`."""
    return x


gradient_over.defvjp(lambda x, w: (x, w), lambda w, g: (without_weight(g, w), jnp.zeros_like(w)))


@dataclass(frozen=True)
class Weighted:
    """`bound` with its diffusion term weighted by `weight`."""

    weight: Weighting
    bound: ShapeInvariant

    @property
    def shape_invariant(self) -> bool:
        """Whether the loss does not depend on the schedule's shape."""
        return self.weight.of_gamma

    def __call__(self, model: Model, params: Params, x: Data, cond: Cond, noise: Noise) -> Terms:
        """The terms at data `x`, `[B]`, nats; their gradient for the schedule is the bound's."""
        x = model.coded(params, x, noise.dropout)
        schedule, cond, kl = model.condition(params, x.mean, cond, noise.latent)
        gamma, slope = gamma_and_slope(model.schedule, schedule, noise.t)
        w = jax.lax.stop_gradient(self.weight(gamma, slope))
        curve = gradient_over(gamma, w), gradient_over(slope, w)
        terms = self.at(model, params, x, cond, noise, *curve)
        return terms._replace(auxiliary=terms.auxiliary + kl)

    def at(
        self,
        model: Model,
        params: Params,
        x: Data,
        cond: Cond,
        noise: Noise,
        gamma: Array,
        slope: Array,
    ) -> Terms:
        """The terms at a given curve; their gradients for it are `w` times the bound's."""
        w = jax.lax.stop_gradient(self.weight(gamma, slope))
        return self.bound.at(model, params, x, cond, noise, gamma, slope * w)


def make(weight: Spec = Spec("sigmoid"), inner: Any = None) -> Weighted:  # noqa: B008  (immutable)
    """The continuous-time bound with its loss weighted by gamma.

    Args:
        weight: a plug-in of `weightings/`: `sigmoid(shift=2.0)`, `edm()`, `logit_normal()`, `x()`,
            `eps()`, `truncated_snr(low=1.0)`.
        inner: the bound; None for `continuous()`.

    Raises:
        ConfigError: `inner` is not a bound but modifies one, or has finitely many steps.
    """
    bound: Objective = inner or registry.build("objectives", "continuous()")
    if bound_of(bound) is not bound:
        raise ConfigError(
            "weighted: inner is already weighted, and would be evaluated as a bound; use a single "
            "weight, with inner=continuous()"
        )
    if not is_shape_invariant(bound) or not hasattr(bound, "at"):
        raise ConfigError(
            "weighted: only the continuous-time bound is a loss per unit of gamma, which a weight "
            "can multiply; use inner=continuous()"
        )
    return Weighted(registry.build("weightings", weight), cast(ShapeInvariant, bound))
