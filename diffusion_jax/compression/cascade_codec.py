"""How images are distributed over latent chains: a single chain, a cascade, or one within another.

The stages of a cascade code the parts of an image one after the other. A model conditioned on the
latents of another (`view='from_latent()'`) codes the image where the other would code pixels given
`z_0`: between drawing `z_0` and coding it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from diffusion_jax.compression.bits_back import BatchCoder, InnerCoder, Order, Tally
from diffusion_jax.compression.header import TIMESTEPS
from diffusion_jax.compression.latent_chain import LatentChain
from diffusion_jax.compression.pixels import Symbols
from diffusion_jax.compression.rans import Stack


class Place(NamedTuple):
    """The stacks on which a batch is coded; for the fields see `BatchCoder`."""

    stack: Stack
    symbols: Symbols
    batch: int
    tally: Tally | None = None


@dataclass(frozen=True)
class Stages:
    """The chains of all stages, in decoding order, and how they are coded.

    Attributes:
        chains: one chain per stage.
        order: the order of coding within each chain.
        seed: seed for the whitening; None disables it.
    """

    chains: Sequence[LatentChain]
    order: Order
    seed: int | None

    def put(self, images: np.ndarray, labels: np.ndarray | None, at: Place) -> None:
        """Pushes a batch onto the stacks: the last stage first, so that it is popped last."""
        if self.chains[-1].network.model.from_latent:
            self.order.encode(self._nested(labels, at), images.reshape(len(images), -1), labels)
            return
        for i, chain in reversed([*enumerate(self.chains)]):
            part, low = chain.network.parts(images)
            coder = self._coder(i, chain.given(low), at)
            self.order.encode(coder, part.reshape(len(part), -1), labels)

    def take(self, n: int, labels: np.ndarray | None, at: Place) -> np.ndarray:
        """Pops a batch off the stacks; each stage is conditioned on the results of earlier ones."""
        if self.chains[-1].network.model.from_latent:
            return self.order.decode(self._nested(labels, at), n, labels)
        images = None
        for i, chain in enumerate(self.chains):
            part = self.order.decode(self._coder(i, chain.given(images), at), n, labels)
            images = chain.network.join(part, images)
        assert images is not None
        return images

    def _nested(self, labels: np.ndarray | None, at: Place) -> BatchCoder:
        """The coder of the latents, which uses the last stage to code the images given `y_0`."""
        latents, last = self.chains

        def inner(y_0: np.ndarray) -> BatchCoder:
            shaped = y_0.reshape(-1, *latents.network.shape).astype(np.float32)
            return self._coder(1, last.given(shaped), at)

        coder = self._coder(0, latents, at)
        coder.inner = InnerCoder(self.order, inner, labels)
        return coder

    def _coder(self, stage: int, chain: LatentChain, at: Place) -> BatchCoder:
        first = stage * (TIMESTEPS + 1)
        return BatchCoder(chain, at.stack, at.symbols, self.seed, at.batch, at.tally, first)
