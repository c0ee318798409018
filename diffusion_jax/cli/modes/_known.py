"""The bits of an example beside the entropy that the data are known to have."""

from typing import Any

import numpy as np

from diffusion_jax.data.views.base import known_bits
from diffusion_jax.experiment import Experiment
from diffusion_jax.likelihood import bpd
from diffusion_jax.runtime.formatting import plus_minus


def record(experiment: Experiment, bits: np.ndarray) -> dict[str, Any] | None:
    """What a figure exceeds the known entropy by; None where that is not known.

    It is not where the model is told more of an example than its class: a text, or an embedding.

    Args:
        bits: of each example, `[N]`, or of the part that is modelled of it.
    """
    source, model = experiment.source, experiment.model
    if any(e.model.text or e.model.embedding for e in experiment.stages or (experiment,)):
        return None
    given = model.num_classes > 0
    if experiment.stages:
        known = source.entropy and source.entropy[given]
    elif model.from_latent:
        return None
    else:
        known = known_bits(model.view, source, given)
    if known is None:
        return None
    found = bpd.mean_se(bits)
    return {"entropy_bits": known, "bits": found, "excess_bits": found["bits_per_dim"] - known}


def lines(known: dict[str, Any] | None, part: dict[str, Any] | None = None) -> list[str]:
    """The same for a table; `part` as `_records.part_record` gives it."""
    if known is None:
        return []
    found = plus_minus(known["bits"]["bits_per_dim"], known["bits"]["standard_error"])
    return [
        f"  {found} bits each; {'these' if part else 'the data'} have {known['entropy_bits']:.4f}: "
        f"{known['excess_bits']:.4f} too many"
    ]
