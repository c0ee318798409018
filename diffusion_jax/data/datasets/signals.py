"""Signals with known entropy: white noise, and an autoregression on levels.

In `"ar1"` a level is the bin of `rho` times the previous level plus Gaussian noise, so transition
probabilities are integrals of a normal density over bins. `"white"` has log2(levels) bits per
sample.
"""

import functools
import zlib

import numpy as np

from diffusion_jax.allowed import Count, Levels, Momentum
from diffusion_jax.data.base import Source, Split
from diffusion_jax.data.datasets._markov import Chain
from diffusion_jax.data.media.signal import SIGNAL
from diffusion_jax.errors import DataError

_LAWS = ("ar1", "white")
_HELD = {"valid": 500, "test": 1000}
_REACH = 4.0  # standard deviations from the centre to the outermost levels


def chain(law: str, rho: float, levels: int) -> Chain:
    """The Markov chain; see `make`."""
    from scipy.special import ndtr

    if law == "white":
        return Chain(np.full((levels, levels), 1.0 / levels))
    width = 2.0 * _REACH / levels
    centres = width * (np.arange(levels) + 0.5) - _REACH
    edges = np.concatenate([[-np.inf], centres[:-1] + 0.5 * width, [np.inf]])
    below = ndtr((edges - rho * centres[:, None]) / np.sqrt(1.0 - rho**2))
    return Chain(np.diff(below, axis=1))


def make(
    law: str = "ar1",
    rho: Momentum = 0.9,
    levels: Levels = 16,
    length: Count = 32,
    size: Count = 20_000,
) -> Source:
    """Signals with one channel, without labels.

    Args:
        law: distribution, `"ar1"` or `"white"`.
        rho: correlation of neighbouring samples in `"ar1"`, inside (-1, 1).
        levels: number of levels.
        length: number of samples in a signal.
        size: number of training signals.

    Raises:
        DataError: `law` is unknown.
    """
    if law not in _LAWS:
        raise DataError(f"signals: law={law!r}: allowed: {', '.join(_LAWS)}")
    markov = chain(law, rho, levels)
    name = f"{law}_{levels}_{length}" + (f"_{rho:g}" if law == "ar1" else "")

    def load(split: str) -> Split:
        count = _HELD.get(split, size)
        rng = np.random.default_rng([zlib.crc32(f"{name} {split}".encode())])
        images = markov.draw(rng, count, length).reshape(count, 1, length, 1)
        return Split(f"{name}/{split}", images, np.zeros(count, np.int32), levels, 0)

    bits = markov.entropy(length)
    return Source(
        name, (1, length, 1), levels, 0, functools.lru_cache(load), medium=SIGNAL,
        entropy=(bits, bits),
    )  # fmt: skip
