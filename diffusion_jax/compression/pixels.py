"""Labels and pixels given `z_0`, on a stack of `constriction`'s: exact, fast, and only ever pushed.

Its models are 24 bits wide and leaky: right here (a level costs at most 24 bits), wrong for drawing
latents (see `compression.rans`). Because nothing is drawn from this stack it needs no initial bits.
"""

import constriction
import numpy as np

from diffusion_jax.errors import CodecError


class Symbols:
    """A stack of symbols.

    Args:
        words: uint32, what is on it; None for an empty one.
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
            classes: how many there are.
        """
        if classes > 1:  # one class is no news
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
            log_probs: nats, `[n, values, levels]`.
        """
        levels = log_probs.shape[-1]
        table = np.exp(log_probs).reshape(-1, levels)
        self._coder.encode_reverse(pixels.ravel().astype(np.int32), self._categorical, table)

    def pop_pixels(self, log_probs: np.ndarray) -> np.ndarray:
        """Takes pixels off, uint8 `[n, values]`, given the same `log_probs`."""
        *shape, levels = log_probs.shape
        found = self._coder.decode(self._categorical, np.exp(log_probs).reshape(-1, levels))
        return found.astype(np.uint8).reshape(shape)

    def bits(self) -> float:
        """Bits on the stack."""
        return float(self._coder.num_valid_bits())

    def words(self) -> np.ndarray:
        """The content, uint32."""
        return self._coder.get_compressed()

    def empty(self) -> bool:
        """Whether nothing is left."""
        return bool(self._coder.is_empty())
