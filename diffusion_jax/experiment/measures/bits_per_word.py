"""Bits of each word, from captions that mention more and more of the attributes."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffusion_jax.data.captions import Captions
from diffusion_jax.errors import ConfigError
from diffusion_jax.likelihood import information

_MOST = 4  # maximum number of attributes for averages over all orders

Subset = tuple[int, ...]


@dataclass(frozen=True)
class Words:
    """Captions that mention subsets of the attributes.

    Attributes:
        captions: captions of the images.
        chain: sets of attributes, each with one more than the last; the last has all.
        more: the other sets, for the average over orders; empty without that.
    """

    captions: Captions
    chain: tuple[Subset, ...]
    more: tuple[Subset, ...] = ()

    def texts(self, said: Subset) -> list[str]:
        """The captions that mention the attributes `said`."""
        if len(said) == len(self.captions.names):
            return self.captions.strings()
        return self.captions.saying(said)

    def known(self, said: Subset) -> float | None:
        """Entropy of these captions in bits; None if their distribution is unknown."""
        return self.captions.entropy(said)


def parts(captions: Captions, orders: bool) -> Words:
    """The sets of attributes to measure.

    Raises:
        ConfigError: attributes are not known, or too many for all orders.
    """
    if captions.attributes is None or captions.say is None:
        raise ConfigError("these captions have no known parts, unlike those of scenes()")
    n = len(captions.names)
    chain = tuple(tuple(range(k)) for k in range(n + 1))
    if not any(captions.saying(())):  # the caption without attributes is empty: the null text
        chain = chain[1:]
    if not orders:
        return Words(captions, chain)
    if n > _MOST:
        raise ConfigError(
            f"inform.orders=True measures 2^{n} captions of {n} words; at most {_MOST} are "
            "supported: leave it out"
        )
    every = (s for k in range(n + 1) for s in itertools.combinations(range(n), k))
    have = {*chain, ()}
    return Words(captions, chain, tuple(s for s in every if s not in have))


def in_order(words: Words, nats: np.ndarray) -> list[dict[str, Any]]:
    """Bits of each word, given those before it; they sum exactly to the bits of the whole text.

    Args:
        words: the captions.
        nats: `[N, K, 1 + chain]`, without text and along the chain.
    """
    rows, before, names = [], 0.0, words.captions.names
    for k, said in enumerate(words.chain):
        name, now = names[said[-1]] if said else "how many", words.known(said)
        bits = information.bits(nats[..., k] - nats[..., k + 1])
        rows.append({"word": name, **bits, "known": _minus(now, before)})
        before = now
    return rows


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def averaged(words: Words, of: Callable[[Subset], np.ndarray]) -> list[dict[str, Any]]:
    """Bits of each word, averaged over all orders (the Shapley value).

    Args:
        words: the captions.
        of: nats `[N, K]` of the captions that mention a set of attributes.
    """
    n, found = len(words.captions.names), []
    for a, name in enumerate(words.captions.names):
        rest, total, known = [i for i in range(n) if i != a], 0.0, 0.0
        for k in range(n):
            weight = math.factorial(k) * math.factorial(n - k - 1) / math.factorial(n)
            for s in itertools.combinations(rest, k):
                with_it = tuple(sorted((*s, a)))
                total = total + weight * (of(s) - of(with_it))
                gain = _minus(words.known(with_it), words.known(s))
                known = None if gain is None or known is None else known + weight * gain
        found.append({"word": name, **information.bits(np.asarray(total)), "known": known})
    return found
