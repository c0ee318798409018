"""Capabilities that the plug-ins of a model declare, and the check that a model has them."""

from dataclasses import dataclass, fields
from typing import Any, Protocol

from diffusion_jax.errors import ConfigError


@dataclass(frozen=True)
class Traits:
    """Capabilities of a model, as its plug-ins declare them; code that depends on them: `require`.

    Attributes:
        latent: length of the schedule's auxiliary latent; 0 for none.
        per_pixel_gamma: whether the schedule gives every pixel its own gamma.
        mean_coefficient: the encoder's correction of the model's mean; 0 for none.
        time_dependent_data: whether the encoded data change with gamma.
        discrete: whether every level of the data has a probability, `log_probs`.
        pixels: whether the data themselves diffuse, not latents of an autoencoder.
        latent_noise: whether the autoencoder adds noise to its latents.
        from_latent: whether the model is conditioned on an autoencoder's latent of each image.
        null_class: whether labels and texts were dropped in training, so that an unconditional
            prediction exists.
        likelihood: whether predictions are means of the data, so that the model has a bound.
        fourier: whether the network receives Fourier features of z.
    """

    latent: int
    per_pixel_gamma: bool
    mean_coefficient: float
    time_dependent_data: bool
    discrete: bool
    pixels: bool
    latent_noise: bool
    from_latent: bool
    null_class: bool
    likelihood: bool
    fourier: bool


# Why a model is refused if it does not have the required value of a trait.
_OTHERWISE = {
    "latent": "its schedule draws a latent for each image (MuLAN)",
    "per_pixel_gamma": "its schedule has one gamma per pixel (MuLAN)",
    "mean_coefficient": "its encoder corrects the mean (DiffEnc)",
    "time_dependent_data": "its encoder changes the data with time",
    "discrete": "its decoder has no discrete probabilities",
    "pixels": "it models latents of an autoencoder, not pixels",
    "latent_noise": "its autoencoder adds learned noise",
    "from_latent": "it is conditioned on a latent that is drawn for each image",
    "null_class": "it has no null class (it is unconditional, or was trained with class_dropout=0 "
    "or text_dropout=0)",
    "likelihood": "a student of few steps has no likelihood",
    "fourier": "its network receives Fourier features of z, whose slopes are noise at most gammas",
}


class HasTraits(Protocol):
    """Anything with a `traits` property."""

    @property
    def traits(self) -> Traits: ...  # noqa: D102


def require(model: HasTraits, who: str, instead: str, **needed: Any) -> None:
    """Raises ConfigError unless a model has the traits that `who` needs.

    Args:
        model: the model to check.
        who: what needs the traits, as the user names it; begins the message.
        instead: what to do about it; ends the message.
        **needed: required values of traits, by name.

    Raises:
        ConfigError: a trait has another value.
    """
    traits = model.traits
    assert needed.keys() <= {f.name for f in fields(traits)}, needed
    reasons = [_OTHERWISE[k] for k, value in needed.items() if getattr(traits, k) != value]
    if reasons:
        raise ConfigError(f"{who} does not support this model: {reasons[0]}; {instead}")
