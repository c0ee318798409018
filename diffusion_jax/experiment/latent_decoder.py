"""A model of latents and a model of images given latents, as one model of images.

    -log P(x) <= E[-log P(x | y_0)] + KL(q(z_0 | x) || p(z_0)),    y_0 = z_0 / alpha_0

The second stage bounds the first term. The first stage, without the decoder of its autoencoder,
bounds the second term. Both use the same `z_0`: the second stage receives latents at the noise
level where the first ends, even if it was trained at another.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import latents
from diffusion_jax.process.given_latent import UNITS, gamma_of
from diffusion_jax.process.schedules.base import endpoints
from diffusion_jax.process.without_decoder import unread
from diffusion_jax.runtime.sharding import local, put, replicated
from diffusion_jax.training.latent_cache import STANDARD
from diffusion_jax.types import Params

if TYPE_CHECKING:
    from diffusion_jax.experiment import Experiment

_OTHERWISE = 1.5  # largest ratio between the noise of latents and that of training


def check(stages: Sequence["Experiment"], names: Sequence[str]) -> None:
    """Raises ConfigError unless the runs are a model of latents and one of images given latents."""
    first, last = stages[0].model, stages[-1].model
    listed = ", ".join(f"{n} (view {s.config.view})" for n, s in zip(names, stages, strict=True))
    if len(stages) != 2 or first.traits.pixels or first.view.halvings or first.from_latent:
        raise ConfigError(
            f"stages: {listed}: give a run of latents of whole images, and then the one that reads "
            "images from them: runs/latent,runs/decoder"
        )
    assert last.autoencoder is not None
    shapes = first.z_shape(stages[0].source.shape), last.given_shape(stages[-1].source.shape)
    if shapes[0] != shapes[1]:
        raise ConfigError(
            f"stages: {names[0]} has latents of shape {shapes[0]}, {names[1]} reads {shapes[1]}"
        )


def join(stages: Sequence["Experiment"]) -> None:
    """Removes the decoder from the first stage: images are decoded by the second."""
    first = stages[0]
    vars(first)["model"] = dataclasses.replace(first.model, autoencoder=unread(first.model.space))
    first.config.final = "identity()"


def in_units_of(stages: Sequence["Experiment"], params: Sequence[Params]) -> tuple[Params, ...]:
    """The weights, with a rescaling from latents of the first stage to those of the second.

    Raises:
        ConfigError: their autoencoders differ, or the noise of `z_0` differs too much from the
            noise that the second stage was trained with.
    """
    first, last = params
    mine, theirs = last["autoencoder"], first["autoencoder"]
    names = [str(s.workdir) for s in stages]
    if latents.digest(mine) != latents.digest(theirs):
        raise ConfigError(
            f"stages: {names[1]} reads latents of another autoencoder than {names[0]} models (the "
            "SHA-256 of their weights differ): train both with the same checkpoint"
        )
    gamma = float(endpoints(stages[0].model.schedule, local(first["schedule"]))[0])
    scale, shift = _between(local(mine), local(theirs))
    here, learned = math.exp(0.5 * gamma) * float(scale.mean()), gamma_of(stages[-1].model)
    if not 1 / _OTHERWISE < here / math.exp(0.5 * learned) < _OTHERWISE:
        wanted = 2.0 * math.log(here)
        raise ConfigError(
            f"stages: {names[0]} ends with latents of gamma {wanted:.2f} to {names[1]}, which was "
            f"trained with {learned:.2f}: train it with view='from_latent(gamma={wanted:.2f})'"
        )
    everywhere = replicated(stages[-1].mesh)
    found = {"scale": scale, "shift": shift, "gamma": np.asarray(gamma, np.float32)}
    units = {k: put(a, everywhere) for k, a in found.items()}
    return first, {**last, "autoencoder": theirs, UNITS: units}


def _between(mine: Params, theirs: Params) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift from the latents as standardised by `theirs` to those of `mine`."""
    if STANDARD not in mine:
        return np.ones((), np.float32), np.zeros((), np.float32)
    own, other = ({k: np.asarray(a) for k, a in p[STANDARD].items()} for p in (mine, theirs))
    return other["scale"] / own["scale"], (other["shift"] - own["shift"]) / own["scale"]
