"""Bits per dimension of a run, as `config.eval` says."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from diffusion_jax import registry
from diffusion_jax.data.base import Split
from diffusion_jax.experiment import Experiment
from diffusion_jax.likelihood import bpd
from diffusion_jax.likelihood.objectives.base import Objective
from diffusion_jax.types import Params


@dataclass(frozen=True)
class BitsPerDim:
    """A bound on the bits per dimension of a set of images.

    Attributes:
        value: the mean over images.
        standard_error: of the mean, from the spread over images; NaN for a single image.
        monte_carlo_se: the part of it that comes from the draws of times and noise.
        parts: the mean of each part (prior, diffusion, reconstruction, ...); they add up to
            `value`.
        per_image: float `[N]`, in the order of the data.
    """

    value: float
    standard_error: float
    monte_carlo_se: float
    parts: dict[str, float]
    per_image: np.ndarray

    def __str__(self) -> str:
        """As the command line prints it."""
        return (
            f"{self.value:.4f} +- {self.standard_error:.4f} bits/dim "
            f"(s.e. over {len(self.per_image)} images)"
        )


def bound(
    experiment: Experiment,
    params: Params,
    objective: Objective | None = None,
    split: Split | None = None,
    **changes: Any,
) -> bpd.Records:
    """Measures a bound with the draws, the seed and the precision of `config.eval`.

    Args:
        objective: the bound; that of continuous time unless given.
        split: the images; `config.eval.split` unless given.
        **changes: other arguments of `bpd.measure`.
    """
    c = experiment.config.eval
    options = {"draws": c.draws, "batch": c.batch, "seed": c.seed, "limit": c.limit, **changes}
    objective = objective or registry.build("objectives", "continuous()")
    split = split or experiment.source.split(c.split)
    with jax.default_matmul_precision(c.matmul_precision or None):
        return bpd.measure(experiment.model, objective, params, split, experiment.mesh, **options)


def result(records: bpd.Records) -> BitsPerDim:
    """What was measured, in bits per dimension."""
    per_image = records.per_image()
    total = per_image.pop("total")
    n = len(total)
    return BitsPerDim(
        value=float(total.mean()),
        standard_error=float(total.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan,
        monte_carlo_se=records.monte_carlo_se(),
        parts={k: float(v.mean()) for k, v in per_image.items()},
        per_image=total,
    )
