"""Noised CLIP: the probability that a caption is true of a noisy image.

An encoder of noisy images and one of texts map to unit vectors, and
`log p(true) = log sigmoid(s <f(z, gamma), g(text)> + b)`, where s and b are learned functions of
gamma, since at the highest noise the answer is the base rate (Nichol et al. 2022, "GLIDE", section
3.2, with the loss of Zhai et al. 2023, "SigLIP"). Each image is compared with the captions of all
images in the batch; other images' captions that are true of it count as true.
"""

import math
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from diffusion_jax.allowed import Count, Counts, Finite, Rate, Whole
from diffusion_jax.data.captions import UNSAID, Captions
from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.guides import _caption_list
from diffusion_jax.networks.guides._pair import Pair
from diffusion_jax.networks.guides.base import Guide, log_sigmoid_loss, tower, unit
from diffusion_jax.networks.layers.embed import timestep_embedding
from diffusion_jax.networks.layers.text import read
from diffusion_jax.networks.layers.tower import Tower
from diffusion_jax.networks.text_encoders.base import TextEncoder, as_read, prompts
from diffusion_jax.types import Array, Cond, Params

_GAMMA = 32  # size of the embedding of gamma, for scale and offset
_MOST = 100.0  # largest scale, as in CLIP
_SCALE, _OFFSET = 10.0, -5.0  # initial values
_BANK = 4096  # largest number of captions in the bank


class Reader(nn.Module):
    """Maps texts to vectors: an encoder's pooled vector, and a linear layer.

    Attributes:
        text: the text encoder.
        size: length of the vector.
    """

    text: TextEncoder
    size: int

    @nn.compact
    def __call__(self, cond: Cond) -> Array:
        """Vectors `[N, size]` of `cond["text"]` `[N, L]`, optionally with `"text_weight"`."""
        context, _ = read(self.text, cond, len(cond["text"]))
        assert context is not None
        return nn.Dense(self.size, name="out")(context.pooled)


class Both(nn.Module):
    """Both encoders, and scale and offset of the similarity.

    Attributes:
        tower: the image tower.
        text: the text encoder.
        size: length of the vectors.
    """

    tower: Tower
    text: TextEncoder
    size: int

    def setup(self) -> None:
        """Layers."""
        zeros, start = nn.initializers.zeros, (math.log(_SCALE), _OFFSET)
        self.image_out = nn.Dense(self.size)
        self.reader = Reader(self.text, self.size)
        self.slope = nn.Dense(
            2, kernel_init=zeros, bias_init=lambda *_: jnp.asarray(start, jnp.float32)
        )

    def __call__(self, z: Array, gamma: Array, cond: Cond) -> tuple[Array, Array, Array]:
        """Runs all parts, so that `init` creates all weights."""
        return self.of_image(z, gamma), self.of_text(cond), self.line(gamma)[0]

    def of_image(self, z: Array, gamma: Array, keys: Array | None = None) -> Array:
        """Vectors of images, `[B, size]`, not normalised."""
        return self.image_out(self.tower(z, gamma, {}, keys))

    def of_text(self, cond: Cond) -> Array:
        """Vectors of texts, `[N, size]`, not normalised."""
        return self.reader(cond)

    def line(self, gamma: Array) -> tuple[Array, Array]:
        """Scale (at most 100) and offset, `[B]` each."""
        low, high = self.tower.gamma_min, self.tower.gamma_max
        a, b = self.slope(timestep_embedding((gamma - low) / (high - low), _GAMMA)).T
        return jnp.exp(jnp.minimum(a, math.log(_MOST))), b


@dataclass(frozen=True)
class Clip(Pair):
    """A CLIP whose captions are read by a text encoder.

    Attributes:
        network: both encoders.
        text: the text encoder.
        metrics: names of the metrics besides the loss; `retrieval` is whether an image's caption
            has a higher logit than all captions that are not true of it.
    """

    network: Both
    text: TextEncoder
    metrics: tuple[str, ...] = ("retrieval",)

    @property
    def reader(self) -> TextEncoder:
        """The text encoder."""
        return self.text

    def init(self, key: Array, shape: tuple[int, ...]) -> Params:
        """Initial weights."""
        cond = self.condition("")
        return {"network": self.network.init(key, jnp.zeros((2, *shape)), jnp.zeros(2), cond)[
            "params"]}  # fmt: skip

    def condition(self, text: str) -> Cond:
        """The network's condition for a prompt, arrays with a leading axis 1."""
        prompt = prompts(self.text, [text])
        ids, weight = as_read(self.text, prompt.ids), prompt.weight
        return {"text": jnp.asarray(ids), "text_weight": jnp.asarray(weight)}

    def loss(
        self, params: Params, z: Array, gamma: Array, annotations: Cond, keys: Array | None
    ) -> dict[str, Array]:
        """Logistic loss in nats, mean over the captions of the batch or of the bank."""
        captions = {k: annotations[k] for k in ("text", "caption", "says") if k in annotations}
        bank: Any = annotations.get("bank", captions)
        f, g = unit(self.embed_image(params, z, gamma, keys)), self.texts(params, captions)
        bank_g = self.texts(params, bank) if "bank" in annotations else g
        logits = self.logits(params, f, bank_g, gamma)
        true, present = truth(annotations, bank), bank["caption"] >= 0
        pairs = present & (annotations["caption"] >= 0)[:, None]
        loss = jnp.where(pairs, log_sigmoid_loss(logits, true), 0.0).sum(1)
        matching = self.logits(params, f, g[..., None], gamma)[:, 0]
        best_false = jnp.where(true | ~present, -jnp.inf, logits).max(1)
        return {
            "loss": loss / jnp.maximum(present.sum(), 1),
            "retrieval": (matching > best_false) * 1.0,
        }

    def bank(self, captions: Captions | None) -> Cond:
        """Captions of training with their shares, as alternatives to a text; see `Opened.bank`."""
        assert captions is not None
        arrays = captions.bank(_BANK)
        return {k: jnp.asarray(arrays[k]) for k in ("text", "share")}


def truth(annotations: Cond, bank: Cond) -> Array:
    """Which captions of `bank` are true of which images, bool `[B, N]`.

    True are an image's own captions and, where attributes are known, every caption that contradicts
    none of them.

    Args:
        annotations: `"captions"` int32 `[B, M]`, all those of an image, -1 for none; optionally
            `"attributes"` `[B, A]`.
        bank: `"caption"` int32 `[N]`, and optionally `"says"` `[N, A]`; see `data.captions`.
    """
    true = (annotations["captions"][:, :, None] == bank["caption"]).any(1)
    if "says" in bank:
        says = bank["says"]
        agrees = (says == annotations["attributes"][:, None]) | (says == UNSAID)
        true |= agrees.all(-1)
    return true & (bank["caption"] >= 0)


def make(
    captions: tuple = (),
    size: Count = 32,
    width: Count = 64,
    mults: Counts = (1, 2),
    blocks: Count = 2,
    dropout: Rate = 0.1,
    num_classes: Whole = 0,
    classes: tuple[str, ...] = (),
    gamma_min: Finite = -13.3,
    gamma_max: Finite = 5.0,
    dtype: str = "float32",
    text: TextEncoder | None = None,
    places: Count = 4,
    groups: Count = 8,
) -> Guide:
    """Encoders of noisy images and texts.

    In a run that reads its data's captions (`config.text`) those are the texts. Otherwise they are
    a list for classes, read by a small encoder of bytes.

    Args:
        captions: pairs of a text and the classes of which it is true; empty for the names of the
            classes, alone and as `"a picture of NAME"`.
        size: length of the common vectors.
        width: channels at full resolution, and of the text encoder for a list.
        mults: channel multiplier of each resolution.
        blocks: residual blocks per resolution.
        dropout: rate in the image encoder's blocks.
        num_classes: number of classes of the data.
        classes: names of the classes.
        gamma_min: gamma at which the time embedding is 0.
        gamma_max: gamma at which it is 1.
        dtype: `"float32"` or `"bfloat16"` arithmetic.
        text: the run's text encoder; None if it reads no captions.
        places: the image encoder averages over each of `places x places` parts of an image, so that
            its vectors contain positions; 1 for the mean over the whole image.
        groups: largest number of groups in the norm before the mean over positions; see `Tower`.

    Returns:
        The guide.

    Raises:
        ConfigError: there are no captions, one belongs to no class, or there is both `text` and a
            list of captions.
    """
    body = tower(width, mults, blocks, dropout, 0, gamma_min, gamma_max, dtype, places, groups)
    if text is None:
        return _caption_list.make(body, captions, size, width, num_classes, classes)
    if captions:
        raise ConfigError(
            "clip: with text the data's captions are used; leave out captions=..., or text for a "
            "list"
        )
    return Clip(Both(body, text, size), text)
