"""Bits-back coding in two orders of pushing and popping latents: Bit-Swap and top-down.

Bits-back coding (Hinton & van Camp 1993; Townsend et al. 2019) draws latents by *decoding* bits
that are already on the stack, and returns these bits when the file is read. The top-down order
draws all T latents before it pushes anything, so it needs that many initial bits. Bit-Swap (Kingma
et al. 2019) pushes `z_{i-1}` as soon as `z_i` is drawn and needs the bits of about two latents for
any T; it requires that `q(z_i | z_{i-1})` does not depend on the image, as in VDM but not DiffEnc.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from diffusion_jax.compression.bins import Binned
from diffusion_jax.compression.latent_chain import LatentChain
from diffusion_jax.compression.pixels import Symbols
from diffusion_jax.compression.rans import PRECISION, Stack, whitening


@dataclass
class Tally:
    """The cost of each image of a batch, added up while it is coded.

    Attributes:
        bits: code length from the counts used, `[n]`: latents and pixels, without labels.
        nats: the bound at the same latents, from densities, `[n]`.
    """

    bits: np.ndarray
    nats: np.ndarray

    def latent(self, model: Binned, k: np.ndarray, width: np.ndarray, sign: int) -> None:
        """Adds a latent that was pushed (`sign` 1) or drawn (-1)."""
        self.bits += sign * (PRECISION - np.log2(width.astype(np.float64))).sum(axis=1)
        self.nats -= sign * model.log_density(k)

    def pixels(self, images: np.ndarray, log_probs: np.ndarray) -> None:
        """Adds pixels that were pushed."""
        chosen = np.take_along_axis(log_probs, images[..., None].astype(np.int64), axis=-1)
        nats = -chosen.sum(axis=(1, 2))
        self.nats += nats
        self.bits += nats / np.log(2.0)


@dataclass(frozen=True)
class InnerCoder:
    """Another model that codes images given `y_0`, on the same stacks, instead of an autoencoder.

    Attributes:
        order: its order of coding.
        at: gives its coder, conditioned on `y_0` `[n, values]`.
        labels: labels of the images, or None.
    """

    order: "Order"
    at: Callable[[np.ndarray], "BatchCoder"]
    labels: np.ndarray | None


@dataclass
class BatchCoder:
    """Codes one batch.

    Attributes:
        chain: the latents of the model.
        stack: the stack of latents.
        symbols: the stack of pixels and labels.
        seed: seed for the whitening; None disables it (benchmarks only).
        batch: number of the batch, for the whitening.
        tally: adds up the costs; None when decoding.
        first: number of the chain's first latent, for the whitening.
        inner: coder of images given `z_0`; None for the chain's own model.
    """

    chain: LatentChain
    stack: Stack
    symbols: Symbols
    seed: int | None
    batch: int
    tally: Tally | None = field(default=None)
    first: int = 0
    inner: InnerCoder | None = None

    def draw(self, posterior: Binned, step: int) -> np.ndarray:
        """Draws latent number `step` from `posterior`, by popping it off the stack."""
        n = len(posterior.mean)
        k = self.stack.pop(n, posterior.find, self._mask(n, step), posterior.mean.shape[1])
        if self.tally:
            self.tally.latent(posterior, k, posterior.interval(k)[1], -1)
        return k

    def undraw(self, posterior: Binned, k: np.ndarray, step: int) -> None:
        """The inverse of `draw`."""
        self.stack.push(*posterior.interval(k), self._mask(len(k), step))

    def put(self, model: Binned, k: np.ndarray) -> None:
        """Pushes a latent onto the stack with the distribution `model`."""
        start, width = model.interval(k)
        self.stack.push(start, width)
        if self.tally:
            self.tally.latent(model, k, width, 1)

    def take(self, model: Binned) -> np.ndarray:
        """The inverse of `put`."""
        n, values = model.mean.shape
        return self.stack.pop(n, model.find, values=values)

    def put_pixels(self, images: np.ndarray, k_0: np.ndarray) -> None:
        """Pushes images `[n, values]` onto the stack of symbols, given bins of `z_0`."""
        if self.inner:
            self.inner.order.encode(self.inner.at(self._y_0(k_0)), images, self.inner.labels)
            return
        log_probs = self._pixels(k_0, images)
        for part in reversed(self.chain.network.passes):
            self.symbols.push_pixels(images[:, part], log_probs[:, part])
        if self.tally:
            self.tally.pixels(images, log_probs)

    def take_pixels(self, k_0: np.ndarray) -> np.ndarray:
        """The inverse of `put_pixels`, uint8 `[n, values]`."""
        if self.inner:
            coder = self.inner.at(self._y_0(k_0))
            return self.inner.order.decode(coder, len(k_0), self.inner.labels)
        images = np.zeros((len(k_0), math.prod(self.chain.network.part)), np.uint8)
        for part in self.chain.network.passes:
            images[:, part] = self.symbols.pop_pixels(self._pixels(k_0, images)[:, part])
        return images

    def _y_0(self, k_0: np.ndarray) -> np.ndarray:
        return self.chain.latent(k_0, 0) / self.chain.alpha[0]

    def _pixels(self, k_0: np.ndarray, images: np.ndarray) -> np.ndarray:
        c = self.chain
        return c.network.pixels(c.latent(k_0, 0), c.gammas[0], c.alpha[0], images)

    def _mask(self, n: int, step: int) -> np.ndarray | None:
        if self.seed is None:
            return None
        return whitening(self.seed, self.batch, self.first + step, (n, self.chain.network.values))


def _bitswap_encode(coder: BatchCoder, images: np.ndarray, labels: np.ndarray | None) -> None:
    c = coder.chain
    k = coder.draw(c.first(c.network.data(images), labels), 0)
    coder.put_pixels(images, k)
    for i in range(1, c.timesteps + 1):
        nxt = coder.draw(c.onwards(k, i), i)
        coder.put(c.predict(nxt, i, labels), k)
        k = nxt
    coder.put(c.prior(len(images)), k)


def _bitswap_decode(coder: BatchCoder, n: int, labels: np.ndarray | None) -> np.ndarray:
    c = coder.chain
    k = coder.take(c.prior(n))
    for i in range(c.timesteps, 0, -1):
        before = coder.take(c.predict(k, i, labels))
        coder.undraw(c.onwards(before, i), k, i)
        k = before
    images = coder.take_pixels(k)
    coder.undraw(c.first(c.network.data(images), labels), k, 0)
    return images


def _topdown_encode(coder: BatchCoder, images: np.ndarray, labels: np.ndarray | None) -> None:
    c = coder.chain
    x = c.network.data(images)
    ks = [coder.draw(c.last(x, labels), c.timesteps)]
    models = []
    for i in range(c.timesteps, 0, -1):
        models.append(c.predict(ks[-1], i, labels))
        ks.append(coder.draw(c.back(ks[-1], i, x, labels), i - 1))
    coder.put_pixels(images, ks[-1])
    while models:
        coder.put(models.pop(), ks.pop())
    coder.put(c.prior(len(images)), ks.pop())


def _topdown_decode(coder: BatchCoder, n: int, labels: np.ndarray | None) -> np.ndarray:
    c = coder.chain
    ks = [coder.take(c.prior(n))]
    for i in range(c.timesteps, 0, -1):
        ks.append(coder.take(c.predict(ks[-1], i, labels)))
    images = coder.take_pixels(ks[-1])
    x = c.network.data(images)
    for i in range(1, c.timesteps + 1):
        k = ks.pop()
        coder.undraw(c.back(ks[-1], i, x, labels), k, i - 1)
    coder.undraw(c.last(x, labels), ks.pop(), c.timesteps)
    return images


class Order(NamedTuple):
    """One order of coding.

    Attributes:
        markov: whether latents are drawn forwards, by a chain that does not depend on the image.
        encode: `(coder, images uint8 [n, values], labels or None)`.
        decode: `(coder, n, labels or None) -> images`.
    """

    markov: bool
    encode: Callable[[BatchCoder, np.ndarray, np.ndarray | None], None]
    decode: Callable[[BatchCoder, int, np.ndarray | None], np.ndarray]


ORDERS = {
    "bitswap": Order(True, _bitswap_encode, _bitswap_decode),
    "topdown": Order(False, _topdown_encode, _topdown_decode),
}
