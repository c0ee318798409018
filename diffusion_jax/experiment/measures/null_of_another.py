"""The bound of a run without text beside that of one that hides its text: `inform.against`."""

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
    """The run without text that `config.inform.against` names, to be measured as this one.

    Raises:
        ConfigError: there is none, or it has texts, classes, other images or another embedding.
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
    """By how many bits per image another run's bound without text is less than this one's."""
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
