"""What the plug-ins of a model declare, and the one way to refuse a model for it."""

from dataclasses import dataclass, fields
from typing import Any, Protocol

from diffusion_jax.errors import ConfigError


@dataclass(frozen=True)
class Traits:
    """What the plug-ins of a model declare, for code that depends on it: see `require`.

    Attributes:
        latent: length of the schedule's auxiliary latent; 0 for none.
        per_pixel_gamma: whether the schedule gives every pixel its own gamma.
        mean_coefficient: the encoder's correction of the model's mean; 0 for none.
        time_dependent_data: whether the encoded data change with gamma.
        discrete: whether every level of the data has a probability, `log_probs`.
        pixels: whether the data themselves diffuse, not latents of an autoencoder.
        latent_noise: whether the autoencoder adds noise to its latents.
        from_latent: whether it is given the latent of each image, by an autoencoder.
        null_class: whether it was trained without labels and texts too: there is an unconditional
            prediction.
        likelihood: whether its predictions are means of the data, so that it has a bound.
        fourier: whether its network sees Fourier features of z.
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


# What an error says of a model whose trait is not the one required.
_OTHERWISE = {
    "latent": "its schedule draws a latent for each image (MuLAN)",
    "per_pixel_gamma": "its schedule has one gamma per pixel (MuLAN)",
    "mean_coefficient": "its encoder corrects the mean (DiffEnc)",
    "time_dependent_data": "its encoder changes the data with time",
    "discrete": "its decoder has no discrete probabilities",
    "pixels": "it models latents of an autoencoder, not pixels",
    "latent_noise": "its autoencoder adds learned noise",
    "from_latent": "it reads images from latents that are drawn with each",
    "null_class": "it has no null class (it is unconditional, or was trained with class_dropout=0 "
    "or text_dropout=0)",
    "likelihood": "a student of few steps is not a model of likelihood",
    "fourier": "its network sees Fourier features of z, whose slopes are noise at most gammas",
}


class HasTraits(Protocol):
    """A model."""

    @property
    def traits(self) -> Traits: ...  # noqa: D102


def require(model: HasTraits, who: str, instead: str, **needed: Any) -> None:
    """Refuses a model that `who` cannot use.

    Args:
        who: what needs the traits, as the user names it; begins the message.
        instead: how to mend it; ends the message.
        **needed: the values that traits must have, by name.

    Raises:
        ConfigError: the model's traits are others.
    """
    traits = model.traits
    assert needed.keys() <= {f.name for f in fields(traits)}, needed
    reasons = [_OTHERWISE[k] for k, value in needed.items() if getattr(traits, k) != value]
    if reasons:
        raise ConfigError(f"{who} does not take this model: {reasons[0]}; {instead}")
