"""Compares a run's bound without text with that of a run trained without: `inform.against`."""

import dataclasses
from typing import Any

import numpy as np

from diffusion_jax.data.base import Split
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment, embeddings, guidance_models, other_runs
from diffusion_jax.experiment.measures import bits_per_dim
from diffusion_jax.likelihood import information as lib
from diffusion_jax.types import Params

_BARE = "--config.text='' --config.guidance='none()'"


def opened(run: Experiment) -> Experiment:
    """Opens the run without text in `config.inform.against`, with the settings of `run`.

    Raises:
        ConfigError: there is no such run, or it has texts, classes, other images or another
            embedding.
    """
    path = run.config.inform.against
    also = f"; train one with the data of this run, {_BARE}"
    other = other_runs.opened("inform.against", path, None, run.config.data_dir, also=also)
    if other.model.text or other.model.num_classes:
        raise ConfigError(
            f"inform.against={path}: that run has texts or classes; give one without, {_BARE}"
        )
    guidance_models.check_same_data(run, other, path)
    guidance_models.check_same_view(run, other, f"inform.against={path}")
    embeddings.check_same(run, other, f"inform.against={path}")
    other.config.eval = run.config.eval
    return other


def compared(
    run: Experiment, params: Params, split: Split, bits: dict[str, float]
) -> dict[str, Any]:
    """The bits per image by which the other run's bound without text is lower than this one's."""
    other, path = opened(run), run.config.inform.against
    bare = dataclasses.replace(split, labels=np.full_like(split.labels, run.model.num_classes))
    if split.captions is not None and split.captions.ids is not None:
        none = dataclasses.replace(split.captions, ids=0 * split.captions.ids)
        bare = dataclasses.replace(bare, captions=none)
    mine = bits_per_dim.bound(run, params, split=bare, label="without text")
    theirs = bits_per_dim.bound(
        other, other.weights()[0], split=bare, label=f"without text, {path}"
    )
    more = (mine.per_image()["total"] - theirs.per_image()["total"]) * mine.dims
    gap = lib.mean_se(more)
    return {"run": path, "null_looser_by": gap, "information": bits["bits"] - gap["bits"]}
