"""Compares bits per example with the entropy of the data, if that is known."""

from typing import Any

import numpy as np

from diffusion_jax.data.views.base import known_bits
from diffusion_jax.experiment import Experiment
from diffusion_jax.likelihood import bpd
from diffusion_jax.runtime.formatting import plus_minus


def record(experiment: Experiment, bits: np.ndarray) -> dict[str, Any] | None:
    """The known entropy, the measured bits and their difference; None if the entropy is unknown.

    It is unknown for a model that is conditioned on more than the class: a text or an embedding.

    Args:
        experiment: the run, or a cascade.
        bits: bits of each example `[N]`, or of the part of it that is modelled.
    """
    source, model = experiment.source, experiment.model
    if any(e.model.text or e.model.embedding for e in experiment.stages or (experiment,)):
        return None
    given = model.num_classes > 0
    if experiment.stages:
        entropy = source.entropy and source.entropy[given]
    elif model.from_latent:
        return None
    else:
        entropy = known_bits(model.view, source, given)
    if entropy is None:
        return None
    mean = bpd.mean_se(bits)
    return {"entropy_bits": entropy, "bits": mean, "excess_bits": mean["bits_per_dim"] - entropy}


def lines(known: dict[str, Any] | None, part: dict[str, Any] | None = None) -> list[str]:
    """Lines for a table from that record; `part` is the result of `_records.part_record`."""
    if known is None:
        return []
    bits = plus_minus(known["bits"]["bits_per_dim"], known["bits"]["standard_error"])
    return [
        f"  {bits} bits per example; entropy{' of this part' if part else ''} "
        f"{known['entropy_bits']:.4f}; excess {known['excess_bits']:.4f}"
    ]
