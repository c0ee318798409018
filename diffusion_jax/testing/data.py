"""Contracts of data sets, augmentations, pyramids and views."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.data.base import Source
from diffusion_jax.errors import ConfigError, DataError
from diffusion_jax.testing._tools import images, must


def source(plugin: Any) -> None:
    """Splits as declared, the same ones every time; rows by number, in any order."""
    must(isinstance(plugin, Source), f"make(...) returned {type(plugin).__name__}, not a Source")
    for name in ("train", "valid", "test"):
        try:
            split = plugin.split(name)
        except DataError as e:
            must(name == "valid" and "empty" in str(e), f"{name}: {e}")
            continue
        again, n = plugin.split(name), len(split)
        must(split.sketch() == again.sketch(), f"{name} is another one when it is read again")
        rows = np.asarray([n - 1, 0, n // 2])
        taken = split.take(rows)
        must(taken["image"].shape == (3, *plugin.shape), f"{name}: take() gave other shapes")
        one = split.take(rows[2:])
        same = np.array_equal(one["image"][0], taken["image"][2])
        must(same and one["label"][0] == taken["label"][2], f"{name}: a row depends on the others")
    must(len(plugin.split("train")) > 1, "there is nothing to train on")


def augment(plugin: Any) -> None:
    """uint8 of the same shape, and what was done; a function of each image and its key."""
    batch, keys = images(64), jax.random.split(jax.random.key(0), 64)
    run = jax.jit(lambda keys, batch: plugin(keys, batch))
    out, told = run(keys, batch)
    must(out.dtype == jnp.uint8, f"it gave {out.dtype}, not uint8")
    must(out.shape == batch.shape, f"it gave shape {out.shape} for {batch.shape}")
    must(told.shape == (64, plugin.size), f"it tells {told.shape}, and declares size={plugin.size}")
    must(bool(jnp.isfinite(told).all()), "what it tells is not finite")
    alone, _ = run(keys[5:6], batch[5:6])
    must(bool((alone[0] == out[5]).all()), "images see one another")
    if plugin.size:
        untouched = np.asarray(~told.any(axis=1))
        same = np.asarray((out == batch).all(axis=(1, 2, 3)))
        must(bool(same[untouched].all()), "zeros tell of an image that was changed")


def pyramid(plugin: Any) -> None:
    """`merge` undoes `split`; the parts are whole levels of the shapes that are said."""
    images = jax.random.randint(jax.random.key(0), (64, 4, 6, 3), 0, 256).astype(jnp.uint8)
    low, high = plugin.split(images)
    must(low.shape == (64, 2, 3, 3), "low does not have half of height and width")
    must(high.shape == (64, *plugin.high_shape((4, 6, 3))), "high is not of shape high_shape(...)")
    must(low.dtype == high.dtype == jnp.uint8, "a part is not uint8")
    must(bool(jnp.all(plugin.merge(low, high) == images)), "merge(split(images)) is not images")


def view(plugin: Any) -> None:
    """Parts of the shapes that are said; `join` gives an image, or the video, of them."""
    shape = (8, 8, 3)
    try:
        plugin.shape(shape)
    except ConfigError:
        shape = (5, 8, 8, 3)
    images = jax.random.randint(jax.random.key(0), (4, *shape), 0, 256).astype(jnp.uint8)
    part, given = plugin(images)
    must(part.shape == (4, *plugin.shape(shape)), "the part is not of shape shape(...)")
    told = plugin.given_shape(shape)
    must(("low" in given) == (told is not None), "what is given is not what given_shape says")
    must(told is None or given["low"].shape == (4, *told), "low is not of shape given_shape(...)")
    joined, size = plugin.join(part, given), 8 >> plugin.halvings
    must(joined.dtype == jnp.uint8, "join does not give images")
    if len(shape) == 3:
        must(joined.shape == (4, size, size, 3), "join does not give images halved so often")
        return
    same = joined.shape[1] <= 5 and jnp.array_equal(joined, images[:, : joined.shape[1]])
    must(bool(same), "join does not give the frames from the first on")
    must((joined.shape[1] == 5) == (not plugin.halvings), "halvings is wrong about what follows")
