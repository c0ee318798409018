"""The small images, or first frames, that are the input of a later stage, and their noise."""

import numpy as np

from diffusion_jax.compression import files
from diffusion_jax.data.views.base import stages_of, told_by
from diffusion_jax.errors import ConfigError, DataError
from diffusion_jax.experiment import Experiment
from diffusion_jax.runtime import untrusted
from diffusion_jax.runtime.storage import place

_SPLIT = "split:"


def named(
    experiment: Experiment, otherwise: str = ""
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Small images for a later stage that is sampled on its own.

    Args:
        experiment: the run.
        otherwise: default for an empty `config.sample.low`.

    Returns:
        The labels of the images, int32 `[N]`, or None if others are asked for or the model has no
        classes; and the small images, uint8 `[N, h, w, C]`, or None for a model without such an
        input. For a model of images given latents these are whole images, to be encoded.

    Raises:
        ConfigError: the model needs an input and none is named, or the other way round; or the
            classes of the images are not known.
    """
    e, c = experiment, experiment.config.sample
    shape, name = _wanted(e), c.low or otherwise
    if shape is None:
        if c.low:
            raise ConfigError(
                f"sample.low={c.low!r}: this run (view {e.config.view}) has no such input"
            )
        return None, None
    if not name:
        what = "images to encode" if e.model.from_latent else told_by(e.model.view)
        raise ConfigError(
            f"this run (view {e.config.view}) needs {what}: give all stages, --config.stages="
            f"{stages_of(e.model.view)}, or --config.sample.low=FILE (or split:test)"
        )
    classes = 0 if c.labels else e.model.num_classes
    if not name.startswith(_SPLIT):
        try:
            found = files.read(place(name), e.config.eval.split, shape, e.source.levels, classes,
                               e.source.medium)  # fmt: skip
        except DataError as error:
            hint = "the .npz next to a picture of samples has them"
            raise DataError(f"sample.low: {error} ({hint})") from None
        if classes and found.labels is None:
            raise ConfigError(
                f"sample.low={name!r} does not say of what classes its images are: an .npz of "
                "samples does; or say which, --config.sample.labels"
            )
        labels = None if found.labels is None else np.resize(found.labels, c.num)
        return labels, np.resize(found.images, (c.num, *shape))
    split = e.source.split(name.removeprefix(_SPLIT))
    rows = split.take(np.arange(c.num) % len(split))
    low = rows["image"] if e.model.from_latent else e.model.view(rows["image"])[1]["low"]
    low = np.asarray(low)
    return rows["label"] if classes else None, low


def captions_in(experiment: Experiment) -> tuple[str, ...]:
    """The prompts in the file that `config.sample.low` names; empty where it names none.

    Raises:
        ConfigError: the file has none.
        DataError: it cannot be read.
    """
    name = experiment.config.sample.low
    if not name or name.startswith(_SPLIT):
        return ()
    path, found = place(name), {}
    if path.suffix == ".npz":
        try:
            with path.open("rb") as raw:
                found = untrusted.npz(raw)
        except (OSError, untrusted.Malformed) as error:
            raise DataError(f"sample.low: cannot read {path} as an npz file: {error}") from error
    if "caption" not in found:
        raise ConfigError(
            f"sample.low={name!r} does not say what its images show: an .npz of samples does; or "
            "say it, --config.sample.captions"
        )
    return tuple(str(text) for text in found["caption"])


def split_of(experiment: Experiment, otherwise: str = "") -> str:
    """The split of the images of `named`; empty if they come from a file, or there are none."""
    name = experiment.config.sample.low or otherwise
    there = _wanted(experiment) is not None and name.startswith(_SPLIT)
    return name.removeprefix(_SPLIT) if there else ""


def words(experiment: Experiment, name: str) -> str:
    """Describes the input `name` of `named`: for example `"small images of digits/test"`."""
    what = "latents of images" if experiment.model.from_latent else told_by(experiment.model.view)
    part = name.removeprefix(_SPLIT)
    return f"{what} of {name if part == name else experiment.source.split(part).name}"


def _wanted(experiment: Experiment) -> tuple[int, ...] | None:
    """Shape of the input images; None for a model without such an input."""
    shape = tuple(experiment.source.shape)
    return shape if experiment.model.from_latent else experiment.model.view.given_shape(shape)


def check(experiment: Experiment) -> None:
    """Raises ConfigError for noise in small images that the network was not trained with."""
    c, gamma = experiment.config, experiment.config.sample.low_gamma
    if gamma is None:
        return
    ends = experiment.offered()["gamma_min"], c.gamma_max
    if not experiment.offered()["low"] or experiment.model.from_latent:
        raise ConfigError(
            f"sample.low_gamma={gamma}: no stage has small images or first frames as its input"
        )
    if not ends[0] <= gamma <= ends[1] or c.low_clean >= 1:
        trained = f"from {ends[0]} to {ends[1]}" if c.low_clean < 1 else "without noise only"
        raise ConfigError(
            f"sample.low_gamma={gamma} is outside the trained range: this run was trained with "
            f"{told_by(experiment.model.view)} {trained}"
        )
