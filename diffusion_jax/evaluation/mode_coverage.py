"""How many modes of a law with equally likely modes samples find (Metz et al. 2017)."""

from typing import Any

import numpy as np


def floor(modes: int, samples: int) -> float:
    """What a perfect sampler scores in `KL(found || uniform)`, nats: `(K - 1) / (2 N)`.

    The first order of the bias; it holds where samples are several times as many as modes.
    """
    return (modes - 1) / (2 * samples)


def found(labels: np.ndarray, modes: int) -> dict[str, Any]:
    """Figures of the modes `[N]` that a judge saw.

    Returns:
        `found`, modes with a sample; `kl`, of their shares from uniform, nats; `floor_kl` and
        `floor_found`, what a perfect sampler expects of both with as many samples.
    """
    n, counts = len(labels), np.bincount(labels, minlength=modes)
    share = counts[counts > 0] / n
    return {
        "modes": modes,
        "samples": n,
        "found": int((counts > 0).sum()),
        "kl": float((share * np.log(share * modes)).sum()),
        "floor_found": modes * (1.0 - (1.0 - 1.0 / modes) ** n),
        "floor_kl": floor(modes, n),
    }
