"""Conditioning a model on the latent of an image: on one draw of `y_0`.

When it is joined with a model of the latents, the two runs may have standardised the same latents
differently. `params["units"]` then holds `scale` and `shift` of each channel, which convert the
latents to the units of the conditioned network, and `gamma`, at which their model ends.
"""

from typing import Protocol

import jax.numpy as jnp

from diffusion_jax.data.views.base import View
from diffusion_jax.networks.autoencoders.base import Autoencoder
from diffusion_jax.process.decoders.base import Decoder
from diffusion_jax.rng import normal, stream
from diffusion_jax.types import Array, Cond, Params

UNITS = "units"


class Conditioned(Protocol):
    """A model conditioned on latents or on low-resolution images."""

    @property
    def autoencoder(self) -> Autoencoder | None: ...  # noqa: D102

    @property
    def view(self) -> View: ...  # noqa: D102

    @property
    def decoder(self) -> Decoder: ...  # noqa: D102

    @property
    def from_latent(self) -> bool: ...  # noqa: D102


def gamma_of(model: Conditioned) -> float:
    """-log SNR of `z_0`: that of the view if it has one, or else `gamma_min` of the autoencoder."""
    gamma = getattr(model.view, "gamma", None)
    assert model.autoencoder is not None
    return model.autoencoder.gamma_min if gamma is None else gamma


def draw(model: Conditioned, params: Params, x: Array, keys: Array) -> Array:
    """One draw of `y_0 = z_0 / alpha_0`, `z_0 ~ q(z_0 | x)`, in the units of the network.

    Args:
        params: weights of the conditioned model.
        x: data in model space, `[B, ...]`.
        keys: one PRNG key, or one per example.
    """
    own_gamma, autoencoder = gamma_of(model), model.autoencoder
    assert autoencoder is not None
    variance = jnp.exp(jnp.asarray(params.get(UNITS, {}).get("gamma", own_gamma), x.dtype))
    mean, std = autoencoder.encode(params["autoencoder"], x)
    if std is not None:
        variance = variance + jnp.square(std)
    eps = normal(stream(keys, "y_0"), mean.shape, mean.dtype)
    return in_own_units(params, mean + jnp.sqrt(variance) * eps)


def in_own_units(params: Params, y: Array) -> Array:
    """Converts latents to the units in which the conditioned network was trained."""
    units = params.get(UNITS)
    return y if units is None else y * units["scale"] + units["shift"]


def condition(model: Conditioned, params: Params, cond: Cond) -> Cond:
    """The condition with `"low"`, stored levels or latents `y_0`, in the units of the network."""
    if "low" not in cond:
        return cond
    if model.from_latent:
        return {**cond, "low": in_own_units(params, cond["low"])}
    return {**cond, "low": model.decoder.encode(cond["low"])}
