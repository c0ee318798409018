"""Text encoders that are networks of others: they stay as they are, and read each text once."""

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.text_encoders.base import END, FIRST, PADDING, START, TextEncoder
from diffusion_jax.runtime import safetensors
from diffusion_jax.runtime.home import expanded

UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)  # of files in a folder
_AT_ONCE = 256  # texts


class Cut(Protocol):
    """How a model cuts texts into pieces."""

    def pieces(self, text: str) -> list[tuple[int, int]]:
        """Numbers of pieces, each with the character it begins at."""
        ...

    def text(self, numbers: Sequence[int]) -> str:
        """The text of pieces."""
        ...


@dataclass(frozen=True)
class Opened:
    """A model that has been read.

    Attributes:
        cut: how it cuts texts.
        known: how many pieces there are.
        frame: its own numbers of padding, start and end of a text; None where it has no start.
        states: of its own numbers `[N, L]`, float `[N, L, width]`, zeros for padding.
        width: values of a state.
        longest: tokens that it reads at most, start and end included; 0 for any number.
        digest: SHA-256 of its weights.
    """

    cut: Cut
    known: int
    frame: tuple[int, int | None, int]
    states: Callable[[np.ndarray], np.ndarray]
    width: int
    longest: int
    digest: str


@dataclass(frozen=True)
class Frozen:
    """A pretrained model, and a small transformer on its states that learns.

    Attributes:
        path: the folder of the model.
        length: pieces of the longest text, and two for its start and end.
        width: values in a token of the small transformer.
        depth: its blocks.
        heads: of its attention.
        digest: the beginning of the SHA-256 of the weights that a run was trained with.
    """

    path: str
    length: int
    width: int
    depth: int
    heads: int
    digest: str
    unit = "pieces"  # what a text is too long in

    @abstractmethod
    def opened(self) -> Opened:
        """The model."""

    @property
    def vocabulary(self) -> int:
        """Pieces, and padding, start and end."""
        return FIRST + self.opened().known

    @property
    def frozen_width(self) -> int:
        """Values of each token's state."""
        return self.opened().width

    @property
    def longest(self) -> int:
        """Tokens of the longest text there can be; 0 where there is no such limit."""
        return self.opened().longest

    def pieces(self, text: str) -> list[tuple[int, int]]:
        """The model's own pieces."""
        return [(FIRST + i, at) for i, at in self.opened().cut.pieces(text)]

    def text(self, ids: Sequence[int]) -> str:
        """Pieces put together."""
        return self.opened().cut.text([i - FIRST for i in ids])

    def settled(self, captions: Sequence[str]) -> TextEncoder:
        """With the digest of its weights, and where they are from any folder: a run keeps both."""
        if not captions:
            return self
        path = str(expanded(self.path).absolute())
        return replace(self, path=path, digest=self.opened().digest[:16])

    def frozen(self, ids: np.ndarray) -> np.ndarray:
        """The states of `ids` `[N, L]`, float16 `[N, L, frozen_width]`; zeros for padding.

        Raises:
            ConfigError: a state is no finite number of float16.
        """
        model = self.opened()
        padding, start, end = model.frame
        named = {PADDING: padding, START: padding if start is None else start, END: end}
        special = np.asarray([named[i] for i in range(FIRST)])
        theirs = np.where(ids < FIRST, special[np.minimum(ids, FIRST - 1)], ids - FIRST)
        first = int(start is None)  # the place of START stays empty
        out = np.zeros((*ids.shape, model.width), np.float16)
        for k in range(0, len(ids), _AT_ONCE):
            part = slice(k, k + _AT_ONCE)
            last = int((ids[part] > 0).sum(1).max(initial=0))
            if last > first:
                found = model.states(theirs[part, first:last])
                with np.errstate(over="ignore"):
                    out[part, first:last] = found
        if not np.isfinite(out).all():
            kind = type(self).__name__.lower()
            raise ConfigError(
                f"{kind}(path={self.path!r}): its states are not finite in float16; are these the "
                "weights of a trained model?"
            )
        return out


_F = TypeVar("_F", bound=Frozen)


def checked(encoder: _F) -> _F:
    """The encoder, if its folder has a model that reads so much, with the weights it should have.

    Raises:
        ConfigError: it has not.
        CheckpointError: its weights cannot be read.
    """
    kind, model = type(encoder).__name__.lower(), encoder.opened()
    if model.longest and encoder.length > model.longest:
        raise ConfigError(
            f"{kind}(length={encoder.length}): this model reads {model.longest} tokens at most"
        )
    if encoder.digest and not model.digest.startswith(encoder.digest):
        raise ConfigError(
            f"{kind}(path={encoder.path!r}): these are not the weights this run was trained with "
            f"(SHA-256 {model.digest[:8]}.., not {encoder.digest[:8]}..)"
        )
    return encoder


def refusal(kind: str, folder: str, e: Exception, needed: str) -> ConfigError:
    """What to raise where the files in a folder are not those of a model."""
    if isinstance(e, OSError):
        why = f"{Path(e.filename or folder).name}: {e.strerror}"
    else:
        why = f"there is no {e}" if isinstance(e, KeyError) else str(e)
    return ConfigError(f"{kind}(path={folder!r}): {why}; a folder with {needed} is needed")


def weights(
    folder: Path, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, np.ndarray], str]:
    """Tensors of the model in a folder, float32, and the SHA-256 of all of its files of weights.

    Raises:
        CheckpointError: they cannot be read, or one is missing or of another shape.
    """
    parts, digest = safetensors.parts(folder), hashlib.sha256()
    tensors = safetensors.read(parts, shapes)
    for part in parts:
        with part.open("rb") as f:
            while block := f.read(2**20):
                digest.update(block)
    return {k: a.astype(np.float32, copy=False) for k, a in tensors.items()}, digest.hexdigest()
