"""The bound of a diffusion whose marginals are all N(0, I): a VAE.

For `standard_normal()` with `prediction='v'` the prior and diffusion terms add up to
`KL(q(z_0 | x) || N(0, I))`, which has a closed form: the continuous-time bound with less variance.
It trains an autoencoder on its own.
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
    """The bound in closed form; evaluation uses `bound`, which holds for any model."""

    bound: Objective
    shape_invariant: bool = False

    def check(self, model: Model) -> None:
        """Raises ConfigError unless the model's marginals are N(0, I)."""
        if not isinstance(model.network, StandardNormal) or model.prediction != "v":
            raise ConfigError(
                "objective vae() needs a model whose marginals are N(0, I); use "
                "network='standard_normal()' and prediction='v', or objective='continuous()'"
            )

    def __call__(self, model: Model, params: Params, x: Data, cond: Cond, noise: Noise) -> Terms:
        """The terms at data `x`, each `[B]`, nats; `prior` holds the whole divergence."""
        x = model.coded(params, x, noise.dropout)
        divergence = prior(model, params, x.mean, cond, noise.dropout, x.std, at_data=True)
        return Terms(
            prior=divergence,
            diffusion=jnp.zeros_like(divergence),
            reconstruction=reconstruction(model, params, x, noise.eps_0, cond, noise.dropout),
        )


def make(bound: Any = None) -> Vae:
    """The bound of a VAE; `bound` is used for evaluation, None for `continuous()`."""
    return Vae(bound or registry.build("objectives", "continuous()"))
