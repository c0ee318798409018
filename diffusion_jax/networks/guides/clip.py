"""Images and texts in one space: is a caption true of a noisy image?

An encoder of noisy images and one of texts, both to vectors of unit length, and
`log p(true) = log sigmoid(s <f(z, gamma), g(text)> + b)` with s and b that are learned and know
gamma, since at the most noise the answer is the base rate: noised CLIP (Nichol et al. 2022,
"GLIDE", section 3.2) with the loss of Zhai et al. 2023 ("SigLIP"). Each image is held against the
captions of all images in the batch; those that are true of it as well count as true.
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

_GAMMA = 32  # numbers that say gamma to scale and offset
_MOST = 100.0  # of the scale, as CLIP's
_SCALE, _OFFSET = 10.0, -5.0  # to begin with
_BANK = 4096  # captions at most that a text is told from


class Reader(nn.Module):
    """Texts to vectors: an encoder's pooled vector, and a linear layer.

    Attributes:
        text: how texts are read.
        size: length of the vector.
    """

    text: TextEncoder
    size: int

    @nn.compact
    def __call__(self, cond: Cond) -> Array:
        """Vectors `[N, size]` of `cond["text"]` `[N, L]`, perhaps with `"text_weight"`."""
        context, _ = read(self.text, cond, len(cond["text"]))
        assert context is not None
        return nn.Dense(self.size, name="out")(context.pooled)


class Both(nn.Module):
    """Both encoders, and scale and offset of the similarity.

    Attributes:
        tower: of images.
        text: how texts are read.
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
        """Everything, so that `init` makes all weights."""
        return self.of_image(z, gamma), self.of_text(cond), self.line(gamma)[0]

    def of_image(self, z: Array, gamma: Array, keys: Array | None = None) -> Array:
        """Vectors of images, `[B, size]`, not of unit length."""
        return self.image_out(self.tower(z, gamma, {}, keys))

    def of_text(self, cond: Cond) -> Array:
        """Vectors of texts, `[N, size]`, not of unit length."""
        return self.reader(cond)

    def line(self, gamma: Array) -> tuple[Array, Array]:
        """Scale (at most 100) and offset, `[B]` each."""
        low, high = self.tower.gamma_min, self.tower.gamma_max
        a, b = self.slope(timestep_embedding((gamma - low) / (high - low), _GAMMA)).T
        return jnp.exp(jnp.minimum(a, math.log(_MOST))), b


@dataclass(frozen=True)
class Clip(Pair):
    """A CLIP of captions that a text encoder reads.

    Attributes:
        text: how texts are read.
        metrics: beside the loss: `retrieval`, whether an image's caption is more like it than all
            captions that are not true of it.
    """

    network: Both
    text: TextEncoder
    metrics: tuple[str, ...] = ("retrieval",)

    @property
    def reader(self) -> TextEncoder:
        """How texts are read."""
        return self.text

    def init(self, key: Array, shape: tuple[int, ...]) -> Params:
        """Initial weights."""
        cond = self.condition("")
        return {"network": self.network.init(key, jnp.zeros((2, *shape)), jnp.zeros(2), cond)[
            "params"]}  # fmt: skip

    def condition(self, text: str) -> Cond:
        """A prompt as the network reads it, arrays with a leading axis 1."""
        asked = prompts(self.text, [text])
        ids, weight = as_read(self.text, asked.ids), asked.weight
        return {"text": jnp.asarray(ids), "text_weight": jnp.asarray(weight)}

    def loss(
        self, params: Params, z: Array, gamma: Array, told: Cond, keys: Array | None
    ) -> dict[str, Array]:
        """Logistic loss, the mean over the captions of the batch or of `told["bank"]`, nats."""
        own = {k: told[k] for k in ("text", "caption", "says") if k in told}
        bank: Any = told.get("bank", own)
        f, g = unit(self.embed_image(params, z, gamma, keys)), self.texts(params, own)
        all_g = self.texts(params, bank) if "bank" in told else g
        logits = self.logits(params, f, all_g, gamma)
        true, there = truth(told, bank), bank["caption"] >= 0
        pairs = there & (told["caption"] >= 0)[:, None]
        lost = jnp.where(pairs, log_sigmoid_loss(logits, true), 0.0).sum(1)
        mine = self.logits(params, f, g[..., None], gamma)[:, 0]
        best = jnp.where(true | ~there, -jnp.inf, logits).max(1)
        return {"loss": lost / jnp.maximum(there.sum(), 1), "retrieval": (mine > best) * 1.0}

    def bank(self, captions: Captions | None) -> Cond:
        """Captions to tell a text from, of training data; see `Opened.bank`."""
        assert captions is not None
        known = captions.bank(_BANK)
        return {k: jnp.asarray(known[k]) for k in ("text", "share")}


def truth(told: Cond, bank: Cond) -> Array:
    """Which captions `bank` are true of which images, bool `[B, N]`.

    Those an image has; and those that say nothing of it which is not so, where that is known.

    Args:
        told: `"captions"` int32 `[B, M]`, all of an image, -1 for none; perhaps `"attributes"`
            `[B, A]`.
        bank: `"caption"` int32 `[N]`, and perhaps `"says"` `[N, A]`, see `data.captions`.
    """
    true = (told["captions"][:, :, None] == bank["caption"]).any(1)
    if "says" in bank:
        says = bank["says"]
        agrees = (says == told["attributes"][:, None]) | (says == UNSAID)
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

    In a run that reads its data's captions (`config.text`) those are the texts. Without, they are
    a list for classes, and a small encoder of bytes reads them.

    Args:
        captions: pairs of a text and the classes it is true of; empty for the names of the classes,
            alone and as `"a picture of NAME"`.
        size: length of the common vectors.
        width: channels at full resolution, and of the text encoder of a list.
        mults: channel multiplier of each resolution.
        blocks: residual blocks per resolution.
        dropout: rate in the image encoder's blocks.
        num_classes: classes of the data.
        classes: their names.
        gamma_min: gamma at which the time embedding is 0.
        gamma_max: gamma at which it is 1.
        dtype: `"float32"` or `"bfloat16"` arithmetic.
        text: how the run reads captions; None if it does not.
        places: the image encoder keeps a mean of each of `places x places` parts of an image, so
            that its vectors know where things are; 1: of the whole image alone.
        groups: of channels, at most, in the norm before the mean over positions; see `Tower`.

    Returns:
        The guide.

    Raises:
        ConfigError: there is nothing to say about the images, or a caption is of no class.
    """
    body = tower(width, mults, blocks, dropout, 0, gamma_min, gamma_max, dtype, places, groups)
    if text is None:
        return _caption_list.make(body, captions, size, width, num_classes, classes)
    if captions:
        raise ConfigError(
            "clip: text reads the data's captions; leave out captions=..., or text for a list"
        )
    return Clip(Both(body, text, size), text)
