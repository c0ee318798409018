"""Contract of text encoders."""

from typing import Any

import numpy as np

from diffusion_jax.networks.text_encoders.base import END, FIRST, START, decode, encode
from diffusion_jax.testing._tools import must

_TEXTS = ("a red three, top left", "blue", "")


def text_encoder(plugin: Any) -> None:
    """Token ids are below the vocabulary size, padded with 0, decodable and reproducible."""
    settled = plugin.settled(_TEXTS)
    hash(settled)  # models compare their text encoders
    ids = encode(settled, _TEXTS)
    must(ids.shape == (3, settled.length), f"encode gave {ids.shape}, not (3, {settled.length})")
    must(ids.max() < settled.vocabulary, "a token id is not below `vocabulary`")
    must(decode(settled, ids) == list(_TEXTS), "decode is not the inverse of encode")
    for row in ids:
        n = int((row > 0).sum())
        must(row[0] == START and row[n - 1] == END, "a text has no start or end token")
        must(not row[n:].any() and (row[1 : n - 1] >= FIRST).all(), "there is padding in a text")
    must(settled.settled(("others",)) == settled, "a settled encoder changes with other captions")
    starts = [k for _, k in settled.pieces(_TEXTS[0])]
    must(starts == sorted(starts) and starts[0] == 0, "positions of pieces do not rise from 0")
    must(np.array_equal(ids, encode(settled, _TEXTS)), "encoding is not reproducible")
