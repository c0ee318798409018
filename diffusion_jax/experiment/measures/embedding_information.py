"""Information of a CLIP embedding about the image, by a decoder: a part of `--mode=inform`."""

from typing import Any

import numpy as np

from diffusion_jax.data.base import Split
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment
from diffusion_jax.experiment.measures import bits_per_dim
from diffusion_jax.likelihood import information as lib
from diffusion_jax.types import Params


def measured(run: Experiment, params: Params, split: Split, count: int) -> dict[str, Any]:
    """Compares bounds without text: without embedding, with the image's own, and with another's.

    Args:
        run: a decoder.
        params: its weights.
        split: the images with their embeddings.
        count: number of images, from the first.

    Returns:
        `own`, the bits by which an image's embedding lowers its bound, and `other`, the bits by
        which that of another image raises it. Both as `information.bits`.

    Raises:
        ConfigError: there is only one image.
    """
    if count < 2:
        raise ConfigError(
            "eval.limit=1: another image's embedding is measured too, so give two images or more"
        )
    rows = split.take(np.arange(count))
    own = rows["embedding"]
    cond = {"embedding": np.stack([0 * own, own, np.roll(own, 1, axis=0)], axis=1)}
    if "text" in rows:
        cond["text"] = np.stack([0 * rows["text"][:, 0]] * 3, axis=1)
    nats = lib.measure(
        run.model, params, split, bits_per_dim.over(run), cond,
        draws=run.config.eval.draws, label="with and without vector",
    ).nats  # fmt: skip
    none, mine, others = (nats[..., k] for k in range(3))
    return {"own": lib.bits(none - mine), "other": lib.bits(others - none)}
