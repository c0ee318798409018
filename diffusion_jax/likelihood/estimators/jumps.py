"""The exact density of a flow map of few steps, checked image by image: `jumps(steps=4)`.

If a map E of N jumps from data to noise is a bijection, its inverse generates data with density

    log p(z_0) = log N(E(z_0); 0, I) + sum_k log |det J_k|.

There is no solver and hence no solver error; each Jacobian costs one Jacobian-vector product per
dimension. E need not be a bijection, so the inversion error of the same network is measured for
every image. If it exceeds half a grey level, the value is not a likelihood, and the report says so.
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

_HALF = 0.5  # grey levels: with a larger inversion error the result is another image
_LARGEST = 1024  # dimensions of an image: the size of a Jacobian is their square


@dataclass(frozen=True)
class Jumps:
    """The estimate; fields as the arguments of `make`."""

    steps: int
    draws: int
    k: int = 1
    of_students: bool = True

    @property
    def name(self) -> str:
        """The name for files."""
        return f"jumps_{self.steps}"

    def check(self, model: Model) -> None:
        """Raises ConfigError unless the model is a flow map of pixels.

        Whether it has learned the direction from data to noise is left to the certificate.
        """
        if "to" not in model.cond_scalars:
            need_likelihood(model, f"likelihood {self.name}")  # refuses students of other kinds
            raise ConfigError(
                f"likelihood {self.name}: this network does not receive the end of a jump; train a "
                "student with distill(method=flow_map(both=True)), or use ode() or elbo()"
            )
        require(
            model, "likelihood jumps()", "use its teacher", mean_coefficient=0.0, latent=0,
            pixels=True,
        )  # fmt: skip
        levels(model.decoder)

    def describe(self, dims: int) -> dict[str, Any]:
        """All settings that define the estimate, for data of `dims` dimensions.

        Raises:
            ConfigError: the Jacobians are too large.
        """
        if dims > _LARGEST:
            raise ConfigError(
                f"likelihood jumps(): {dims} dimensions; full Jacobians need at most {_LARGEST}"
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
        """Checks that the map is a bijection at these images.

        Returns:
            `[B]` each: `"misses"`, the largest inversion error in grey levels; `"negative"`, the
            number of Jacobians without a positive determinant; `"condition"`, the worst condition
            number of a Jacobian.
        """
        plan = self._plan(model, params)
        z, _ = self._dequantized(model, params, x, plan[0], keys)
        back, sign, condition = there_and_back(_jump(model, params, cond), z, plan)
        spacing = 2.0 * alpha(plan[0]) / levels(model.decoder)
        errors = jnp.abs(back - z).max(axis=tuple(range(1, z.ndim))) / spacing
        return {"misses": errors, "negative": (~(sign > 0)).sum(0), "condition": condition.max(0)}

    def verdict(self, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
        """Summary of the certificates for reports; `"holds"`: whether the value is a density."""
        lost = ~(arrays["misses"] <= _HALF)  # NaN counts as lost
        return {
            "holds": not lost.any() and not arrays["negative"].any(),
            "way_back_misses_by_at_most": float(arrays["misses"].max()),
            "way_back_misses_by_median": float(np.median(arrays["misses"])),
            "images_that_it_does_not_find_again": int(lost.sum()),
            "negative_determinants": int(arrays["negative"].sum()),
            "condition_at_most": float(arrays["condition"].max()),
        }

    def _plan(self, model: Model, params: Params) -> Array:
        """Equal steps of the schedule's time, data first."""
        times = jnp.linspace(0.0, 1.0, self.steps + 1)
        return model.schedule.gamma(params["schedule"], times)

    def _dequantized(
        self, model: Model, params: Params, x: Array, gamma_0: Array, keys: Array
    ) -> tuple[Array, Array]:
        streams = jax.vmap(lambda key: rng.stream(key, "dequantization", 0))(keys)
        return WAYS["decoder"](model, params, x, gamma_0, streams)


def _jump(model: Model, params: Params, cond: Cond) -> Jump:
    denoiser = model.denoiser(params)

    def jump(z: Array, gamma: Array, end: Array) -> Array:
        ends = jnp.broadcast_to(end, z.shape[:1])
        pred = denoiser(z, gamma, {**cond, "to": ends})
        g = expand(ends, z)
        return alpha(g) * pred.x + sigma(g) * pred.eps

    return jump


def make(steps: Count = 4, draws: Count = 2) -> Jumps:
    """The density of a flow map of few steps, with its invertibility checked image by image.

    Args:
        steps: number of jumps from data to noise, equal in the schedule's time.
        draws: independent dequantisations per image, from which the Monte-Carlo error is estimated.
    """
    return Jumps(steps, draws)
