"""A bound plus a penalty on the drift of predictions along the model's own reverse process.

The mean of the data given z is a martingale of the reverse process; a network's prediction is one
only where it is exact. Daras et al. (2023) add the squared drift over short runs to the loss,
estimated without bias from two of them (`likelihood.prediction_drift`). This may improve samples;
no gain in bits is known, and evaluation uses the bound alone. Not related to consistency models.
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
    note: str = "the loss includes the drift of predictions; validation and evaluation do not"

    def __call__(self, model: Model, params: Params, x: Data, cond: Cond, noise: Noise) -> Terms:
        """The bound's terms at data `x`, each `[B]`, nats, and the drift."""
        require(
            model, "objective consistent()", "use continuous()", time_dependent_data=False,
            per_pixel_gamma=False, latent=0, pixels=True, from_latent=False,
        )  # fmt: skip
        if noise.latent is None:
            raise ValueError("the runs are random, so Noise.latent must hold PRNG keys")
        terms = self.bound(model, params, x, cond, noise)
        mean = model.coded(params, x).mean
        drift = total(self.drift(model, params, mean, cond, noise, noise.latent))
        return terms._replace(auxiliary=terms.auxiliary + self.lam * drift)

    def drift(
        self, model: Model, params: Params, x: Array, cond: Cond, noise: Noise, keys: Array
    ) -> Array:
        """The product of two drifts, shape of `x`; its expectation is the squared mean drift.

        Gradients flow through the predictions at the ends of the runs, not through the runs.
        """
        gamma, _ = gamma_and_slope(model.schedule, params["schedule"], noise.t)
        ends = endpoints(model.schedule, params["schedule"])
        gamma, gamma_0, span = jax.lax.stop_gradient((gamma, ends[0], ends[1] - ends[0]))
        end = jnp.maximum(gamma - self.window * span, gamma_0)
        # Runs end at gamma_0 at the latest; a run that starts there has no drift.
        share = jnp.linspace(0.0, 1.0, self.steps + 1)[:, None]
        plan = gamma + share * (end - gamma)
        denoise = with_condition(model.denoiser(params, noise.dropout), cond)
        fixed = with_condition(model.denoiser(jax.lax.stop_gradient(params)), cond)
        sampler = registry.build("samplers", _SAMPLER)
        z = diffuse(x, gamma, noise.eps)
        first = denoise(z, gamma).x

        def drift_of(name: str) -> Array:
            z_end = loop.run(fixed, sampler, plan, z, rng.stream(keys, name)).end
            return denoise(jax.lax.stop_gradient(z_end), end).x - first

        return drift_of("one") * drift_of("other")


def make(
    inner: Any = None, lam: NotNegative = 2.0, steps: Count = 6, window: Share = 0.05
) -> Consistent:
    """A bound with a penalty on the drift of predictions.

    Args:
        inner: the bound; None for `continuous()`.
        lam: weight of the squared drift, in nats per squared unit of the data.
        steps: number of ancestral sampling steps in a run; each costs two network calls.
        window: length of a run, as a share of the range of gamma.

    Raises:
        ConfigError: `inner` is not a bound but modifies one.
    """
    bound: Objective = inner or registry.build("objectives", "continuous()")
    if bound_of(bound) is not bound:
        raise ConfigError("consistent: inner is not a bound; use inner=continuous()")
    return Consistent(bound, float(lam), steps, float(window))
