"""Latents of a whole training set: their mean and standard deviation, and a cache of them all."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.data.base import Split
from diffusion_jax.data.passes import OneBatch, Pass, kept
from diffusion_jax.data.views.whole import Whole
from diffusion_jax.model import Model
from diffusion_jax.networks.autoencoders.base import is_trained
from diffusion_jax.process.given_latent import gamma_of
from diffusion_jax.training.frozen_latents import encoded
from diffusion_jax.training.state import State, with_arrays
from diffusion_jax.types import Array, Params

STANDARD = "standard"


@kept
def _one_batch(model: Model) -> OneBatch:
    def run(params: Params, rows: dict[str, Array], keys: Array) -> Any:
        return encoded(model, params, model.examples(rows)[0])

    return run


def standardised(model: Model, state: State, train: Split, how: Pass) -> State:
    """The state with latents scaled to mean 0 and variance 1 in each channel, over all of `train`.

    The latents are `y_0`, with the noise of the encoder and of the lowest gamma. The state is
    returned unchanged if training has begun or the autoencoder is not from a checkpoint.
    """
    checkpoint = getattr(model.autoencoder, "checkpoint", "")
    weights = state.params.get("autoencoder", {})
    if int(jax.device_get(state.step)) or not checkpoint or STANDARD not in weights:
        return state
    shift = weights[STANDARD]["shift"]
    identity = {"shift": jnp.zeros_like(shift), "scale": jnp.ones_like(shift)}
    params = {**state.params, "autoencoder": {**weights, STANDARD: identity}}
    of_latents = dataclasses.replace(model, view=Whole()) if model.from_latent else model
    mean, std = how.over(_one_batch(of_latents), params, train, "standardise")
    axes = tuple(range(mean.ndim - 1))
    variance = mean.var(axis=axes) + (0.0 if std is None else np.square(std).mean(axis=axes))
    least = model.schedule.gamma(params["schedule"], jnp.asarray(0.0))
    noise = np.exp(float(gamma_of(model) if model.from_latent else least))
    statistics = {"shift": mean.mean(axis=axes), "scale": np.sqrt(variance + noise)}
    return with_arrays(
        state, {f"autoencoder/{STANDARD}/{name}": a for name, a in statistics.items()}
    )


@dataclass(frozen=True)
class Encoded(Split):
    """A split that also holds the latents of its images."""

    mean: np.ndarray | None = None
    std: np.ndarray | None = None

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Images, labels and latents of the examples at `indices`."""
        return {**super().take(indices), **{k: a[indices] for k, a in self._latents().items()}}

    def everything(self) -> dict[str, np.ndarray]:
        """All examples, with their latents."""
        return {**super().everything(), **self._latents()}

    @property
    def nbytes(self) -> int:
        """Size of `whole`, without labels."""
        return super().nbytes + sum(a.nbytes for a in self._latents().values())

    def _latents(self) -> dict[str, np.ndarray]:
        both = {"mean": self.mean, "std": self.std}
        return {k: a for k, a in both.items() if a is not None}


def cached(model: Model, params: Params, train: Split, how: Pass, most: int) -> Split:
    """The training set with its latents, if these take at most `most` bytes; else unchanged.

    They are computed with the batch size and the function of a training step (see
    `frozen_latents.encoded` for how closely the two agree). A resumed run computes them again, with
    bit for bit the same result.
    """
    values = int(np.prod(model.z_shape(train.shape))) * (2 if model.traits.latent_noise else 1)
    if is_trained(model.space) or model.traits.pixels or 4 * values * len(train) > most:
        return train
    mean, std = how.over(_one_batch(model), params, train, "encode")
    fields = {f.name: getattr(train, f.name) for f in dataclasses.fields(Split)}
    floats = (None if a is None else a.astype(np.float32) for a in (mean, std))
    return Encoded(**fields, **dict(zip(("mean", "std"), floats, strict=True)))
