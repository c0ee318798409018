"""Per-image log-likelihoods from a density: means, standard errors, the solver's error.

All noise is a function of (seed, image number, draw), so the results do not depend on the batch
size or on the number of devices.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.data.base import Split
from diffusion_jax.data.passes import OneBatch, Pass, kept
from diffusion_jax.likelihood.bpd import mean_se
from diffusion_jax.likelihood.estimators.base import Density
from diffusion_jax.model import Model
from diffusion_jax.types import Array, Cond, Params


@dataclass(frozen=True)
class LogWeights:
    """Log-weights of N images, in nats.

    Attributes:
        density: `log p(z_0)`, `[N, M, K]` for M draws of K samples.
        correction: `log P(x | z_0) - log q(z_0 | x)`, `[N, M, K]`.
        coarse: `density[:, 0, 0]` with half the steps, for the first images only; empty if there is
            no solver.
        dims: dimensions per image.
        certificate: named checks, `[N]` each, that the value is a density at these images; empty
            if none is needed.
    """

    density: np.ndarray
    correction: np.ndarray
    coarse: np.ndarray
    dims: int
    certificate: dict[str, np.ndarray] = field(default_factory=dict)

    def bits(self, k: int) -> np.ndarray:
        """The bound with k of the K samples, bits/dim, `[N, M]`.

        It is the negative log-mean-exp of the log-weights, averaged over disjoint groups of k.

        Args:
            k: a divisor of K.
        """
        log_w = self.density + self.correction
        groups = log_w.reshape(*log_w.shape[:2], -1, k)
        top = groups.max(-1, keepdims=True)
        log_mean = top[..., 0] + np.log(np.exp(groups - top).mean(-1))
        return -log_mean.mean(-1) / (self.dims * math.log(2.0))

    def halved(self) -> np.ndarray:
        """Change in bits/dim when the solver steps are halved, for images evaluated both ways."""
        change = self.density[: len(self.coarse), 0, 0] - self.coarse
        return change / (self.dims * math.log(2.0))


_CHECKED = 32  # number of images for measuring the solver's error


@kept
def one_batch(model: Model, density: Density, check: str = "") -> OneBatch:
    """The function that `measure` maps over batches: `(density, correction)`, `[B, M, K]` each.

    Args:
        check: `"coarse"` or `"certificate"`: return that field of `LogWeights` instead.
    """

    def run(params: Params, rows: dict[str, Array], keys: Array) -> Any:
        x, cond = model.examples(rows)

        def draw(m: Array | int) -> Array:
            return jax.vmap(lambda k: jax.random.fold_in(k, m))(keys)

        def condition(key: Array) -> Cond:
            return model.condition(params, x, cond, key)[1] if model.from_latent else cond

        if check:
            return getattr(density, check)(model, params, x, condition(draw(0)), draw(0))
        weights = jax.lax.map(
            lambda m: density(model, params, x, condition(draw(m)), draw(m)),
            jnp.arange(density.draws),
        )
        return tuple(jnp.moveaxis(a, 1, 0) for a in weights)

    return run


def measure(model: Model, density: Density, params: Params, split: Split, how: Pass) -> LogWeights:
    """Evaluates the density on every image of `split` once.

    Args:
        model: a model that has passed `density.check`.
        params: weights, replicated over the mesh.

    Returns:
        The records of all images, in order.
    """
    logs, correction = how.over(one_batch(model, density), params, split, density.name)
    coarse, certificate = np.zeros(0), {}
    if hasattr(density, "coarse"):
        few = replace(how, limit=min(_CHECKED, len(logs)))
        coarse = few.over(one_batch(model, density, "coarse"), params, split, "solver check")
    if hasattr(density, "certificate"):
        certificate = how.over(one_batch(model, density, "certificate"), params, split, "way back")
    return LogWeights(logs, correction, coarse, math.prod(split.shape), certificate)


def divisors(n: int) -> list[int]:
    """The divisors of `n`, in increasing order."""
    return [k for k in range(1, n + 1) if n % k == 0]


def mean_and_errors(bits: np.ndarray) -> dict[str, Any]:
    """Mean and standard errors of `[N, M]` values, bits/dim; `monte_carlo_se` is None for M = 1."""
    n, m = bits.shape
    noise = float(np.sqrt((bits.var(1, ddof=1) / m).sum()) / n) if m > 1 else None
    return {**mean_se(bits.mean(1)), "monte_carlo_se": noise}


def summary(records: LogWeights, order: int = 1) -> dict[str, Any]:
    """Mean, standard errors, the bound for every divisor of K, and the solver's error.

    Args:
        records: from `measure`.
        order: order of the solver, if there is one.

    Returns:
        JSON-able, bits/dim: `bits_per_dim`, `standard_error` (over images), `monte_carlo_se` (from
        dequantisation and probes alone; already contained in `standard_error`; None for a single
        draw), `by_k`, `breakdown` of the value for K=1, and `solver`, if there is one: the change
        when the steps are halved, and the resulting error estimate for the steps used, which is
        `1 / (2 ** order - 1)` of that change.
    """
    n, m, k = records.density.shape
    scale = 1.0 / (records.dims * math.log(2.0))
    return {
        **mean_and_errors(records.bits(k)),
        "images": n,
        "draws_per_image": m,
        "by_k": {str(i): mean_and_errors(records.bits(i)) for i in divisors(k)},
        "breakdown": {
            "density of z_0": mean_se(-records.density.mean((1, 2)) * scale),
            "dequantization": mean_se(-records.correction.mean((1, 2)) * scale),
        },
        **({"solver": solver(records.halved(), order)} if len(records.coarse) else {}),
    }


def solver(halved: np.ndarray, order: int) -> dict[str, Any]:
    """The solver's error, estimated from the changes `LogWeights.halved`."""
    return {
        "images": len(halved),
        "half_the_steps_changes_by": float(np.abs(halved.mean())),
        "half_the_steps_changes_an_image_by_at_most": float(np.abs(halved).max()),
        "estimated_error": float(np.abs(halved.mean())) / (2**order - 1),
    }
