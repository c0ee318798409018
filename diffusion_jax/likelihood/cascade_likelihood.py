"""The likelihood of a cascade: the sum, image by image, of the bounds or densities of its stages.

`experiment/cascade.py` joins the stages, `data/views/` says what each models.

Each stage's noise is its own, so that its Monte-Carlo error is independent of the others'; the
images are the same, so that the standard error over images is that of their sums.
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
        records: of every stage, of the same images, counted by the dimensions of the image.
        own: values of the part that each stage models; those of the image if left out.

    Returns:
        JSON-able, as `bpd.summary`, with `stages`: what each takes per dimension of the image
        (these add up), per value of its own part, and as a share.
    """
    each = [r.per_image() for r in records]
    total = total_per_image(records)
    errors = [r.monte_carlo_se() for r in records]
    names = dict.fromkeys(name for parts in each for name in parts if name != "total")
    zero = np.zeros(len(total))
    stages = []
    own = own or [r.dims for r in records]
    for r, parts, error, values in zip(records, each, errors, own, strict=True):
        mine = mean_se(parts["total"])
        stages.append({
            **mine,
            "monte_carlo_se": error,
            "values": values,
            "bits_per_own_value": mine["bits_per_dim"] * r.dims / values,
            "share": mine["bits_per_dim"] / float(total.mean()),
            "breakdown": {k: mean_se(v) for k, v in parts.items() if k != "total"},
        })  # fmt: skip
    return {
        **mean_se(total),
        "monte_carlo_se": math.sqrt(sum(e * e for e in errors)),
        "breakdown": {n: mean_se(sum((p.get(n, zero) for p in each), zero)) for n in names},
        "images": len(total),
        "draws_per_image": int(records[0].diffusion.shape[1]),
        "stages": stages,
    }


def together(records: Sequence[Records]) -> Records:
    """The records of all stages as those of one model: nats of an image, and draw by draw.

    The times are those of the first: each stage has its own.
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
    """The same of densities: with K weights, the sum of what each stage's K weights bound.

    Args:
        records: of every stage, of the same images, counted by the dimensions of the image.
        own: values of the part that each stage models.
        order: of the solver, if there is one.

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

    total, stages = density.figure(bits(k)), []
    for r, values in zip(records, own, strict=True):
        mine = density.figure(r.bits(k))
        stages.append({
            **mine,
            "values": values,
            "bits_per_own_value": mine["bits_per_dim"] * r.dims / values,
            "share": mine["bits_per_dim"] / total["bits_per_dim"],
        })  # fmt: skip
    halved = [r.halved() for r in records]
    return {
        **total,
        "images": n,
        "draws_per_image": m,
        "by_k": {str(i): density.figure(bits(i)) for i in density.divisors(k)},
        "breakdown": {"density of z_0": part("density"), "dequantization": part("correction")},
        **({"solver": density.solver(np.sum(halved, axis=0), order)} if len(halved[0]) else {}),
        "stages": stages,
    }
