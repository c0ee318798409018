"""The bound of a cascade: the sum, image by image, of the bounds of its stages.

`experiment/cascade.py` joins the stages, `data/views/` says what each models.

Each stage's noise is its own, so that its Monte-Carlo error is independent of the others'; the
images are the same, so that the standard error over images is that of their sums.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from diffusion_jax.likelihood.bpd import Records, mean_se


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


def total_per_image(records: Sequence[Records]) -> np.ndarray:
    """The bound of each image, bits per dimension, `[N]`."""
    return np.sum([r.per_image()["total"] for r in records], axis=0)
