"""How many of a distribution's equally likely modes the samples cover (Metz et al. 2017)."""

from typing import Any

import numpy as np
from scipy import stats


def floor(modes: int, samples: int) -> float:
    """Expected `KL(found || uniform)` of a perfect sampler, in nats; near `(K - 1) / (2 N)`.

    The value is exact: the number of samples in each of the `K` modes is binomial.
    """
    n = np.arange(1, samples + 1)
    share = n / samples
    chance = stats.binom.pmf(n, samples, 1.0 / modes)
    return float(modes * np.sum(chance * share * np.log(share * modes)))


def found(labels: np.ndarray, modes: int) -> dict[str, Any]:
    """Mode coverage of samples.

    Args:
        labels: the mode of each sample according to a judge, `[N]`.
        modes: number of modes.

    Returns:
        `found`, the number of modes with a sample; `kl`, the divergence of their shares from
        uniform in nats; `floor_found` and `floor_kl`, the values that a perfect sampler expects
        from as many samples; and `modes` and `samples`.
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
