"""Contract of judges."""

from typing import Any

import numpy as np

from diffusion_jax.data.base import Split
from diffusion_jax.testing._tools import must

# Whose test images a judge of a first respect is held against.
_KNOWN = {
    "colour": "scenes(objects=1, size=10)",
    "class": "class_captions(digits())",
    "tone": "emoji()",
    "sign": "icons()",
}


def judge(plugin: Any, split: Split | None = None) -> None:
    """Shares from 0 to 1 for each respect; images do not see one another; real ones are right.

    `split` has images with texts that it reads; test images that fit the names of its respects, if
    None.
    """
    from diffusion_jax import registry

    if split is None:
        other = _KNOWN["colour" if len(plugin.names) > 1 else "class"]
        split = registry.build("data", _KNOWN.get(plugin.names[0], other)).split("test")
    assert split is not None
    assert split.captions is not None
    images, texts = np.asarray(split.images[:60]), split.captions.strings()[:60]
    right = plugin.right(images, texts)
    must(right.shape == (60, len(plugin.names)), f"right gave {right.shape}, not (60, names)")
    known = right[~np.isnan(right)]
    must(bool(((known >= 0) & (known <= 1)).all()), "a share is not from 0 to 1")
    must(known.mean() > 0.9, f"only {known.mean():.2f} of what real images show is right to it")
    alone = plugin.right(images[7:8], texts[7:8])
    must(np.array_equal(alone[0], right[7], equal_nan=True), "images see one another")
    other = plugin.right(images, texts[1:] + texts[:1])
    must(np.nanmean(other) < np.nanmean(right), "it likes the texts of other images as much")
