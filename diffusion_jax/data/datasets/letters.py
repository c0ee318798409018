"""Texts with known entropy, from a random but fixed Markov chain of letters."""

import functools
import zlib

import numpy as np

from diffusion_jax.allowed import Count, Positive, Seed
from diffusion_jax.data.base import Source, Split
from diffusion_jax.data.datasets._markov import Chain
from diffusion_jax.data.media.text import Text
from diffusion_jax.errors import DataError

_HELD = {"valid": 500, "test": 1000}


def make(
    length: Count = 16,
    alphabet: str = "abcdefgh",
    concentration: Positive = 0.3,
    seed: Seed = 0,
    size: Count = 20_000,
) -> Source:
    """Texts from a Markov chain of order 1.

    Args:
        length: letters in a text.
        alphabet: the letters, 2 to 256.
        concentration: parameter of the Dirichlet distribution that transition probabilities are
            drawn from; smaller values give more predictable texts.
        seed: seed for the transition probabilities.
        size: number of training texts.

    Raises:
        DataError: the alphabet has too few letters, or the same letter twice.
    """
    if not 2 <= len(alphabet) <= 256 or len(set(alphabet)) < len(alphabet):
        raise DataError(f"letters: alphabet={alphabet!r} must be 2 to 256 different letters")
    count = len(alphabet)
    step = np.random.default_rng(seed).dirichlet(np.full(count, concentration), count)
    chain = Chain(0.999 * step + 0.001 / count)  # no transition is impossible
    name = f"letters_{count}_{length}_{zlib.crc32(chain.step.tobytes()):08x}"

    def load(split: str) -> Split:
        number = _HELD.get(split, size)
        rng = np.random.default_rng([zlib.crc32(f"{name} {split}".encode())])
        images = chain.draw(rng, number, length).reshape(number, 1, length, 1)
        return Split(f"{name}/{split}", images, np.zeros(number, np.int32), count, 0)

    bits = chain.entropy(length)
    return Source(
        name, (1, length, 1), count, 0, functools.lru_cache(load), medium=Text(alphabet),
        entropy=(bits, bits), mirrors=False,
    )  # fmt: skip
