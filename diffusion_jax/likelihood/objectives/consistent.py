"""A bound, and beside it how much predictions drift along the model's own reverse process.

The mean of the data given z is a martingale of the reverse process; a trained network's is one only
where it is right. Daras et al. (2023) add the squared drift over short runs to the loss, estimated
without bias from two of them (`likelihood.prediction_drift`). It is for samples: no gain in bits is
known, and what is evaluated is the bound.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from diffusion_jax import registry, rng
from diffusion_jax.allowed import Count, NotNegative, Share
from diffusion_jax.denoiser import with_condition
from diffusion_jax.errors import ConfigError
from diffusion_jax.likelihood.objectives.base import Objective, bound_of, total
from diffusion_jax.model import Model, require
from diffusion_jax.process.schedules.base import endpoints, gamma_and_slope
from diffusion_jax.sampling import loop
from diffusion_jax.types import Array, Cond, Data, Noise, Params, Terms, diffuse

_SAMPLER = "ancestral()"


@dataclass(frozen=True)
class Consistent:
    """`bound`, with `lam` times the squared drift, summed over values, as the auxiliary term."""

    bound: Objective
    lam: float
    steps: int
    window: float
    note: str = "the loss has the drift of predictions in it; validation and evaluation have not"

    def __call__(self, model: Model, params: Params, x: Data, cond: Cond, noise: Noise) -> Terms:
        """The bound's terms at data `x`, each `[B]`, nats, and the drift."""
        require(
            model, "objective consistent()", "use continuous()", time_dependent_data=False,
            per_pixel_gamma=False, latent=0, pixels=True, from_latent=False,
        )  # fmt: skip
        if noise.latent is None:
            raise ValueError("the runs are random: Noise.latent must have keys")
        terms = self.bound(model, params, x, cond, noise)
        mean = model.coded(params, x).mean
        drift = total(self.drift(model, params, mean, cond, noise, noise.latent))
        return terms._replace(auxiliary=terms.auxiliary + self.lam * drift)

    def drift(
        self, model: Model, params: Params, x: Array, cond: Cond, noise: Noise, keys: Array
    ) -> Array:
        """The product of both drifts, shape of `x`; its mean is the squared mean drift.

        The runs have no gradient, the predictions at their ends have.
        """
        gamma, _ = gamma_and_slope(model.schedule, params["schedule"], noise.t)
        ends = endpoints(model.schedule, params["schedule"])
        gamma, gamma_0, span = jax.lax.stop_gradient((gamma, ends[0], ends[1] - ends[0]))
        end = jnp.maximum(gamma - self.window * span, gamma_0)
        # Runs do not pass through gamma_0; what starts there drifts nowhere.
        share = jnp.linspace(0.0, 1.0, self.steps + 1)[:, None]
        plan = gamma + share * (end - gamma)
        denoise = with_condition(model.denoiser(params, noise.dropout), cond)
        fixed = with_condition(model.denoiser(jax.lax.stop_gradient(params)), cond)
        sampler = registry.build("samplers", _SAMPLER)
        z = diffuse(x, gamma, noise.eps)
        first = denoise(z, gamma).x

        def moved(name: str) -> Array:
            there = loop.run(fixed, sampler, plan, z, rng.stream(keys, name)).end
            return denoise(jax.lax.stop_gradient(there), end).x - first

        return moved("one") * moved("other")


def make(
    inner: Any = None, lam: NotNegative = 2.0, steps: Count = 6, window: Share = 0.05
) -> Consistent:
    """A bound with a penalty on the drift of predictions.

    Args:
        inner: the bound; `continuous()` unless given.
        lam: weight of the squared drift, in nats per squared unit of the data.
        steps: of ancestral sampling in a run; each costs two calls of the network.
        window: length of a run, as a share of the range of gamma.

    Raises:
        ConfigError: the bound is not a bound but weighted itself.
    """
    bound: Objective = inner or registry.build("objectives", "continuous()")
    if bound_of(bound) is not bound:
        raise ConfigError("consistent: inner is no bound; use inner=continuous()")
    return Consistent(bound, float(lam), steps, float(window))
