"""Bits per dimension of a run, with the settings of `config.eval`."""

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
        value: mean over images.
        standard_error: standard error of the mean over images; NaN for a single image.
        monte_carlo_se: the part of it that is due to the draws of times and noise.
        parts: mean of each part (prior, diffusion, reconstruction, ...); they sum to `value`.
        per_image: float `[N]`, in the order of the data.
        medium: name of an example, such as `"image"`.
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
    """The pass over a data set, with the settings of `config.eval`."""
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

    Args:
        experiment: the run.
        params: the weights.
        objective: the bound; by default that of continuous time.
        split: the data; by default `config.eval.split`.
        label: label of the progress bar.
        **changes: other fields of the pass, such as `limit` or `quiet`.
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
    """`bound` for every stage of a cascade, or for a single run; each stage has its own seed.

    Args:
        experiment: the run, or a cascade.
        params: the weights, or those of every stage.
        objective: one for all stages, or one for each.
        split: as for `bound`.
        label: as for `bound`.
        **changes: as for `bound`.
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
    """Summarises records in bits per dimension."""
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
