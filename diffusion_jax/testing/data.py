"""Contracts of data sets, augmentations, pyramids and views."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.data.base import Source
from diffusion_jax.errors import ConfigError, DataError
from diffusion_jax.testing._tools import images, must


def source(plugin: Any) -> None:
    """Splits are as declared, and reproducible; rows can be read in any order."""
    must(isinstance(plugin, Source), f"make(...) returned {type(plugin).__name__}, not a Source")
    for name in ("train", "valid", "test"):
        try:
            split = plugin.split(name)
        except DataError as e:
            must(name == "valid" and "empty" in str(e), f"{name}: {e}")
            continue
        again, n = plugin.split(name), len(split)
        must(split.sketch() == again.sketch(), f"{name} changes when it is read again")
        rows = np.asarray([n - 1, 0, n // 2])
        taken = split.take(rows)
        must(taken["image"].shape == (3, *plugin.shape), f"{name}: take() returns wrong shapes")
        one = split.take(rows[2:])
        same = np.array_equal(one["image"][0], taken["image"][2])
        must(same and one["label"][0] == taken["label"][2], f"{name}: a row depends on the others")
    must(len(plugin.split("train")) > 1, "train has fewer than two examples")


def augment(plugin: Any) -> None:
    """Returns uint8 images of the same shape, and vectors; each depends on one image and key."""
    batch, keys = images(64), jax.random.split(jax.random.key(0), 64)
    run = jax.jit(lambda keys, batch: plugin(keys, batch))
    out, vectors = run(keys, batch)
    must(out.dtype == jnp.uint8, f"it returned {out.dtype}, not uint8")
    must(out.shape == batch.shape, f"it returned shape {out.shape} for {batch.shape}")
    declared = (64, plugin.size)
    must(vectors.shape == declared, f"vectors have shape {vectors.shape}, not {declared}")
    must(bool(jnp.isfinite(vectors).all()), "a vector is not finite")
    alone, _ = run(keys[5:6], batch[5:6])
    must(bool((alone[0] == out[5]).all()), "an image depends on the others in the batch")
    if plugin.size:
        untouched = np.asarray(~vectors.any(axis=1))
        same = np.asarray((out == batch).all(axis=(1, 2, 3)))
        must(bool(same[untouched].all()), "a changed image has a zero vector")


def pyramid(plugin: Any) -> None:
    """`merge` is the inverse of `split`; the parts are uint8 with the declared shapes."""
    images = jax.random.randint(jax.random.key(0), (64, 4, 6, 3), 0, 256).astype(jnp.uint8)
    low, high = plugin.split(images)
    must(low.shape == (64, 2, 3, 3), "low does not have half the height and width")
    must(high.shape == (64, *plugin.high_shape((4, 6, 3))), "high is not of shape high_shape(...)")
    must(low.dtype == high.dtype == jnp.uint8, "a part is not uint8")
    must(bool(jnp.all(plugin.merge(low, high) == images)), "merge(split(images)) is not images")


def view(plugin: Any) -> None:
    """Parts have the declared shapes; `join` returns images, or videos, made of them."""
    shape = (8, 8, 3)
    try:
        plugin.shape(shape)
    except ConfigError:
        shape = (5, 8, 8, 3)
    images = jax.random.randint(jax.random.key(0), (4, *shape), 0, 256).astype(jnp.uint8)
    part, given = plugin(images)
    must(part.shape == (4, *plugin.shape(shape)), "the part is not of shape shape(...)")
    low = plugin.given_shape(shape)
    must(("low" in given) == (low is not None), "given_shape does not say whether low is given")
    must(low is None or given["low"].shape == (4, *low), "low is not of shape given_shape(...)")
    joined, size = plugin.join(part, given), 8 >> plugin.halvings
    must(joined.dtype == jnp.uint8, "join does not return uint8")
    if len(shape) == 3:
        must(joined.shape == (4, size, size, 3), "the size of join(...) does not match halvings")
        return
    same = joined.shape[1] <= 5 and jnp.array_equal(joined, images[:, : joined.shape[1]])
    must(bool(same), "join does not return the video from its first frame")
    complete = joined.shape[1] == 5
    must(complete == (not plugin.halvings), "halvings must be 0 if and only if join is complete")
