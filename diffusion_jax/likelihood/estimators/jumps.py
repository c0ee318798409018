"""The exact density of a flow map of few steps, checked image by image: `jumps(steps=4)`.

A map E of N jumps from data to noise has, where it is a bijection, the density of its inverse:

    log p(z_0) = log N(E(z_0); 0, I) + sum_k log |det J_k|.

Nothing is integrated and nothing regressed, so that there is no error of a solver; each Jacobian
costs a Jacobian-vector product a dimension. Whether E is a bijection is another matter: for every
image the way back by the same network is measured. Where it misses by half a grey level there is
no likelihood, and the report says so.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax import rng
from diffusion_jax.allowed import Count
from diffusion_jax.errors import ConfigError
from diffusion_jax.likelihood.estimators._dequantization import WAYS, levels
from diffusion_jax.likelihood.estimators._maps import Jump, log_density, there_and_back
from diffusion_jax.likelihood.estimators.base import Weights
from diffusion_jax.model import Model, need_likelihood, require
from diffusion_jax.types import Array, Cond, Params, alpha, expand, sigma

_HALF = 0.5  # grey levels: a way back that misses by more ends at another image
_LARGEST = 1024  # dimensions: a Jacobian of an image is the square of them


@dataclass(frozen=True)
class Jumps:
    """The estimate; fields as the arguments of `make`."""

    steps: int
    draws: int
    k: int = 1
    of_students: bool = True

    @property
    def name(self) -> str:
        """For file names."""
        return f"jumps_{self.steps}"

    def check(self, model: Model) -> None:
        """Refuses what is not a flow map of pixels (`ConfigError`).

        Whether it has learned the way from data to noise the certificate shows.
        """
        if "to" not in model.cond_scalars:
            need_likelihood(model, f"likelihood {self.name}")  # of a student there is no other
            raise ConfigError(
                f"likelihood {self.name}: this network is not told where a jump ends; it is of "
                "students trained with distill(method=flow_map(both=True)); use ode() or elbo()"
            )
        require(
            model, "likelihood jumps()", "use its teacher", mean_coefficient=0.0, latent=0,
            pixels=True,
        )  # fmt: skip
        levels(model.decoder)

    def describe(self, dims: int) -> dict[str, Any]:
        """All that defines the estimate, for data of `dims` dimensions.

        Raises:
            ConfigError: the Jacobians are too large.
        """
        if dims > _LARGEST:
            raise ConfigError(
                f"likelihood jumps(): {dims} dimensions; Jacobians are taken up to {_LARGEST}"
            )
        return {
            "kind": f"change of variables of a map of {self.steps} jumps",
            "start": "N(0, I) at gamma_1",
            "dequantization": "decoder",
            "k": 1,
            "draws_per_image": self.draws,
            "trace": "exact determinants",
            "method": "jump",
            "steps": self.steps,
            "network_calls_per_image": self.steps * self.draws,
            "jacobian_vector_products_per_image": self.steps * self.draws * dims,
        }

    def __call__(self, model: Model, params: Params, x: Array, cond: Cond, keys: Array) -> Weights:
        """One draw of the log-weight of `x` (model space, `[B, ...]`) from one key per image."""
        plan = self._plan(model, params)
        z, correction = self._dequantized(model, params, x, plan[0], keys)
        density = log_density(_jump(model, params, cond), z, plan)
        return Weights(density[:, None], correction[:, None])

    def certificate(
        self, model: Model, params: Params, x: Array, cond: Cond, keys: Array
    ) -> dict[str, Array]:
        """What speaks for a bijection at these images, `[B]` each.

        Returns:
            `"misses"`, by how many grey levels the way back misses at most; `"negative"`, how many
            Jacobians have no positive determinant; `"condition"`, the worst of theirs.
        """
        plan = self._plan(model, params)
        z, _ = self._dequantized(model, params, x, plan[0], keys)
        back, sign, condition = there_and_back(_jump(model, params, cond), z, plan)
        spacing = 2.0 * alpha(plan[0]) / levels(model.decoder)
        missed = jnp.abs(back - z).max(axis=tuple(range(1, z.ndim))) / spacing
        return {"misses": missed, "negative": (~(sign > 0)).sum(0), "condition": condition.max(0)}

    def verdict(self, found: dict[str, np.ndarray]) -> dict[str, Any]:
        """What a report says of all certificates; `"holds"` is whether there is a density."""
        lost = ~(found["misses"] <= _HALF)  # NaN is lost, too
        return {
            "holds": not lost.any() and not found["negative"].any(),
            "way_back_misses_by_at_most": float(found["misses"].max()),
            "way_back_misses_by_median": float(np.median(found["misses"])),
            "images_that_it_does_not_find_again": int(lost.sum()),
            "negative_determinants": int(found["negative"].sum()),
            "condition_at_most": float(found["condition"].max()),
        }

    def _plan(self, model: Model, params: Params) -> Array:
        """Equal steps of the schedule's time, data first."""
        times = jnp.linspace(0.0, 1.0, self.steps + 1)
        return model.schedule.gamma(params["schedule"], times)

    def _dequantized(
        self, model: Model, params: Params, x: Array, gamma_0: Array, keys: Array
    ) -> tuple[Array, Array]:
        own = jax.vmap(lambda key: rng.stream(key, "dequantization", 0))(keys)
        return WAYS["decoder"](model, params, x, gamma_0, own)


def _jump(model: Model, params: Params, cond: Cond) -> Jump:
    denoiser = model.denoiser(params)

    def jump(z: Array, gamma: Array, end: Array) -> Array:
        ends = jnp.broadcast_to(end, z.shape[:1])
        pred = denoiser(z, gamma, {**cond, "to": ends})
        g = expand(ends, z)
        return alpha(g) * pred.x + sigma(g) * pred.eps

    return jump


def make(steps: Count = 4, draws: Count = 2) -> Jumps:
    """The density of a flow map of few steps; what it is a density of is checked image by image.

    Args:
        steps: jumps from data to noise, equal in the schedule's time.
        draws: independent dequantisations per image, which the Monte-Carlo error is estimated from.
    """
    return Jumps(steps, draws)
