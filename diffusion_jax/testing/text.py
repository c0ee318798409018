"""Contract of text encoders."""

from typing import Any

import numpy as np

from diffusion_jax.networks.text_encoders.base import END, FIRST, START, decode, encode
from diffusion_jax.testing._tools import must

_TEXTS = ("a red three, top left", "blue", "")


def text_encoder(plugin: Any) -> None:
    """Whole numbers below the vocabulary, padded with 0; the text comes back; equal if rebuilt."""
    settled = plugin.settled(_TEXTS)
    hash(settled)  # models that hold one are compared
    ids = encode(settled, _TEXTS)
    must(ids.shape == (3, settled.length), f"encode gave {ids.shape}, not (3, {settled.length})")
    must(ids.max() < settled.vocabulary, "a number is not below the vocabulary")
    must(decode(settled, ids) == list(_TEXTS), "decoding does not give the texts back")
    for row in ids:
        n = int((row > 0).sum())
        must(row[0] == START and row[n - 1] == END, "a text has no start or no end")
        must(not row[n:].any() and (row[1 : n - 1] >= FIRST).all(), "padding is inside a text")
    must(settled.settled(("others",)) == settled, "what was settled changes with other captions")
    at = [k for _, k in settled.pieces(_TEXTS[0])]
    must(at == sorted(at) and at[0] == 0, "pieces do not say where in the text they begin")
    must(np.array_equal(ids, encode(settled, _TEXTS)), "encoding is not always the same")
