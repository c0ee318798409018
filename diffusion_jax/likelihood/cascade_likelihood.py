"""The likelihood of a cascade: for each image, the sum of its stages' bounds or densities.

`experiment/cascade.py` joins the stages; `data/views/` defines what each models.

The stages use independent noise, so their Monte-Carlo errors are independent. They use the same
images, so the standard error over images is computed from the per-image sums.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from diffusion_jax.likelihood import density
from diffusion_jax.likelihood.bpd import Records, mean_se
from diffusion_jax.likelihood.density import LogWeights


def summary(records: Sequence[Records], own: Sequence[int] = ()) -> dict[str, Any]:
    """Mean, standard errors and parts, in bits per dimension of the whole image.

    Args:
        records: one per stage, for the same images; their `dims` is that of the whole image.
        own: number of values in the part that each stage models; that of the image if left out.

    Returns:
        JSON-able, as `bpd.summary`, with `stages`: the bits of each stage per dimension of the
        image (these add up), per value of its own part, and as a share of the total.
    """
    per_stage = [r.per_image() for r in records]
    total = total_per_image(records)
    errors = [r.monte_carlo_se() for r in records]
    names = dict.fromkeys(name for parts in per_stage for name in parts if name != "total")
    zero = np.zeros(len(total))
    stages = []
    own = own or [r.dims for r in records]
    for r, parts, error, values in zip(records, per_stage, errors, own, strict=True):
        stage = mean_se(parts["total"])
        stages.append({
            **stage,
            "monte_carlo_se": error,
            "values": values,
            "bits_per_own_value": stage["bits_per_dim"] * r.dims / values,
            "share": stage["bits_per_dim"] / float(total.mean()),
            "breakdown": {k: mean_se(v) for k, v in parts.items() if k != "total"},
        })  # fmt: skip
    return {
        **mean_se(total),
        "monte_carlo_se": math.sqrt(sum(e * e for e in errors)),
        "breakdown": {n: mean_se(sum((p.get(n, zero) for p in per_stage), zero)) for n in names},
        "images": len(total),
        "draws_per_image": int(records[0].diffusion.shape[1]),
        "stages": stages,
    }


def together(records: Sequence[Records]) -> Records:
    """The sum of the stages' records, as records of one model.

    The times are those of the first stage, although each stage has its own.
    """
    auxiliary = [r.auxiliary for r in records if r.auxiliary is not None]
    priors = [
        np.broadcast_to(r.prior[:, None], r.diffusion.shape)
        if r.prior_draws is None
        else r.prior_draws
        for r in records
    ]
    drawn = any(r.prior_draws is not None for r in records)
    return replace(
        records[0],
        prior=np.sum([r.prior for r in records], axis=0),
        diffusion=np.sum([r.diffusion for r in records], axis=0),
        reconstruction=np.sum([r.reconstruction for r in records], axis=0),
        auxiliary=np.sum(auxiliary, axis=0) if auxiliary else None,
        prior_draws=np.sum(priors, axis=0) if drawn else None,
    )


def total_per_image(records: Sequence[Records]) -> np.ndarray:
    """The bound of each image, bits per dimension, `[N]`."""
    return np.sum([r.per_image()["total"] for r in records], axis=0)


def of_densities(records: Sequence[LogWeights], own: Sequence[int], order: int) -> dict[str, Any]:
    """Like `summary`, for densities. With K importance samples: the sum of the K-sample bounds.

    Args:
        records: one per stage, for the same images; their `dims` is that of the whole image.
        own: number of values in the part that each stage models.
        order: order of the solver, if there is one.

    Returns:
        JSON-able, as `density.summary`, with `stages` as `summary` has them.
    """
    n, m, k = records[0].density.shape
    scale = 1.0 / (records[0].dims * math.log(2.0))

    def bits(i: int) -> np.ndarray:
        return np.sum([r.bits(i) for r in records], axis=0)

    def part(name: str) -> dict[str, float]:
        nats = np.sum([getattr(r, name).mean((1, 2)) for r in records], axis=0)
        return mean_se(-nats * scale)

    total, stages = density.mean_and_errors(bits(k)), []
    for r, values in zip(records, own, strict=True):
        stage = density.mean_and_errors(r.bits(k))
        stages.append({
            **stage,
            "values": values,
            "bits_per_own_value": stage["bits_per_dim"] * r.dims / values,
            "share": stage["bits_per_dim"] / total["bits_per_dim"],
        })  # fmt: skip
    halved = [r.halved() for r in records]
    return {
        **total,
        "images": n,
        "draws_per_image": m,
        "by_k": {str(i): density.mean_and_errors(bits(i)) for i in density.divisors(k)},
        "breakdown": {"density of z_0": part("density"), "dequantization": part("correction")},
        **({"solver": density.solver(np.sum(halved, axis=0), order)} if len(halved[0]) else {}),
        "stages": stages,
    }
