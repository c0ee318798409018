"""The contract of a sampler, and the algebra that samplers share.

A sampler first turns a plan (gammas `[n+1]`) into rows of coefficients, in float64 unless the plan
is traced, and then steps a latent with them. Its memory (multistep history) is explicit, so a run
is one `lax.scan`. A step receives the *denoiser*, not a prediction: two-stage methods call it
twice.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np

from diffusion_jax.errors import ConfigError
from diffusion_jax.types import Array, Pred

# `(z, gamma) -> Pred`, conditioning and guidance already inside. Flow maps also receive the keyword
# `to`, the gamma at which the step ends.
Denoise = Callable[..., Pred]
Rows = dict[str, Any]  # coefficient arrays with leading axis [n]


@runtime_checkable
class Sampler(Protocol):
    """One numerical method for the reverse process.

    Optional attributes: `mean_coefficient`, the encoder's `c`, of a sampler that corrects the mean
    for an encoder (DiffEnc) itself (for all others the denoiser is corrected); `cond_scalars`, the
    names of conditions that its network must receive besides z and gamma, such as `("to",)`;
    `to_end`, true if predictions must be the end of the trajectory, as a consistency model's are,
    instead of means of the data.

    Attributes:
        nfe_per_step: calls of the denoiser per step.
        noise_share: noise variance in the limit of small steps, relative to ancestral sampling: 0
            for a solver of the probability-flow ODE, 1 for ancestral sampling. The correction for
            an encoder depends on it, and inversion needs 0.
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
        """One step: `(z, memory)` at its end.

        Args:
            key: one key, or one per example, `[B]`; draw noise with `rng.normal`, which takes both.
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
    """`a` shifted by one step: the value of the previous step, `fill` for the first."""
    xp = backend(a)
    return xp.concatenate([xp.full_like(a[:1], fill), a[:-1]])


_MAX_GROWTH = 4.0  # predictions are not extrapolated over more than this many previous steps


def growth(h: Any) -> Any:
    """`h / h_previous` of each step, 0 where multistep methods have no history to use.

    These are the first step, every step after an upward (or empty) move, and a step much longer
    than the one before. The difference of two predictions is multiplied by this ratio, so 0 lowers
    the method to order 1 there.
    """
    xp = backend(h)
    before = previous(h, 0.0)
    usable = (before > 0.0) & (h > 0.0) & (h <= _MAX_GROWTH * before)
    return xp.where(usable, h / xp.where(usable, before, 1.0), 0.0)
