"""Bits of each word: captions that say a part of what there is to say, one part after another."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffusion_jax.data.captions import Captions
from diffusion_jax.errors import ConfigError
from diffusion_jax.likelihood import information

_MOST = 4  # attributes whose orders are averaged over

Subset = tuple[int, ...]


@dataclass(frozen=True)
class Words:
    """Captions that say some attributes.

    Attributes:
        captions: of the images.
        chain: sets of attributes, each with one more than the last; all of them at the end.
        more: the other sets, for the average over orders; empty without.
    """

    captions: Captions
    chain: tuple[Subset, ...]
    more: tuple[Subset, ...] = ()

    def texts(self, said: Subset) -> list[str]:
        """The captions that say these."""
        if len(said) == len(self.captions.names):
            return self.captions.strings()
        return self.captions.saying(said)

    def known(self, said: Subset) -> float | None:
        """Bits of such a caption, if the law is known."""
        return self.captions.entropy(said)


def parts(captions: Captions, orders: bool) -> Words:
    """The sets of attributes to measure.

    Raises:
        ConfigError: attributes are not known, or too many for all orders.
    """
    if captions.attributes is None or captions.say is None:
        raise ConfigError("these captions are not known by parts, as those of scenes() are")
    n = len(captions.names)
    chain = tuple(tuple(range(k)) for k in range(n + 1))
    if not any(captions.saying(())):  # nothing said is no caption: the null text is there already
        chain = chain[1:]
    if not orders:
        return Words(captions, chain)
    if n > _MOST:
        raise ConfigError(
            f"inform.orders=True measures 2^{n} captions of {n} words; it takes at most {_MOST}: "
            "leave it out"
        )
    every = (s for k in range(n + 1) for s in itertools.combinations(range(n), k))
    have = {*chain, ()}
    return Words(captions, chain, tuple(s for s in every if s not in have))


def in_order(words: Words, nats: np.ndarray) -> list[dict[str, Any]]:
    """What each word tells, given those before it: they add up to all the bits, exactly.

    Args:
        nats: `[N, K, 1 + chain]`, without text and along the chain.
    """
    found, before, names = [], 0.0, words.captions.names
    for k, said in enumerate(words.chain):
        name, now = names[said[-1]] if said else "how many", words.known(said)
        told = information.bits(nats[..., k] - nats[..., k + 1])
        found.append({"word": name, **told, "known": _minus(now, before)})
        before = now
    return found


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def averaged(words: Words, of: Callable[[Subset], np.ndarray]) -> list[dict[str, Any]]:
    """What each word tells, averaged over all orders (the Shapley value).

    Args:
        of: nats `[N, K]` of the captions that say a set of attributes.
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
