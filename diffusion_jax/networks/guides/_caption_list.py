"""The smallest CLIP: a closed list of captions for classes, encoded by two convolutions."""

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

_LENGTH = 64  # largest number of bytes in a text


class Words(nn.Module):
    """A text encoder: bytes, two convolutions, the mean over positions.

    Attributes:
        width: number of channels.
        size: length of the vector.
    """

    width: int
    size: int

    @nn.compact
    def __call__(self, text: Array) -> Array:
        """Vectors `[N, size]` of texts, bytes `[N, L]` padded with 0."""
        present = (text > 0)[..., None]
        h = nn.Embed(256, self.width, embedding_init=nn.initializers.normal(1.0))(text) * present
        for i in range(2):
            h = nn.swish(nn.Conv(self.width, (5,), name=f"conv{i}")(h)) * present
        return nn.Dense(self.size, name="out")(h.sum(1) / present.sum(1))


class Both(nn.Module):
    """Both encoders, and the scale and offset of the similarity.

    Attributes:
        tower: the image tower.
        words: the text encoder.
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
        """Runs all parts, so that `init` creates all weights."""
        return self.of_image(z, gamma), self.of_text(cond)

    def of_image(self, z: Array, gamma: Array, keys: Array | None = None) -> Array:
        """Vectors of images, `[B, size]`."""
        return self.image_out(self.tower(z, gamma, {}, keys))

    def of_text(self, cond: Cond) -> Array:
        """Vectors `[N, size]` of texts, bytes `[N, L]`."""
        return self.words(cond["text"])

    def line(self, gamma: Array) -> tuple[Array, Array]:
        """Scale and offset, `[B]` each, the same at every gamma."""
        same = jnp.ones_like(gamma)
        return jnp.exp(self.log_scale) * same, self.offset * same


def encode(text: str) -> np.ndarray:
    """A text as bytes, int32 `[64]`, padded with 0.

    Raises:
        ConfigError: it is empty or too long.
    """
    raw = text.lower().encode()
    if not 0 < len(raw) <= _LENGTH:
        raise ConfigError(f"a text must have 1 to {_LENGTH} bytes; {text!r} has {len(raw)}")
    return np.frombuffer(raw.ljust(_LENGTH, b"\0"), np.uint8).astype(np.int32)


@dataclass(frozen=True)
class Listed(Pair):
    """A CLIP in which each caption of a list is a yes-or-no question about each image.

    Attributes:
        network: both encoders.
        captions: texts, each with the classes of which it is true.
        num_classes: number of classes of the data.
        metrics: names of the metrics besides the loss.
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
        self, params: Params, z: Array, gamma: Array, annotations: Cond, keys: Array | None
    ) -> dict[str, Array]:
        """Logistic loss in nats, mean over captions, and the share of correct answers."""
        f, g = (
            unit(self.embed_image(params, z, gamma, keys)),
            self.embed_text(params, self._texts()),
        )
        logits = self.logits(params, f, unit(g), gamma)
        true = jnp.asarray(self._truth())[annotations["label"]]
        right = ((logits > 0.0) == true).astype(logits.dtype)
        return {"loss": log_sigmoid_loss(logits, true).mean(1), "accuracy": right.mean(1)}

    def bank(self, captions: None) -> Cond:
        """The captions of the list, with equal shares."""
        text = self._texts()
        return {"text": text, "share": jnp.full(len(text), 1.0 / len(text))}

    def _texts(self) -> Array:
        return jnp.asarray(np.stack([encode(text) for text, _ in self.captions]))

    def _truth(self) -> np.ndarray:
        """Whether each caption is true of each class, `[classes, captions]`."""
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
        ConfigError: there are no captions, or one belongs to no class.
    """
    pairs = [(str(text), tuple(of)) for text, of in captions]
    for i, name in enumerate(() if pairs else classes):
        pairs += [(name, (i,)), (f"a picture of {name}", (i,))]
    if not pairs:
        raise ConfigError(
            "clip: the data name no classes; give captions=((text, (0,)),), or use the data's own "
            "captions with --config.text='bytes()'"
        )
    for text, of in pairs:
        encode(text)
        if not of or not all(0 <= k < num_classes for k in of):
            raise ConfigError(
                f"clip: {text!r} is true of {of}; give classes among 0 .. {num_classes - 1}"
            )
    network = Both(body, Words(width, size, name="words"), size)
    return Listed(network, tuple(pairs), num_classes)
