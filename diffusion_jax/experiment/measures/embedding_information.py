"""What a CLIP's vector tells a decoder of an image, in bits: a part of `--mode=inform`."""

from typing import Any

import numpy as np

from diffusion_jax.data.base import Split
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment
from diffusion_jax.experiment.measures import bits_per_dim
from diffusion_jax.likelihood import information as lib
from diffusion_jax.types import Params


def measured(run: Experiment, params: Params, split: Split, count: int) -> dict[str, Any]:
    """Bounds of the first images without text: without a vector, with their own and another's.

    Args:
        run: a decoder.
        params: its weights.
        split: with the vectors.
        count: of images.

    Returns:
        `own`, by how many bits an image's vector makes its bound less; `other`, by how many that
        of another image makes it more. Both as `information.bits`.

    Raises:
        ConfigError: there is one image only.
    """
    if count < 2:
        raise ConfigError(
            "eval.limit=1: the vector of another image is measured too, so give two images or more"
        )
    rows = split.take(np.arange(count))
    own = rows["embedding"]
    told = {"embedding": np.stack([0 * own, own, np.roll(own, 1, axis=0)], axis=1)}
    if "text" in rows:
        told["text"] = np.stack([0 * rows["text"][:, 0]] * 3, axis=1)
    nats = lib.measure(
        run.model, params, split, bits_per_dim.over(run), told,
        draws=run.config.eval.draws, label="with and without vector",
    ).nats  # fmt: skip
    none, mine, others = (nats[..., k] for k in range(3))
    return {"own": lib.bits(none - mine), "other": lib.bits(others - none)}
