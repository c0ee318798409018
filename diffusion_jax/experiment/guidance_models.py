"""Second models for guidance, from other runs, and checks that they are of the same images."""

from collections.abc import Callable

from diffusion_jax import registry, saved_config
from diffusion_jax.data.views.whole import Whole
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import (
    Experiment,
    embeddings,
    latents,
    modelled_part,
    other_runs,
    texts,
)
from diffusion_jax.types import Params


def open_helper(experiment: Experiment, kind: str, checkpoint: str) -> tuple[Callable, Params]:
    """Opens a second network for the guidance of `experiment`'s model, see `Helpers`.

    Args:
        experiment: the run.
        kind: `"denoiser"` or a plug-in of `guides`.
        checkpoint: the run of the second network.

    Returns:
        `(bind, params)`.

    Raises:
        ConfigError: the checkpoint is of another kind, or was trained on other data, another part
            of them, or another condition.
    """
    c, made = experiment.config, "" if kind == "denoiser" else kind
    other = other_runs.opened("guidance: checkpoint", checkpoint, made, c.data_dir, c.data)
    held = other.task.holds
    if held != kind:
        raise ConfigError(f"{checkpoint} holds a {held}; the guidance needs a {kind}")
    check_same_data(experiment, other, checkpoint)
    check_same_view(experiment, other, checkpoint)
    latents.check_same(experiment.config, other.config, checkpoint)
    if kind == "denoiser":
        _check_same_network(experiment, other, checkpoint)
    params, _ = other.weights()
    latents.check_weights(experiment, params, checkpoint)
    carry = getattr(other.task, "carried", None)
    if carry is not None:
        params = {**params, **carry(other)}
    return other.task.function(other), params


def _check_same_network(experiment: Experiment, other: Experiment, name: str) -> None:
    """Raises ConfigError if a second denoiser, called `name`, has other conditions or data."""
    mine, theirs = (e.model.num_classes for e in (experiment, other))
    if mine != theirs:
        raise ConfigError(f"{name} has {theirs} classes, this model {mine}")
    texts.check_same(experiment, other, name)
    embeddings.check_same(experiment, other, name)
    for field, trait in (("schedule", "latent"), ("encoder", "mean_coefficient")):
        if len({getattr(e.model.traits, trait) for e in (experiment, other)}) > 1:
            raise ConfigError(
                f"{name} has {field}={other.config[field]!r}, this model "
                f"{experiment.config[field]!r}: guidance needs the same for both"
            )


def check_same_view(experiment: Experiment, other: Experiment, name: str) -> None:
    """Raises ConfigError if a second model, called `name`, is of another part of images."""
    views = [modelled_part.view(e) for e in (experiment, other)]
    if not modelled_part.diffuses(other):  # guides are given no latent
        views = [Whole() if getattr(v, "latent", False) else v for v in views]
    said = [saved_config.meaning("view", e.config.view) for e in (experiment, other)]
    if views[0] != views[1] and said[0] != said[1]:
        raise ConfigError(
            f"{name} was trained with view={other.config.view!r}, this model with "
            f"{experiment.config.view!r}: both must be of the same part of images"
        )
    if modelled_part.diffuses(other) and modelled_part.takes_latent(other):
        taken = [
            registry.parse(e.config.autoencoder).kwargs.get("sha256") for e in (experiment, other)
        ]
        if taken[0] != taken[1]:
            raise ConfigError(
                f"{name} reads images from latents of another autoencoder than this model (the "
                "SHA-256 of its weights differs)"
            )


def check_same_data(experiment: Experiment, other: Experiment, name: str) -> None:
    """Raises ConfigError if a second model, called `name`, is of images of another shape."""
    mine, theirs = ((s.shape, s.levels) for s in (experiment.source, other.source))
    if mine != theirs:
        raise ConfigError(
            f"{name} was trained on {theirs[0]} images with {theirs[1]} levels, this model on "
            f"{mine[0]} with {mine[1]}"
        )
