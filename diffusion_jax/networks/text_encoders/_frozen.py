"""Frozen pretrained text encoders, which encode each text once."""

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

UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)  # raised by bad files
_AT_ONCE = 256  # texts encoded at once


class Cut(Protocol):
    """The tokenizer of a model."""

    def pieces(self, text: str) -> list[tuple[int, int]]:
        """Numbers of pieces, each with the position of its first character."""
        ...

    def text(self, numbers: Sequence[int]) -> str:
        """The text of pieces."""
        ...


@dataclass(frozen=True)
class Opened:
    """A model that has been loaded.

    Attributes:
        cut: its tokenizer.
        size: number of pieces.
        frame: its own numbers of padding, start and end of a text; the start may be None.
        states: maps its own numbers `[N, L]` to states, float `[N, L, width]`, zeros for padding.
        width: values per state.
        longest: largest number of tokens, start and end included; 0 for no limit.
        digest: SHA-256 of its weights.
    """

    cut: Cut
    size: int
    frame: tuple[int, int | None, int]
    states: Callable[[np.ndarray], np.ndarray]
    width: int
    longest: int
    digest: str


@dataclass(frozen=True)
class Frozen:
    """A frozen pretrained model, and a small trainable transformer on its states.

    Attributes:
        path: folder of the model.
        length: pieces of the longest text, plus two for its start and end.
        width: values per token of the small transformer.
        depth: number of its blocks.
        heads: number of its attention heads.
        digest: first digits of the SHA-256 of the weights with which a run was trained.
    """

    path: str
    length: int
    width: int
    depth: int
    heads: int
    digest: str
    unit = "pieces"  # unit of `length`, for messages

    @abstractmethod
    def opened(self) -> Opened:
        """The model."""

    @property
    def vocabulary(self) -> int:
        """Number of pieces, with padding, start and end."""
        return FIRST + self.opened().size

    @property
    def frozen_width(self) -> int:
        """Values per token's state."""
        return self.opened().width

    @property
    def longest(self) -> int:
        """Tokens of the longest text that the model can read; 0 for no limit."""
        return self.opened().longest

    def pieces(self, text: str) -> list[tuple[int, int]]:
        """The model's own pieces."""
        return [(FIRST + i, at) for i, at in self.opened().cut.pieces(text)]

    def text(self, ids: Sequence[int]) -> str:
        """The text of pieces."""
        return self.opened().cut.text([i - FIRST for i in ids])

    def settled(self, captions: Sequence[str]) -> TextEncoder:
        """A copy with the absolute path and the digest of its weights, which a run records."""
        if not captions:
            return self
        path = str(expanded(self.path).absolute())
        return replace(self, path=path, digest=self.opened().digest[:16])

    def frozen(self, ids: np.ndarray) -> np.ndarray:
        """The states of `ids` `[N, L]`, float16 `[N, L, frozen_width]`; zeros for padding.

        Raises:
            ConfigError: a state is not finite in float16.
        """
        model = self.opened()
        padding, start, end = model.frame
        named = {PADDING: padding, START: padding if start is None else start, END: end}
        special = np.asarray([named[i] for i in range(FIRST)])
        model_ids = np.where(ids < FIRST, special[np.minimum(ids, FIRST - 1)], ids - FIRST)
        first = int(start is None)  # without a start token, the position of START stays zero
        out = np.zeros((*ids.shape, model.width), np.float16)
        for k in range(0, len(ids), _AT_ONCE):
            part = slice(k, k + _AT_ONCE)
            last = int((ids[part] > 0).sum(1).max(initial=0))
            if last > first:
                states = model.states(model_ids[part, first:last])
                with np.errstate(over="ignore"):
                    out[part, first:last] = states
        if not np.isfinite(out).all():
            kind = type(self).__name__.lower()
            raise ConfigError(
                f"{kind}(path={self.path!r}): its states are not finite in float16; are these the "
                "weights of a trained model?"
            )
        return out


_F = TypeVar("_F", bound=Frozen)


def checked(encoder: _F) -> _F:
    """The encoder, after checking its length and its weights.

    Raises:
        ConfigError: there is no model in the folder, it cannot read texts of this length, or its
            weights have another digest.
        CheckpointError: the weights cannot be read.
    """
    kind, model = type(encoder).__name__.lower(), encoder.opened()
    if model.longest and encoder.length > model.longest:
        raise ConfigError(
            f"{kind}(length={encoder.length}): this model reads at most {model.longest} tokens"
        )
    if encoder.digest and not model.digest.startswith(encoder.digest):
        raise ConfigError(
            f"{kind}(path={encoder.path!r}): these are not the weights this run was trained with "
            f"(SHA-256 {model.digest[:8]}.., not {encoder.digest[:8]}..)"
        )
    return encoder


def refusal(kind: str, folder: str, e: Exception, needed: str) -> ConfigError:
    """The error to raise if the files in a folder are not those of a model."""
    if isinstance(e, OSError):
        why = f"{Path(e.filename or folder).name}: {e.strerror}"
    else:
        why = f"there is no {e}" if isinstance(e, KeyError) else str(e)
    return ConfigError(f"{kind}(path={folder!r}): {why}; a folder with {needed} is needed")


def weights(
    folder: Path, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, np.ndarray], str]:
    """Tensors of the model in a folder, float32, and the SHA-256 of all its weight files.

    Raises:
        CheckpointError: the files cannot be read, or a tensor is missing or has another shape.
    """
    parts, digest = safetensors.parts(folder), hashlib.sha256()
    tensors = safetensors.read(parts, shapes)
    for part in parts:
        with part.open("rb") as f:
            while block := f.read(2**20):
                digest.update(block)
    return {k: a.astype(np.float32, copy=False) for k, a in tensors.items()}, digest.hexdigest()
