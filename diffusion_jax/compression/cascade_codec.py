"""What of an image is coded by which chain: one, a cascade of them, or one within another.

The stages of a cascade code its parts one after the other. A model that reads images from the
latents of another (`view='from_latent()'`) codes the image where that one would code pixels given
`z_0`: between drawing `z_0` and coding it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from diffusion_jax.compression.bits_back import BatchCoder, Order, Reader, Tally
from diffusion_jax.compression.header import TIMESTEPS
from diffusion_jax.compression.latent_chain import LatentChain
from diffusion_jax.compression.pixels import Symbols
from diffusion_jax.compression.rans import Stack


class Place(NamedTuple):
    """Where a batch is coded; see `BatchCoder`."""

    stack: Stack
    symbols: Symbols
    batch: int
    tally: Tally | None = None


@dataclass(frozen=True)
class Stages:
    """The chains of all stages, in the order in which a file gives them, and how each is coded.

    Attributes:
        seed: of the whitening; None leaves it out.
    """

    chains: Sequence[LatentChain]
    order: Order
    seed: int | None

    def put(self, images: np.ndarray, known: np.ndarray | None, at: Place) -> None:
        """Puts a batch on the stacks: the last stage first, so that it comes off last."""
        if self.chains[-1].network.model.from_latent:
            self.order.encode(self._read(known, at), images.reshape(len(images), -1), known)
            return
        for i, chain in reversed([*enumerate(self.chains)]):
            part, low = chain.network.parts(images)
            coder = self._coder(i, chain.given(low), at)
            self.order.encode(coder, part.reshape(len(part), -1), known)

    def take(self, n: int, known: np.ndarray | None, at: Place) -> np.ndarray:
        """Takes a batch off the stacks: every stage is told what those before it gave."""
        if self.chains[-1].network.model.from_latent:
            return self.order.decode(self._read(known, at), n, known)
        images = None
        for i, chain in enumerate(self.chains):
            part = self.order.decode(self._coder(i, chain.given(images), at), n, known)
            images = chain.network.join(part, images)
        assert images is not None
        return images

    def _read(self, known: np.ndarray | None, at: Place) -> BatchCoder:
        """The coder of the latents, at which the last stage codes the images."""
        latents, last = self.chains

        def reader(y_0: np.ndarray) -> BatchCoder:
            shaped = y_0.reshape(-1, *latents.network.shape).astype(np.float32)
            return self._coder(1, last.given(shaped), at)

        coder = self._coder(0, latents, at)
        coder.reader = Reader(self.order, reader, known)
        return coder

    def _coder(self, stage: int, chain: LatentChain, at: Place) -> BatchCoder:
        first = stage * (TIMESTEPS + 1)
        return BatchCoder(chain, at.stack, at.symbols, self.seed, at.batch, at.tally, first)
