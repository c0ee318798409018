"""UniPC of order 2 with data prediction (Zhao et al. 2023, with B_2(h) = e^h - 1).

Predictor: DPM-Solver++(2M). Corrector: the same step again with the prediction at its *end* as one
more interpolation point. The next step needs that prediction anyway, so each step here first
corrects the one before it, and the run costs one call per step; the last step stays uncorrected.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from diffusion_jax.sampling.samplers.base import (
    Denoise,
    Rows,
    backend,
    growth,
    log_snr_steps,
    previous,
    scales,
)
from diffusion_jax.types import Array

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)


def _moments(h: Any) -> tuple[Any, Any]:
    """Means of `u` and `u^2` on [0, 1] with density proportional to `exp(h u)`.

    These are the exact weights of linear and quadratic interpolation in an exponential integrator,
    computed by quadrature: the closed form divides differences by h^2, which fails in float32.
    """
    xp = backend(h)
    u = 0.5 * (1.0 + xp.asarray(_NODES, h.dtype))
    p = xp.asarray(_WEIGHTS, h.dtype) * xp.exp(h[..., None] * (u - 1.0))
    p = p / p.sum(-1, keepdims=True)
    return (p * u).sum(-1), (p * u**2).sum(-1)


@dataclass(frozen=True)
class UniPC:
    """Order 3 in practice at one call per step; memory: last prediction and last difference."""

    nfe_per_step: int = 1
    noise_share: float = 0.0

    def rows(self, gammas: Array) -> Rows:
        """Coefficients of every step, and of the correction of the step before it."""
        xp = backend(gammas)
        _, s_t, a_s, s_s = scales(gammas)
        h = log_snr_steps(gammas)
        k = growth(h)
        weight = -a_s * xp.expm1(-h)
        # Correction weights c_1 (old difference) and c_2 (new one); trapezoidal on first steps.
        first, second = _moments(xp.maximum(h, 0.0))
        c_1 = xp.where(k > 0.0, (first - second) * k / (1.0 + k), 0.0)
        c_2 = xp.where(k > 0.0, first - c_1, 0.5)
        down = h > 0.0
        return {
            "gamma": gammas[:-1],
            "growth": k,
            "fix_old": previous(xp.where(down, weight * (c_1 - 0.5), 0.0), 0.0),
            "fix_new": previous(xp.where(down, weight * c_2, 0.0), 0.0),
            "z": s_s / s_t,
            "x": a_s,
            "eps": s_s,
            "difference": 0.5 * weight,
        }

    def init(self, z: Array) -> tuple[Array, Array]:
        """Zeros: the first row multiplies both by 0."""
        return jnp.zeros_like(z), jnp.zeros_like(z)

    def step(
        self, denoise: Denoise, row: Rows, z: Array, memory: tuple[Array, Array], key: Array
    ) -> tuple[Array, tuple[Array, Array]]:
        """Corrects the step before, then predicts."""
        x, eps = denoise(z, row["gamma"])
        x_before, difference_before = memory
        # Add the correction to z rather than recompute z, so that a constraint on z is not undone.
        fix = row["fix_old"] * difference_before + row["fix_new"] * (x - x_before)
        difference = row["growth"] * (x - x_before)
        z = row["x"] * x + row["eps"] * eps + row["z"] * fix + row["difference"] * difference
        return z, (x, difference)


def make() -> UniPC:
    """UniPC of order 2 (predictor and corrector)."""
    return UniPC()
