"""Per-image log-likelihoods from a density: means, standard errors, the solver's error.

All noise is a function of (seed, image number, draw), so the figures do not depend on the batch
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
    """What one pass measured, in nats.

    Attributes:
        density: `log p(z_0)`, `[N, M, K]` for M draws of K samples.
        correction: `log P(x | z_0) - log q(z_0 | x)`, likewise.
        coarse: `density[:, 0, 0]` with half the steps, of the first images only; empty if nothing
            is integrated.
        dims: dimensions per image.
        certificate: what speaks for a density, by name, `[N]`; empty where nothing can be doubted.
    """

    density: np.ndarray
    correction: np.ndarray
    coarse: np.ndarray
    dims: int
    certificate: dict[str, np.ndarray] = field(default_factory=dict)

    def bits(self, k: int) -> np.ndarray:
        """The bound with k of the K samples, bits/dim, `[N, M]`; mean over disjoint groups of k.

        Args:
            k: a divisor of K.

        Returns:
            The negative log-mean-exp of the log-weights.
        """
        log_w = self.density + self.correction
        groups = log_w.reshape(*log_w.shape[:2], -1, k)
        top = groups.max(-1, keepdims=True)
        log_mean = top[..., 0] + np.log(np.exp(groups - top).mean(-1))  # -log K is in the mean
        return -log_mean.mean(-1) / (self.dims * math.log(2.0))

    def halved(self) -> np.ndarray:
        """What half the steps change of the images that were tried with both, bits/dim."""
        change = self.density[: len(self.coarse), 0, 0] - self.coarse
        return change / (self.dims * math.log(2.0))


_CHECKED = 32  # images that the solver's error is measured on


@kept
def one_batch(model: Model, density: Density, check: str = "") -> OneBatch:
    """What `measure` makes of a batch: `(density, correction)`, `[B, M, K]` each.

    Args:
        check: `"coarse"` or `"certificate"`, what they are in `LogWeights`, instead.
    """

    def run(params: Params, rows: dict[str, Array], keys: Array) -> Any:
        x, cond = model.examples(rows)

        def draw(m: Array | int) -> Array:
            return jax.vmap(lambda k: jax.random.fold_in(k, m))(keys)

        def told(key: Array) -> Cond:
            return model.condition(params, x, cond, key)[1] if model.from_latent else cond

        if check:
            return getattr(density, check)(model, params, x, told(draw(0)), draw(0))
        found = jax.lax.map(
            lambda m: density(model, params, x, told(draw(m)), draw(m)), jnp.arange(density.draws)
        )
        return tuple(jnp.moveaxis(a, 1, 0) for a in found)

    return run


def measure(model: Model, density: Density, params: Params, split: Split, how: Pass) -> LogWeights:
    """Evaluates the density on every image of `split` once.

    Args:
        model: the model; must have passed `density.check`.
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
    """Of `n`, from 1 up."""
    return [k for k in range(1, n + 1) if n % k == 0]


def figure(bits: np.ndarray) -> dict[str, Any]:
    """Mean and errors of `[N, M]`, bits/dim; the Monte-Carlo one needs two draws or more."""
    n, m = bits.shape
    noise = float(np.sqrt((bits.var(1, ddof=1) / m).sum()) / n) if m > 1 else None
    return {**mean_se(bits.mean(1)), "monte_carlo_se": noise}


def summary(records: LogWeights, order: int = 1) -> dict[str, Any]:
    """Mean, standard errors, the bound for every K that divides the K used, the solver's error.

    Args:
        records: from `measure`.
        order: of the solver, if there is one.

    Returns:
        JSON-able, bits/dim: `bits_per_dim`, `standard_error` (over images), `monte_carlo_se` (of
        dequantisation and probes; contained in the former; None for a single draw), `by_k`,
        `breakdown` of the K=1 figure, and `solver`: what half the steps would change, and the
        error that follows for the steps used, `1 / (2 ** order - 1)` of it; only if there is one.
    """
    n, m, k = records.density.shape
    scale = 1.0 / (records.dims * math.log(2.0))
    return {
        **figure(records.bits(k)),
        "images": n,
        "draws_per_image": m,
        "by_k": {str(i): figure(records.bits(i)) for i in divisors(k)},
        "breakdown": {
            "density of z_0": mean_se(-records.density.mean((1, 2)) * scale),
            "dequantization": mean_se(-records.correction.mean((1, 2)) * scale),
        },
        **({"solver": solver(records.halved(), order)} if len(records.coarse) else {}),
    }


def solver(halved: np.ndarray, order: int) -> dict[str, Any]:
    """What half the steps change, from `LogWeights.halved`, and the error that follows."""
    return {
        "images": len(halved),
        "half_the_steps_changes_by": float(np.abs(halved.mean())),
        "half_the_steps_changes_an_image_by_at_most": float(np.abs(halved).max()),
        "estimated_error": float(np.abs(halved.mean())) / (2**order - 1),
    }
