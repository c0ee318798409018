"""What a run models: a denoiser or something else, and which part of an image."""

from typing import TYPE_CHECKING

from diffusion_jax import registry
from diffusion_jax.data.views.base import View

if TYPE_CHECKING:
    from diffusion_jax.experiment import Experiment


def diffuses(run: "Experiment") -> bool:
    """Whether the run is a denoiser (or a student), not another kind of network."""
    return run.task.holds in ("denoiser", "student")


def view(run: "Experiment") -> View:
    """The part of an image that the run models."""
    return registry.build("views", run.config.view, levels=run.source.levels)


def takes_latent(run: "Experiment") -> bool:
    """Whether the run is a model of pixels that is conditioned on the latent of each image."""
    return bool(getattr(view(run), "latent", False))
