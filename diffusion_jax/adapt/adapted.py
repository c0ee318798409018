"""The result of the adapters: a denoiser with its range of gamma."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError
from diffusion_jax.model import Model
from diffusion_jax.process.parameterization import from_pred
from diffusion_jax.types import Array, Cond, Pred, alpha, expand, least_noise, sigma

_SLACK = 1e-3  # tolerance in gamma: ends may come in float32

# (x, time [B]) -> prediction, shape of x; with the condition as third argument if conditional.
Theirs = Callable[..., Array]


@dataclass(frozen=True)
class Adapted:
    """A denoiser `(z, gamma, cond) -> Pred` with the range of gamma in which it was trained.

    Outside the range it raises `ConfigError`, or gives NaN if gamma is traced.

    Attributes:
        predict: `(z [B, ...], gamma [B], cond) -> Pred`.
        gamma_min: least gamma in training.
        gamma_max: greatest gamma in training.
    """

    predict: Callable[[Array, Array, Cond], Pred]
    gamma_min: float
    gamma_max: float

    def __call__(self, z: Array, gamma: Array | float, cond: Cond | None = None) -> Pred:
        """The prediction, shapes of `z`, at latents `z` `[B, ...]` and `gamma`, scalar or `[B]`."""
        with contextlib.suppress(jax.errors.TracerArrayConversionError):
            self.check(gamma)
        gamma = jnp.broadcast_to(jnp.asarray(gamma, z.dtype), z.shape[:1])
        lo, hi = self.gamma_min - _SLACK, self.gamma_max + _SLACK
        valid = expand((gamma >= lo) & (gamma <= hi), z)
        pred = self.predict(z, gamma, cond or {})
        return Pred(*(jnp.where(valid, a, jnp.nan) for a in pred))

    def check(self, gammas: Any) -> None:
        """Raises `ConfigError` if any of `gammas` is outside the range."""
        values = np.asarray(gammas, np.float64)
        lo, hi = float(values.min()), float(values.max())
        if lo < self.gamma_min - _SLACK or hi > self.gamma_max + _SLACK:
            raise ConfigError(
                f"this model was trained for gamma from {self.gamma_min:.2f} to "
                f"{self.gamma_max:.2f}, not {lo:.2f} to {hi:.2f}; choose gammas, or gamma_min and "
                "gamma_max, within this range"
            )

    def model(
        self,
        levels: int = 256,
        decoder: str = "categorical()",
        gamma_min: float | None = None,
        gamma_max: float | None = None,
        num_classes: int = 0,
    ) -> Model:
        """A model for bounds and likelihoods.

        Its network has no parameters; `model.init(key, shape)` gives those that the model needs.

        Args:
            levels: number of grey levels of the data.
            decoder: a plug-in of `decoders/`.
            gamma_min: gamma at the data end; by default the value for this number of levels, or
                the least of the range if that is greater.
            gamma_max: gamma at the noise end; by default the greatest of the range.
            num_classes: number of classes in `cond["label"]`; the label `num_classes` means none.

        Raises:
            ConfigError: these ends are outside the model's range.
        """
        lo = max(least_noise(levels), self.gamma_min) if gamma_min is None else gamma_min
        hi = self.gamma_max if gamma_max is None else gamma_max
        self.check((lo, hi))
        ends = {"gamma_min": lo, "gamma_max": hi, "levels": levels}
        return Model(
            network=_Network(self),
            schedule=registry.build("schedules", "linear()", **ends),
            decoder=registry.build("decoders", decoder, **ends),
            prediction="v",
            num_classes=num_classes,
        )


@dataclass(frozen=True)
class _Network:
    """The adapted denoiser as a network without parameters; "v" has the least rounding error."""

    adapted: Adapted

    def init(self, key: Array, z: Array, gamma: Array, cond: Cond) -> dict:
        return {"params": {}}

    def apply(
        self, variables: Any, z: Array, gamma: Array, cond: Cond, keys: Array | None = None
    ) -> Array:
        return from_pred("v", self.adapted(z, gamma, cond), gamma)


def with_cond(f: Theirs, conditional: bool) -> Callable[[Array, Array, Cond], Array]:
    """`f` with the condition as a third argument, which is ignored unless `conditional`."""
    return f if conditional else lambda x, time, cond: f(x, time)


def of_eps(eps: Array, z: Array, g: Array) -> Pred:
    """The `Pred` for a prediction of the noise."""
    return Pred(x=(z - sigma(g) * eps) / alpha(g), eps=eps)
