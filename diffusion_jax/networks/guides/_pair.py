"""Shared by all CLIPs: vectors of noisy images and of texts, and their similarity."""

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

_AT_ONCE = 128  # texts encoded at once


@dataclass(frozen=True)
class Pair:
    """Two encoders; `logit = s <f(z, gamma), g(text)> + b` of unit vectors f and g.

    Attributes:
        network: a module with methods `of_image(z, gamma, keys)`, `of_text(cond)` and `line(gamma)`
            (s and b).
    """

    network: nn.Module

    @property
    def reader(self) -> TextEncoder | None:
        """The text encoder, which a diffusion model can share; None for a list of captions."""
        return None

    @abstractmethod
    def condition(self, text: str) -> Cond:
        """The network's condition for a prompt, arrays with a leading axis 1."""

    def embed_image(
        self, params: Params, z: Array, gamma: Array, keys: Array | None = None
    ) -> Array:
        """Vectors of images in model space at `gamma`, `[B, size]`; `unit` of them is f."""
        return self._apply(params, "of_image", z, each(gamma, z), keys)

    def embed_text(self, params: Params, text: Array, weight: Array | None = None) -> Array:
        """Vectors `[N, size]` of encoded texts `[N, L]`; `unit` of them is g."""
        cond = {"text": text} if weight is None else {"text": text, "text_weight": weight}
        return self._apply(params, "of_text", cond)

    def texts(self, params: Params, cond: Cond) -> Array:
        """Unit vectors of `cond["text"]`, `[N, size]`."""
        return unit(self.embed_text(params, cond["text"], cond.get("text_weight")))

    def logits(self, params: Params, f: Array, g: Array, gamma: Array) -> Array:
        """`s f.g + b`, `[B, N]`, of unit vectors `f` `[B, size]` and `g` `[N, size]`.

        With `g` `[B, size, 1]`, the logits of each image's own text, `[B, 1]`. `gamma` is `[B]`.
        """
        scale, offset = self._apply(params, "line", gamma)
        similarity = f @ g.T if g.ndim == 2 else jnp.einsum("bd,bdn->bn", f, g)
        return scale[:, None] * similarity + offset[:, None]

    def log_prob(self, params: Params, z: Array, gamma: Array, cond: dict[str, Any]) -> Array:
        """`log p(text is true of z)`, `[B]`; `cond["text"]` is a string, or encoded, `[B, L]`."""
        return Opened(self, params)(z, gamma, cond)

    def opened(self, params: Params) -> "Opened":
        """The CLIP with its weights, which may include the captions of `bank`, for guidance."""
        return Opened(self, params)

    def _apply(self, params: Params, method: str, *args: Array | Cond | None) -> Any:
        return self.network.apply({"params": params["network"]}, *args, method=method)


@dataclass(frozen=True)
class Opened:
    """A CLIP with its weights, for guidance.

    Attributes:
        pair: the CLIP.
        params: `{"network"}`, and `{"bank": {"text", "share"}}` if there is a bank.
    """

    pair: Pair
    params: Params

    @property
    def reader(self) -> TextEncoder | None:
        """See `Pair`."""
        return self.pair.reader

    def __call__(self, z: Array, gamma: Array, cond: dict[str, Any]) -> Array:
        """`log p(text is true of z)`, `[B]`."""
        encoded = self.condition(cond["text"]) if isinstance(cond["text"], str) else cond
        g = self.texts(encoded)
        g = jnp.broadcast_to(g, (z.shape[0], g.shape[1]))
        return jax.nn.log_sigmoid(self.logits(z, gamma, g[..., None])[:, 0])

    def condition(self, text: str) -> Cond:
        """See `Pair`."""
        return self.pair.condition(text)

    def texts(self, cond: Cond) -> Array:
        """Unit vectors of texts, `[N, size]`."""
        return self.pair.texts(self.params, cond)

    def bank(self) -> tuple[Array, Array]:
        """Unit vectors of known captions, `[K, size]`, and the log of their shares, `[K]`."""
        bank = self.params["bank"]
        n = len(bank["text"])
        batch = math.ceil(n / math.ceil(n / _AT_ONCE))
        text = jnp.resize(bank["text"], (batch * math.ceil(n / batch), *bank["text"].shape[1:]))
        parts = text.reshape(-1, batch, *text.shape[1:])
        g = jax.lax.map(lambda part: self.texts({"text": part}), parts)
        return g.reshape(-1, g.shape[-1])[:n], jnp.log(bank["share"])

    def logits(self, z: Array, gamma: Array, g: Array) -> Array:
        """See `Pair.logits`; here `z` are the images, at a gamma of any shape."""
        f = unit(self.pair.embed_image(self.params, z, gamma))
        return self.pair.logits(self.params, f, g, each(gamma, z))
