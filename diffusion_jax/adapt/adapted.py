"""What the adapters give: a denoiser that knows its range of gamma."""

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

_SLACK = 1e-3  # of gamma: ends are given in float32

# (x, clock [B]) -> prediction, shape of x; with a third argument, the condition, if said so.
Theirs = Callable[..., Array]


@dataclass(frozen=True)
class Adapted:
    """A denoiser `(z, gamma, cond) -> Pred` with the range of gamma it was trained on.

    Outside of the range it raises `ConfigError`, or gives NaN where gamma is traced.

    Attributes:
        predict: `(z, gamma, cond) -> Pred`, gamma of the shape of `z`'s batch axis.
        gamma_min: the least noise it knows.
        gamma_max: the most.
    """

    predict: Callable[[Array, Array, Cond], Pred]
    gamma_min: float
    gamma_max: float

    def __call__(self, z: Array, gamma: Array | float, cond: Cond | None = None) -> Pred:
        """The prediction at latents `z` `[B, ...]` and `gamma`, scalar or `[B]`."""
        with contextlib.suppress(jax.errors.TracerArrayConversionError):
            self.check(gamma)
        gamma = jnp.broadcast_to(jnp.asarray(gamma, z.dtype), z.shape[:1])
        lo, hi = self.gamma_min - _SLACK, self.gamma_max + _SLACK
        known = expand((gamma >= lo) & (gamma <= hi), z)
        pred = self.predict(z, gamma, cond or {})
        return Pred(*(jnp.where(known, a, jnp.nan) for a in pred))

    def check(self, gammas: Any) -> None:
        """Raises `ConfigError` if any of `gammas` is outside of the range."""
        values = np.asarray(gammas, np.float64)
        lo, hi = float(values.min()), float(values.max())
        if lo < self.gamma_min - _SLACK or hi > self.gamma_max + _SLACK:
            raise ConfigError(
                f"this model knows gamma from {self.gamma_min:.2f} to {self.gamma_max:.2f}, not "
                f"{lo:.2f} to {hi:.2f}; choose gammas, or gamma_min and gamma_max, within"
            )

    def model(
        self,
        levels: int = 256,
        decoder: str = "categorical()",
        gamma_min: float | None = None,
        gamma_max: float | None = None,
        num_classes: int = 0,
    ) -> Model:
        """A model for bounds and likelihoods, whose parameters are `model.init(key, shape)`.

        Args:
            levels: grey levels of the data.
            decoder: of the folder `decoders/`.
            gamma_min: least noise of the bound; by default what suits the levels, if it is known.
            gamma_max: most noise; by default the most there is.
            num_classes: classes in `cond["label"]`; this number means "no label".

        Raises:
            ConfigError: these ends are outside of the model's range.
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
    """The adapted denoiser as a network without parameters, in the form that rounds least."""

    adapted: Adapted

    def init(self, key: Array, z: Array, gamma: Array, cond: Cond) -> dict:
        return {"params": {}}

    def apply(
        self, variables: Any, z: Array, gamma: Array, cond: Cond, keys: Array | None = None
    ) -> Array:
        return from_pred("v", self.adapted(z, gamma, cond), gamma)


def with_cond(f: Theirs, conditional: bool) -> Callable[[Array, Array, Cond], Array]:
    """`f` with a third argument, the condition, which it sees if `conditional`."""
    return f if conditional else lambda x, clock, cond: f(x, clock)


def of_eps(eps: Array, z: Array, g: Array) -> Pred:
    """The prediction of data that follows from one of the noise."""
    return Pred(x=(z - sigma(g) * eps) / alpha(g), eps=eps)
