"""Contract of judges."""

from typing import Any

import numpy as np

from diffusion_jax.data.base import Split
from diffusion_jax.testing._tools import must

# Data sets with test images for a judge, by the first attribute that it judges.
_KNOWN = {
    "colour": "scenes(objects=1, size=10)",
    "class": "class_captions(digits())",
    "tone": "emoji()",
    "sign": "icons()",
}


def judge(plugin: Any, split: Split | None = None) -> None:
    """Shares are in [0, 1] and independent of the batch; most real images are right.

    Args:
        plugin: the judge.
        split: images with texts that it can judge; None chooses test images by its `names`.
    """
    from diffusion_jax import registry

    if split is None:
        other = _KNOWN["colour" if len(plugin.names) > 1 else "class"]
        split = registry.build("data", _KNOWN.get(plugin.names[0], other)).split("test")
    assert split is not None
    assert split.captions is not None
    images, texts = np.asarray(split.images[:60]), split.captions.strings()[:60]
    right = plugin.right(images, texts)
    must(right.shape == (60, len(plugin.names)), f"right returned {right.shape}, not (60, names)")
    judged = right[~np.isnan(right)]
    must(bool(((judged >= 0) & (judged <= 1)).all()), "a share is not between 0 and 1")
    must(judged.mean() > 0.9, f"it calls only {judged.mean():.2f} of real images right")
    alone = plugin.right(images[7:8], texts[7:8])
    same = np.array_equal(alone[0], right[7], equal_nan=True)
    must(same, "a result depends on the other images in the batch")
    other = plugin.right(images, texts[1:] + texts[:1])
    must(np.nanmean(other) < np.nanmean(right), "texts of other images score equally well")
