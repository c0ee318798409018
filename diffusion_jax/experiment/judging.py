"""What a judge says of samples and of real images, and of texts that training never had."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from diffusion_jax import registry
from diffusion_jax.data.base import Split
from diffusion_jax.errors import ConfigError
from diffusion_jax.evaluation.judges.base import shares
from diffusion_jax.experiment import Experiment, informing


def seen(run: Experiment, texts: Sequence[str]) -> np.ndarray:
    """Whether training images have what each text says, all of it at once, `[N]`."""
    captions = run.data.split("train").captions
    assert captions is not None
    if captions.say is None or not captions.law:
        known = {*captions.table}
        return np.asarray([t in known for t in texts])
    known = {captions.say(values) for values, p in captions.law if p > 0}
    known |= {*captions.table}  # those that leave something out
    return np.asarray([t in known for t in texts])


def judged(run: Experiment, images: np.ndarray, texts: Sequence[str]) -> dict[str, Any]:
    """Shares of what is right by `config.quality.judge`; apart for unseen texts if there are any.

    Args:
        images: levels, `[N, H, W, C]`.
        texts: what each was to show.
    """
    judge = registry.build("judges", run.config.quality.judge)
    right = judge.right(images, list(texts))
    found = shares(judge.names, right)
    if not run.data.captioned:
        return found
    old = seen(run, texts)
    if old.all() or not old.any():
        return found
    for name, part in (("seen", old), ("unseen", ~old)):
        found |= {f"{k}, {name}": v for k, v in shares(judge.names, right[part]).items()}
    return found


def of_split(run: Experiment, split: Split) -> dict[str, Any]:
    """The same of real images: what a judge itself gets wrong."""
    return judged(run, np.asarray(split.images), texts_of(run, split))


def texts_of(run: Experiment, split: Split) -> list[str]:
    """The texts of real images: captions, or names of classes."""
    if split.captions is not None:
        return split.captions.strings()
    if not split.num_classes:
        raise ConfigError(f"quality.judge: {split.name} has neither captions nor classes")
    return named_classes(run, split.labels)


def named_classes(run: Experiment, labels: np.ndarray) -> list[str]:
    """Names of classes, as captions have them."""
    names = informing.class_names(run)
    return [names[k] for k in labels]
