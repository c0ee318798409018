"""The contract of a sampler, and the algebra samplers share.

A sampler turns a plan (gammas `[n+1]`) into rows of coefficients, once, in float64 where the plan
is concrete, and steps a latent with them. Its memory is explicit (multistep history), so a run is
one `lax.scan`. A step receives the *denoiser*, not a prediction: two-stage methods call it twice.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np

from diffusion_jax.errors import ConfigError
from diffusion_jax.types import Array, Pred

# `(z, gamma)`, conditioning and guidance already inside; it may also be told `to`, where the step
# ends.
Denoise = Callable[..., Pred]
Rows = dict[str, Any]  # coefficient arrays with leading axis [n]


@runtime_checkable
class Sampler(Protocol):
    """One numerical method for the reverse process.

    A sampler that makes the correction of a model's mean which an encoder asks for (DiffEnc) itself
    also has `mean_coefficient`, the encoder's `c`; for all others the denoiser is corrected. One
    whose network must be told more than z and gamma has `cond_scalars`, its names: `("to",)`.
    One whose predictions must lead to the end of the plan, as a consistency model's do, instead of
    being means of the data, has `to_end`, true.

    Attributes:
        nfe_per_step: calls of the denoiser per step.
        noise_share: variance of its noise in the limit of small steps, as a share of ancestral
            sampling's: 0 for a solver of the probability-flow ODE, 1 for ancestral sampling. The
            correction for an encoder depends on it, and inversion needs 0.
    """

    @property
    def nfe_per_step(self) -> int: ...  # noqa: D102

    @property
    def noise_share(self) -> float: ...  # noqa: D102

    def rows(self, gammas: Any) -> Rows:
        """Coefficients of every step, leading axis `[n]`; includes `gamma` (start of the step)."""
        ...

    def init(self, z: Array) -> Any:
        """Memory before the first step (and after any upward move)."""
        ...

    def step(
        self, denoise: Denoise, row: Rows, z: Array, memory: Any, key: Array
    ) -> tuple[Array, Any]:
        """One step: `(z, memory)` at the end of the row.

        Args:
            key: one key, or one per example, `[B]`: draw noise by `rng.normal`, which takes both.
        """
        ...


def noise_share(sampler: Sampler) -> float:
    """`sampler.noise_share`; raises ConfigError if the sampler does not declare it."""
    try:
        return sampler.noise_share
    except AttributeError:
        raise ConfigError(
            f"sampler {type(sampler).__name__} does not declare its noise_share: give it the "
            "attribute (0 for a deterministic solver, 1 for the noise of ancestral sampling), or "
            "use ancestral() or ddim(eta=...)"
        ) from None


def backend(gammas: Any) -> ModuleType:
    """Numpy for concrete host arrays (float64 coefficients), `jax.numpy` otherwise."""
    return np if isinstance(gammas, np.ndarray) else jnp


def softplus(x: Any) -> Any:
    """`log(1 + e^x)` with the array module of `x`."""
    return backend(x).logaddexp(x, 0.0)


def alpha_of(gammas: Any) -> Any:
    """Signal scale with the array module of `gammas` (`types.alpha` is JAX only)."""
    return backend(gammas).exp(-0.5 * softplus(gammas))


def sigma_of(gammas: Any) -> Any:
    """Noise scale with the array module of `gammas`."""
    return backend(gammas).exp(-0.5 * softplus(-gammas))


def scales(gammas: Any) -> tuple[Any, Any, Any, Any]:
    """`(alpha_t, sigma_t, alpha_s, sigma_s)` for each step from `gammas[i]` to `gammas[i+1]`."""
    a, s = alpha_of(gammas), sigma_of(gammas)
    return a[:-1], s[:-1], a[1:], s[1:]


def noise_fraction(gammas: Any) -> Any:
    """`c = 1 - exp(gamma_s - gamma_t)` of each step, by `expm1`; negative for upward moves."""
    return -backend(gammas).expm1(gammas[1:] - gammas[:-1])


def std(variance: Any) -> Any:
    """Square root, 0 for the meaningless negative variances of upward rows."""
    xp = backend(variance)
    return xp.sqrt(xp.maximum(variance, 0.0))


def log_snr_steps(gammas: Any) -> Any:
    """`h = lambda_s - lambda_t = (gamma_t - gamma_s) / 2` of each step; negative upwards."""
    return 0.5 * (gammas[:-1] - gammas[1:])


def previous(a: Any, fill: float) -> Any:
    """`a` of the step before; `fill` for the first step."""
    xp = backend(a)
    return xp.concatenate([xp.full_like(a[:1], fill), a[:-1]])


_FURTHEST = 4.0  # how many steps' length a prediction is extrapolated


def growth(h: Any) -> Any:
    """`h / h_previous` of each step, 0 where multistep methods have no history to use.

    That is the first step, every step after an upward (or empty) move, and one much longer than the
    step before: the difference of two predictions is multiplied by this ratio, so 0 lowers the
    method to order 1 there.
    """
    xp = backend(h)
    before = previous(h, 0.0)
    usable = (before > 0.0) & (h > 0.0) & (h <= _FURTHEST * before)
    return xp.where(usable, h / xp.where(usable, before, 1.0), 0.0)
