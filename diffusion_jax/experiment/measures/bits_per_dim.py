"""Bits per dimension of a run, as `config.eval` says."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from diffusion_jax import registry
from diffusion_jax.data.base import Split
from diffusion_jax.data.passes import Pass
from diffusion_jax.experiment import Experiment
from diffusion_jax.likelihood import bpd
from diffusion_jax.likelihood.objectives.base import Objective
from diffusion_jax.runtime.formatting import plus_minus
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
        medium: what an example is.
    """

    value: float
    standard_error: float
    monte_carlo_se: float
    parts: dict[str, float]
    per_image: np.ndarray
    medium: str = "image"

    def __str__(self) -> str:
        """As the command line prints it."""
        return (
            f"{plus_minus(self.value, self.standard_error)} bits/dim "
            f"(s.e. over {len(self.per_image)} {self.medium}s)"
        )


def over(experiment: Experiment) -> Pass:
    """How `config.eval` goes over a data set."""
    c = experiment.config.eval
    return Pass(experiment.mesh, c.batch, c.seed, c.limit, c.matmul_precision or "")


def bound(
    experiment: Experiment,
    params: Params,
    objective: Objective | None = None,
    split: Split | None = None,
    label: str = "",
    **changes: Any,
) -> bpd.Records:
    """Measures a bound with the draws, the seed and the precision of `config.eval`.

    The bound of continuous time and `config.eval.split` unless given; `changes` are other fields of
    the pass, such as `limit` or `quiet`.
    """
    c = experiment.config.eval
    objective = objective or registry.build("objectives", "continuous()")
    split = split or experiment.source.split(c.split)
    how = replace(over(experiment), **changes)
    return bpd.measure(
        experiment.model, objective, params, split, how, draws=c.draws, label=label or "bits/dim"
    )


def bounds(
    experiment: Experiment,
    params: Params,
    objective: Objective | Sequence[Objective],
    split: Split | None = None,
    label: str = "",
    **changes: Any,
) -> list[bpd.Records]:
    """`bound` of every stage of a cascade, or of the one run; only the first has the run's seed.

    Args:
        objective: one for all of them, or one for each.
    """
    each = objective if isinstance(objective, Sequence) else [objective] * _runs(experiment)
    if not experiment.stages:
        return [bound(experiment, params, each[0], split, label, **changes)]
    seed = experiment.config.eval.seed
    return [
        bound(s, p, o, split, f"{label}, {s.config.view}", **changes, seed=seed + i)
        for i, (s, p, o) in enumerate(zip(experiment.stages, params, each, strict=True))
    ]


def _runs(experiment: Experiment) -> int:
    return len(experiment.stages) or 1


def result(records: bpd.Records, medium: str = "image") -> BitsPerDim:
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
        medium=medium,
    )
