"""The contract of a view: a part of each image, which a run models, and what it is given.

A view is applied to images on their way into the model, never to stored data: data sets, their
digests and augmentations are those of whole images, and so are the dimensions that bits are
counted by.
"""

from typing import Protocol, runtime_checkable

from diffusion_jax import registry
from diffusion_jax.data.base import Source
from diffusion_jax.data.pyramids.base import Pyramid, Shape, low_shape
from diffusion_jax.types import Array

SUBSAMPLE = registry.Spec("subsample")


@runtime_checkable
class View(Protocol):
    """What of images `[B, H, W, C]`, or videos, a model sees; all arrays are uint8.

    Attributes:
        pyramid: how images are split; None where they are not.
        halvings: how often the images that `join` gives have been halved, or videos cut: as many
            stages of a cascade are to follow.

    One whose model is given the latent of each image, by the run's autoencoder, declares `latent =
    True`, and `gamma`, of the noise in it; nothing of that passes through its methods. One of a
    part of the image says in words what that is, as `part`; one of some frames of a video also
    which, as `span`, `(from, to)`, where None is the end.
    """

    @property
    def pyramid(self) -> Pyramid | None: ...  # noqa: D102

    @property
    def halvings(self) -> int: ...  # noqa: D102

    def shape(self, shape: Shape) -> Shape:
        """Shape of the part of an image of `shape`; `ConfigError` if it has none."""
        ...

    def given_shape(self, shape: Shape) -> Shape | None:
        """Shape of the smaller image, or first frames, that is given; None: nothing is."""
        ...

    def __call__(self, images: Array) -> tuple[Array, dict[str, Array]]:
        """The part, and `{"low": smaller images}`, or first frames, or `{}`."""
        ...

    def join(self, part: Array, given: dict[str, Array]) -> Array:
        """The image of this level that part and given make: what there is to look at."""
        ...


def part_of(view: View, shape: Shape) -> str:
    """What of images of `shape` is modelled, in words; empty for all of them."""
    named = str(getattr(view, "part", ""))
    whole = view.shape(shape) == tuple(shape) and view.given_shape(shape) is None
    return named or ("" if whole else "a part of the image")


def stages_of(view: View) -> str:
    """The runs of all stages of such a cascade, for a message that asks for them."""
    return "FIRST,LATER" if hasattr(view, "span") else "LOW,HIGH"


def told_by(view: View) -> str:
    """What such a view gives its model, in words."""
    return "first frames" if hasattr(view, "span") else "small images"


def known_bits(view: View, source: Source, labelled: bool) -> float | None:
    """The entropy of what is modelled, given what the model is told of it; None if not known.

    Args:
        labelled: whether that includes the label.
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
    """The pyramid of a view of data with so many levels."""
    return registry.build("pyramids", spec, levels=levels)


def halved(shape: Shape, times: int) -> Shape:
    """Shape of an image after so many splits; `ConfigError` if a size is odd before the last."""
    for _ in range(times):
        shape = low_shape(shape)
    return shape


def lowered(pyramid: Pyramid, images: Array, times: int) -> Array:
    """The low part of the low part of ..., so many times."""
    for _ in range(times):
        images = pyramid.split(images)[0]
    return images
