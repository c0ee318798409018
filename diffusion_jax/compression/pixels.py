"""Coding of labels and of pixels given `z_0`, on a `constriction` stack: exact and fast.

Its models are 24 bits wide and leaky. That is right here (a level costs at most 24 bits), but wrong
for drawing latents (see `compression.rans`). Nothing is drawn from this stack, so it needs no
initial bits.
"""

import constriction
import numpy as np

from diffusion_jax.errors import CodecError


class Symbols:
    """A stack of symbols.

    Args:
        words: content of the stack, uint32; None for an empty stack.
    """

    def __init__(self, words: np.ndarray | None = None):
        stream = constriction.stream
        self._categorical = stream.model.Categorical(perfect=False)
        self._uniform = stream.model.Uniform
        try:
            self._coder = stream.stack.AnsCoder(words)
        except ValueError as e:
            raise CodecError(f"the compressed data are damaged ({e}); get another copy") from e

    def push_labels(self, labels: np.ndarray, classes: int) -> None:
        """Puts labels on the stack, all classes equally probable.

        Args:
            labels: integers `[n]`.
            classes: number of classes.
        """
        if classes > 1:  # a single class carries no information
            self._coder.encode_reverse(labels.astype(np.int32), self._uniform(classes))

    def pop_labels(self, n: int, classes: int) -> np.ndarray:
        """Takes `n` labels off, int32."""
        if classes == 1:
            return np.zeros(n, np.int32)
        return self._coder.decode(self._uniform(classes), n).astype(np.int32)

    def push_pixels(self, pixels: np.ndarray, log_probs: np.ndarray) -> None:
        """Puts pixels on the stack.

        Args:
            pixels: integers `[n, values]`.
            log_probs: log-probabilities, nats, `[n, values, levels]`.
        """
        levels = log_probs.shape[-1]
        table = np.exp(log_probs).reshape(-1, levels)
        self._coder.encode_reverse(pixels.ravel().astype(np.int32), self._categorical, table)

    def pop_pixels(self, log_probs: np.ndarray) -> np.ndarray:
        """Takes pixels off, uint8 `[n, values]`, given the same `log_probs`."""
        *shape, levels = log_probs.shape
        pixels = self._coder.decode(self._categorical, np.exp(log_probs).reshape(-1, levels))
        return pixels.astype(np.uint8).reshape(shape)

    def bits(self) -> float:
        """Number of bits on the stack."""
        return float(self._coder.num_valid_bits())

    def words(self) -> np.ndarray:
        """The content, uint32."""
        return self._coder.get_compressed()

    def empty(self) -> bool:
        """Whether the stack is empty."""
        return bool(self._coder.is_empty())
