"""Second models for guidance, from other runs, and checks that they are of the same images."""

from collections.abc import Callable

from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment, latents, other_runs, texts
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
        ConfigError: the checkpoint is of another kind, or was trained on other data.
    """
    c, made = experiment.config, "" if kind == "denoiser" else kind
    other = other_runs.opened("guidance: checkpoint", checkpoint, made, c.data_dir, c.data)
    held = other.task.holds
    if held != kind:
        raise ConfigError(f"{checkpoint} holds a {held}; the guidance needs a {kind}")
    check_same_data(experiment, other, checkpoint)
    latents.check_same(experiment.config, other.config, checkpoint)
    params, _ = other.weights()
    latents.check_weights(experiment, params, checkpoint)
    if held == experiment.task.holds:
        mine, theirs = (e.model.num_classes for e in (experiment, other))
        if mine != theirs:
            raise ConfigError(f"{checkpoint} has {theirs} classes, this model {mine}")
        texts.check_same(experiment, other, checkpoint)
    carry = getattr(other.task, "carried", None)
    if carry is not None:
        params = {**params, **carry(other)}
    return other.task.function(other), params


def check_same_data(experiment: Experiment, other: Experiment, name: str) -> None:
    """Raises ConfigError if a second model, called `name`, is of images of another shape."""
    mine, theirs = ((s.shape, s.levels) for s in (experiment.source, other.source))
    if mine != theirs:
        raise ConfigError(
            f"{name} was trained on {theirs[0]} images with {theirs[1]} levels, this model on "
            f"{mine[0]} with {mine[1]}"
        )
