"""A closed list of captions of classes, read by two convolutions: the smallest CLIP there is."""

import math
from dataclasses import dataclass

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.guides._pair import Pair
from diffusion_jax.networks.guides.base import log_sigmoid_loss, unit
from diffusion_jax.networks.layers.tower import Tower
from diffusion_jax.types import Array, Cond, Params

_LENGTH = 64  # bytes of a text


class Words(nn.Module):
    """A text encoder: bytes, two convolutions, the mean over positions.

    Attributes:
        width: channels.
        size: length of the vector.
    """

    width: int
    size: int

    @nn.compact
    def __call__(self, text: Array) -> Array:
        """Vectors `[N, size]` of texts, bytes `[N, L]` padded with 0."""
        there = (text > 0)[..., None]
        h = nn.Embed(256, self.width, embedding_init=nn.initializers.normal(1.0))(text) * there
        for i in range(2):
            h = nn.swish(nn.Conv(self.width, (5,), name=f"conv{i}")(h)) * there
        return nn.Dense(self.size, name="out")(h.sum(1) / there.sum(1))


class Both(nn.Module):
    """Both encoders, and the scale and offset of the similarity.

    Attributes:
        tower: the image tower.
        words: the encoder of texts.
        size: length of the vectors.
    """

    tower: Tower
    words: Words
    size: int

    def setup(self) -> None:
        """Layers."""
        self.image_out = nn.Dense(self.size)
        self.log_scale = self.param("log_scale", nn.initializers.constant(math.log(10.0)), ())
        self.offset = self.param("offset", nn.initializers.constant(-10.0), ())

    def __call__(self, z: Array, gamma: Array, cond: Cond) -> tuple[Array, Array]:
        """Everything, so that `init` makes all weights."""
        return self.of_image(z, gamma), self.of_text(cond)

    def of_image(self, z: Array, gamma: Array, keys: Array | None = None) -> Array:
        """Vectors of images, `[B, size]`."""
        return self.image_out(self.tower(z, gamma, {}, keys))

    def of_text(self, cond: Cond) -> Array:
        """Vectors of texts, bytes `[N, L]`, `[N, size]`."""
        return self.words(cond["text"])

    def line(self, gamma: Array) -> tuple[Array, Array]:
        """Scale and offset, `[B]` each, the same at every gamma."""
        same = jnp.ones_like(gamma)
        return jnp.exp(self.log_scale) * same, self.offset * same


def encode(text: str) -> np.ndarray:
    """A text as bytes, int32 `[64]`, padded with 0.

    Returns:
        The bytes.

    Raises:
        ConfigError: it is empty or too long.
    """
    raw = text.lower().encode()
    if not 0 < len(raw) <= _LENGTH:
        raise ConfigError(f"a text has 1 to {_LENGTH} bytes; {text!r} has {len(raw)}")
    return np.frombuffer(raw.ljust(_LENGTH, b"\0"), np.uint8).astype(np.int32)


@dataclass(frozen=True)
class Listed(Pair):
    """Every caption of a list is a yes-or-no question about every image.

    Attributes:
        captions: texts, each with the classes it is true of.
        num_classes: classes of the data.
        metrics: beside the loss.
    """

    network: Both
    captions: tuple[tuple[str, tuple[int, ...]], ...]
    num_classes: int
    metrics: tuple[str, ...] = ("accuracy",)

    def init(self, key: Array, shape: tuple[int, ...]) -> Params:
        """Initial weights."""
        cond = {"text": self._texts()}
        z = jnp.zeros((2, *shape))
        return {"network": self.network.init(key, z, jnp.zeros(2), cond)["params"]}

    def condition(self, text: str) -> Cond:
        """Bytes of a text, `[1, 64]`."""
        return {"text": jnp.asarray(encode(text))[None]}

    def loss(
        self, params: Params, z: Array, gamma: Array, told: Cond, keys: Array | None
    ) -> dict[str, Array]:
        """Logistic loss, mean over captions, nats; how many of the answers are right."""
        f, g = (
            unit(self.embed_image(params, z, gamma, keys)),
            self.embed_text(params, self._texts()),
        )
        logits = self.logits(params, f, unit(g), gamma)
        true = jnp.asarray(self._truth())[told["label"]]
        right = ((logits > 0.0) == true).astype(logits.dtype)
        return {"loss": log_sigmoid_loss(logits, true).mean(1), "accuracy": right.mean(1)}

    def bank(self, captions: None) -> Cond:
        """The list, all of it equally often."""
        text = self._texts()
        return {"text": text, "share": jnp.full(len(text), 1.0 / len(text))}

    def _texts(self) -> Array:
        return jnp.asarray(np.stack([encode(text) for text, _ in self.captions]))

    def _truth(self) -> np.ndarray:
        """Whether a caption is true of a class, `[classes, captions]`."""
        rows = [np.isin(np.arange(self.num_classes), of) for _, of in self.captions]
        return np.stack(rows, axis=1)


def make(
    body: Tower,
    captions: tuple,
    size: int,
    width: int,
    num_classes: int,
    classes: tuple[str, ...],
) -> Listed:
    """See `clip.make`.

    Raises:
        ConfigError: there is nothing to say about the images, or a caption is of no class.
    """
    given = [(str(text), tuple(of)) for text, of in captions]
    for i, name in enumerate(() if given else classes):
        given += [(name, (i,)), (f"a picture of {name}", (i,))]
    if not given:
        raise ConfigError(
            "clip: the data name no classes; give captions=((text, (0,)),), or have it read the "
            "data's own with --config.text='bytes()'"
        )
    for text, of in given:
        encode(text)
        if not of or not all(0 <= k < num_classes for k in of):
            raise ConfigError(
                f"clip: {text!r} is true of {of}; give classes among 0 .. {num_classes - 1}"
            )
    network = Both(body, Words(width, size, name="words"), size)
    return Listed(network, tuple(given), num_classes)
