"""The contract of a view: the part of each image that a run models, and the part it is given.

A view is applied to images on their way into the model. Data sets, their digests, augmentations,
and the number of dimensions in bits/dim always refer to whole images.
"""

from typing import Protocol, runtime_checkable

from diffusion_jax import registry
from diffusion_jax.data.base import Source
from diffusion_jax.data.pyramids.base import Pyramid, Shape, low_shape
from diffusion_jax.types import Array

SUBSAMPLE = registry.Spec("subsample")


@runtime_checkable
class View(Protocol):
    """The part of images `[B, H, W, C]`, or videos, that a model sees; all arrays are uint8.

    Attributes:
        pyramid: how images are split; None if they are not.
        halvings: how often the images returned by `join` have been halved, or videos cut. This is
            the number of stages of a cascade that follow.

    A view may have further attributes. `latent = True` and `gamma`: the model is also given the
    latent of each image from the run's autoencoder, with noise at level `gamma`; this does not
    concern the view's methods. `part`: a phrase that describes the modelled part. `span`: the
    modelled frames `(from, to)` of a video, where None is the end.
    """

    @property
    def pyramid(self) -> Pyramid | None: ...  # noqa: D102

    @property
    def halvings(self) -> int: ...  # noqa: D102

    def shape(self, shape: Shape) -> Shape:
        """Shape of the modelled part of an image of `shape`; ConfigError if there is none."""
        ...

    def given_shape(self, shape: Shape) -> Shape | None:
        """Shape of the smaller image, or first frames, that is given; None if nothing is given."""
        ...

    def __call__(self, images: Array) -> tuple[Array, dict[str, Array]]:
        """The modelled part, and `{"low": smaller images or first frames}` or `{}`."""
        ...

    def join(self, part: Array, given: dict[str, Array]) -> Array:
        """The image, at this level of the pyramid, that consists of `part` and `given`."""
        ...


def part_of(view: View, shape: Shape) -> str:
    """A phrase for the modelled part of images of `shape`; empty for whole images."""
    phrase = str(getattr(view, "part", ""))
    whole = view.shape(shape) == tuple(shape) and view.given_shape(shape) is None
    return phrase or ("" if whole else "a part of the image")


def stages_of(view: View) -> str:
    """Placeholders for the runs of a cascade with this view, for messages."""
    return "FIRST,LATER" if hasattr(view, "span") else "LOW,HIGH"


def told_by(view: View) -> str:
    """A phrase for the input that this view gives its model, for messages."""
    return "first frames" if hasattr(view, "span") else "small images"


def known_bits(view: View, source: Source, labelled: bool) -> float | None:
    """The entropy of the modelled part, conditioned on the given part; None if unknown.

    Args:
        view: the view.
        source: the data set.
        labelled: whether to condition on the label too.
    """
    if source.entropy is None:
        return None
    start, end = getattr(view, "span", (0, None))
    if not hasattr(view, "span") and part_of(view, source.shape):
        return None
    first = source.entropy_of_first
    if first is None:
        return source.entropy[labelled] if (start, end) == (0, None) else None
    until = source.entropy if end is None else first(end)
    return until[labelled] - (first(start)[labelled] if start else 0.0)


def pyramid_of(spec: registry.Spec, levels: int) -> Pyramid:
    """Builds a view's pyramid for data with `levels` levels."""
    return registry.build("pyramids", spec, levels=levels)


def halved(shape: Shape, times: int) -> Shape:
    """Shape of an image halved `times` times; ConfigError if a size is odd before the last."""
    for _ in range(times):
        shape = low_shape(shape)
    return shape


def lowered(pyramid: Pyramid, images: Array, times: int) -> Array:
    """Replaces images by their low part `times` times."""
    for _ in range(times):
        images = pyramid.split(images)[0]
    return images
