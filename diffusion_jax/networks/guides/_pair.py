"""What all CLIPs share: vectors of noisy images and of texts, and how alike they are."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffusion_jax.networks.guides.base import each, unit
from diffusion_jax.networks.text_encoders.base import TextEncoder
from diffusion_jax.types import Array, Cond, Params

_AT_ONCE = 128  # texts


@dataclass(frozen=True)
class Pair:
    """Two encoders; `logit = s <f(z, gamma), g(text)> + b` of unit vectors f and g.

    Attributes:
        network: has the methods `of_image(z, gamma, keys)`, `of_text(cond)`, `line(gamma)` (s and
            b).
    """

    network: nn.Module

    @property
    def reader(self) -> TextEncoder | None:
        """How texts are read, if a text encoder reads them: it can then be a model's as well."""
        return None

    @abstractmethod
    def condition(self, text: str) -> Cond:
        """A prompt as the network reads it, arrays with a leading axis 1."""

    def embed_image(
        self, params: Params, z: Array, gamma: Array, keys: Array | None = None
    ) -> Array:
        """Vectors of images in model space at `gamma`, `[B, size]`; `unit` makes them f."""
        return self._ask(params, "of_image", z, each(gamma, z), keys)

    def embed_text(self, params: Params, text: Array, weight: Array | None = None) -> Array:
        """Vectors of texts as they are read, `[N, L]`, `[N, size]`; `unit` makes them g."""
        cond = {"text": text} if weight is None else {"text": text, "text_weight": weight}
        return self._ask(params, "of_text", cond)

    def texts(self, params: Params, cond: Cond) -> Array:
        """Unit vectors of `cond["text"]`, `[N, size]`."""
        return unit(self.embed_text(params, cond["text"], cond.get("text_weight")))

    def logits(self, params: Params, f: Array, g: Array, gamma: Array) -> Array:
        """`s f.g + b`, `[B, N]`, of unit vectors `[B, size]`, at `gamma` `[B]`, and `[N, size]`.

        With `g` `[B, size, 1]` those of each image's own text, `[B, 1]`.
        """
        scale, offset = self._ask(params, "line", gamma)
        alike = f @ g.T if g.ndim == 2 else jnp.einsum("bd,bdn->bn", f, g)
        return scale[:, None] * alike + offset[:, None]

    def log_prob(self, params: Params, z: Array, gamma: Array, cond: dict[str, Any]) -> Array:
        """`log p(text is true of z)`, `[B]`; `cond["text"]` is one string, or `[B, L]` as read."""
        return Opened(self, params)(z, gamma, cond)

    def opened(self, params: Params) -> "Opened":
        """With its weights, and perhaps the captions of `bank`, for guidance."""
        return Opened(self, params)

    def _ask(self, params: Params, method: str, *args: Array | Cond | None) -> Any:
        return self.network.apply({"params": params["network"]}, *args, method=method)


@dataclass(frozen=True)
class Opened:
    """A CLIP and its weights, as guidance asks it.

    Attributes:
        pair: the CLIP.
        params: `{"network"}`, and `{"bank": {"text", "share"}}` where there is one.
    """

    pair: Pair
    params: Params

    @property
    def reader(self) -> TextEncoder | None:
        """See `Pair`."""
        return self.pair.reader

    def __call__(self, z: Array, gamma: Array, cond: dict[str, Any]) -> Array:
        """`log p(text is true of z)`, `[B]`."""
        told = self.condition(cond["text"]) if isinstance(cond["text"], str) else cond
        g = self.texts(told)
        g = jnp.broadcast_to(g, (z.shape[0], g.shape[1]))
        return jax.nn.log_sigmoid(self.logits(z, gamma, g[..., None])[:, 0])

    def condition(self, text: str) -> Cond:
        """See `Pair`."""
        return self.pair.condition(text)

    def texts(self, cond: Cond) -> Array:
        """Unit vectors of texts, `[N, size]`."""
        return self.pair.texts(self.params, cond)

    def bank(self) -> tuple[Array, Array]:
        """Unit vectors of known captions, `[K, size]`, and the log of how often each is, `[K]`."""
        bank = self.params["bank"]
        n = len(bank["text"])
        batch = math.ceil(n / math.ceil(n / _AT_ONCE))
        text = jnp.resize(bank["text"], (batch * math.ceil(n / batch), *bank["text"].shape[1:]))
        parts = text.reshape(-1, batch, *text.shape[1:])
        g = jax.lax.map(lambda part: self.texts({"text": part}), parts)
        return g.reshape(-1, g.shape[-1])[:n], jnp.log(bank["share"])

    def logits(self, z: Array, gamma: Array, g: Array) -> Array:
        """Of texts `g` `[N, size]`, `[B, N]`; of each image's own, `[B, size, 1]`, `[B, 1]`."""
        f = unit(self.pair.embed_image(self.params, z, gamma))
        return self.pair.logits(self.params, f, g, each(gamma, z))
