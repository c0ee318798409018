"""The bound of a model that is N(0, I) itself: `standard_normal()` with `prediction='v'`.

All steps of the diffusion together are then `KL(q(z_0 | x) || N(0, I))`, known in closed form: the
bound of continuous time with less variance. It trains an autoencoder on its own.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError
from diffusion_jax.likelihood.objectives.base import Objective, prior, reconstruction
from diffusion_jax.model import Model
from diffusion_jax.networks.backbones.standard_normal import StandardNormal
from diffusion_jax.types import Cond, Data, Noise, Params, Terms


@dataclass(frozen=True)
class Vae:
    """The bound in closed form; `bound` is the same, of any model, and what is evaluated."""

    bound: Objective
    shape_invariant: bool = False

    def check(self, model: Model) -> None:
        """Refuses a model that is not N(0, I)."""
        if not isinstance(model.network, StandardNormal) or model.prediction != "v":
            raise ConfigError(
                "objective vae() is the bound of a model that is N(0, I): use "
                "network='standard_normal()' and prediction='v', or objective='continuous()'"
            )

    def __call__(self, model: Model, params: Params, x: Data, cond: Cond, noise: Noise) -> Terms:
        """The terms at data `x`, each `[B]`, nats; the divergence is the prior's."""
        x = model.coded(params, x, noise.dropout)
        divergence = prior(model, params, x.mean, cond, noise.dropout, x.std, at_data=True)
        return Terms(
            prior=divergence,
            diffusion=jnp.zeros_like(divergence),
            reconstruction=reconstruction(model, params, x, noise.eps_0, cond, noise.dropout),
        )


def make(bound: Any = None) -> Vae:
    """The bound of a VAE; `bound` is what is evaluated, `continuous()` unless given."""
    return Vae(bound or registry.build("objectives", "continuous()"))
