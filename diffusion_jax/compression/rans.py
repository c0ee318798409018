"""A stack of bits by range asymmetric numeral systems (Duda 2013), vectorised over lanes.

`constriction` does not suit latents: bits-back coding *samples* latents by decoding them from the
stack, but the models of its Python interface are 24 bits wide and leaky. Each of 10^5 bins of a
grid then has probability 2^-24 or more, and some samples become extreme outliers. Its `Uniform`,
from which an exact model could be composed, rounds the width of a symbol to whole counts of 2^-24
and loses 0.05 bits for one of 600,000 counts (measured). It does code pixels and labels
(`compression.pixels`), which are never sampled and for which a leak is right.

A state is in [2^48, 2^64) and moves 16 bits at a time; models have 32 bits, so the loss is of order
2^-16 bits per symbol. Images are coded side by side in rows of `lanes` states each, and all share
one tail. A lane needs 48 bits before anything can be popped, so there is one per 32 values.
"""

import math
from collections.abc import Callable

import numpy as np

from diffusion_jax.errors import CodecError

PRECISION = 32  # bits of a model: its counts sum to 2^32
PER_LANE = 32  # values of an image that share a state
_BASE = 48  # states are at least 2^48
_WORD = 16
_LOW = np.uint64((1 << PRECISION) - 1)
_MASK = np.uint64((1 << _BASE) - 1)
_P, _W = np.uint64(PRECISION), np.uint64(_WORD)
_ONE_SHORT, _TWO_SHORT = np.uint64(1 << _BASE), np.uint64(1 << (_BASE - _WORD))

Find = Callable[[np.ndarray, slice], tuple[np.ndarray, np.ndarray, np.ndarray]]


def random_words(seed: int, *where: int) -> np.random.Philox:
    """A generator of raw words: a pure function of `seed` and of up to three numbers `where`."""
    return np.random.Philox(key=seed, counter=[0, *where, *(0,) * (3 - len(where))])


def whitening(seed: int, batch: int, step: int, shape: tuple[int, ...]) -> np.ndarray:
    """The mask that makes popped bits look random.

    Without it a pop right after a push with a similar model returns the numbers just pushed,
    shifted by the model's error, and the latents become a random walk. Only the 32 bits a model
    reads are masked: higher ones are not uniform, and masking them costs 0.005 bits per value.

    Args:
        seed: seed of the file.
        batch: number of the batch.
        step: number of the latent.
        shape: shape of the mask.

    Returns:
        The mask, uint64 below 2^32.
    """
    raw = random_words(seed, 1 + batch, step).random_raw(math.prod(shape))
    return raw.reshape(shape) & _LOW


class Stack:
    """Rows of ANS states over one tail of 16-bit words.

    A stack with a seed has an unlimited supply of random words under its bottom: the initial bits
    of bits-back coding. Their use is counted, so that decoding can check that all are returned.

    Args:
        rows: number of images coded side by side.
        values: number of values of an image; there are `ceil(values / PER_LANE)` lanes per row.
        seed: seed for the initial bits; None for a stack that must not run out.
        part: number that distinguishes stacks with the same seed.
    """

    def __init__(self, rows: int, values: int, seed: int | None, part: int = 0):
        lanes = -(-values // PER_LANE)
        self._values, self._source = values, None
        self.heads = np.full((rows, lanes), _ONE_SHORT)
        self._tail, self._size = np.zeros(1 << 12, np.uint16), 0
        self.used = 0  # initial words taken from under the bottom
        if seed is not None:
            self._source = random_words(seed, 0, part)
            self.heads |= self._source.random_raw(self.heads.size).reshape(rows, lanes) & _MASK
        self.start = float(np.log2(self.heads.astype(np.float64)).sum())

    @classmethod
    def load(cls, values: int, heads: np.ndarray, tail: np.ndarray) -> "Stack":
        """The stack with this content, for images of `values` values.

        Args:
            values: number of values of an image.
            heads: states, uint64 `[rows, lanes]`.
            tail: words under the states, uint16, bottom first.

        Returns:
            A stack without initial bits.
        """
        stack = cls(len(heads), values, None)
        stack.heads = heads.astype(np.uint64)
        stack._append(tail.astype(np.uint16))
        return stack

    @property
    def tail(self) -> np.ndarray:
        """The words under the states, uint16, bottom first."""
        return self._tail[: self._size]

    def initial_bits(self) -> float:
        """Number of initial bits used so far."""
        return self.start + _WORD * self.used

    def bits(self) -> float:
        """Number of bits on the stack, initial bits included."""
        return float(np.log2(self.heads.astype(np.float64)).sum()) + _WORD * self._size

    def returned(self, seed: int, part: int, used: int) -> bool:
        """Whether the stack holds exactly the first `used` initial words of `(seed, part)`."""
        if used != self._size:
            return False
        fresh = Stack(len(self.heads), self._values, seed, part)
        words = _sixteen(fresh._source, used)
        return np.array_equal(fresh.heads, self.heads) and np.array_equal(words[::-1], self.tail)

    def push(self, start: np.ndarray, width: np.ndarray, mask: np.ndarray | None = None) -> None:
        """Pushes the values of the first n rows.

        Args:
            start: start of each value's interval in [0, 2^32), uint64 `[n, values]`.
            width: width of each interval, positive, uint64 `[n, values]`.
            mask: the mask with which the values were popped, to undo `pop` exactly.
        """
        (n, values), lanes = start.shape, self.heads.shape[1]
        for at in range(0, values, lanes):
            cols = slice(at, min(at + lanes, values))
            head = self.heads[:n, : cols.stop - at]
            state, f = head.copy(), width[:, cols]
            limit = f << _P
            for _ in range(2):
                full = state >= limit
                if full.any():
                    self._append(state[full].astype(np.uint16))
                    state[full] >>= _W
            whole, rest = np.divmod(state, f)
            state = (whole << _P) + rest + start[:, cols]
            head[...] = state if mask is None else state ^ mask[:, cols]

    def pop(
        self, n: int, find: Find, mask: np.ndarray | None = None, values: int | None = None
    ) -> np.ndarray:
        """Pops the values of the first `n` rows: the inverse of `push`.

        Args:
            n: number of rows.
            find: `(u, columns) -> (value, start, width)`: the value whose interval contains `u`.
            mask: whitening, from `whitening`.
            values: number of values in each row; None for that of an image.

        Returns:
            int64 `[n, values]`.
        """
        values, lanes = values or self._values, self.heads.shape[1]
        out = np.empty((n, values), np.int64)
        for at in reversed(range(0, values, lanes)):
            cols = slice(at, min(at + lanes, values))
            head = self.heads[:n, : cols.stop - at]
            state = head.copy() if mask is None else head ^ mask[:, cols]
            low = state & _LOW
            out[:, cols], start, width = find(low, cols)
            state = width * (state >> _P) + low - start
            for bound in (_TWO_SHORT, _ONE_SHORT):
                short = state < bound
                if short.any():
                    words = self._take(int(short.sum()))
                    state[short] = (state[short] << _W) | words.astype(np.uint64)
            head[...] = state
        return out

    def _append(self, words: np.ndarray) -> None:
        end = self._size + len(words)
        if end > len(self._tail):
            self._tail = np.concatenate([self._tail, np.zeros(max(end, 1 << 12), np.uint16)])
        self._tail[self._size : end] = words
        self._size = end

    def _take(self, count: int) -> np.ndarray:
        missing = count - self._size
        if missing <= 0:
            self._size -= count
            return self._tail[self._size : self._size + count]
        if self._source is None:
            raise CodecError("the compressed data end too early; get an undamaged copy")
        fresh = _sixteen(self._source, missing)[::-1]
        words = np.concatenate([fresh, self._tail[: self._size]])
        self.used += missing
        self._size = 0
        return words


def _sixteen(source: np.random.Philox, count: int) -> np.ndarray:
    """The next `count` 16-bit words, one per raw word, so that any split gives the same stream."""
    return (source.random_raw(count) & np.uint64(0xFFFF)).astype(np.uint16)
