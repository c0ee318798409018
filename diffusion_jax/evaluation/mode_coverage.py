"""How many modes of a law with equally likely modes samples find (Metz et al. 2017)."""

from typing import Any

import numpy as np
from scipy import stats


def floor(modes: int, samples: int) -> float:
    """What a perfect sampler expects of `KL(found || uniform)`, nats; near `(K - 1) / (2 N)`.

    Exact: the number of samples of each of `K` modes is binomial.
    """
    n = np.arange(1, samples + 1)
    share = n / samples
    chance = stats.binom.pmf(n, samples, 1.0 / modes)
    return float(modes * np.sum(chance * share * np.log(share * modes)))


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
