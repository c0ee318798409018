"""Augmentations: the contract of every plug-in, how many variants there are, and what is told."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError

SPECS = {"chain": "chain(rotate(), permute())", "hidden": "hidden(flip())", "crop": "crop(pad=2)"}
NAMES = registry.available("augment")


def build(spec):
    return registry.build("augment", spec)


@pytest.fixture(scope="module")
def images():
    """64 images 4x4x3, no value of an image twice."""
    rng = np.random.default_rng(0)
    return np.stack([rng.permutation(48).reshape(4, 4, 3) for _ in range(64)]).astype(np.uint8)


@pytest.mark.parametrize("name", NAMES)
def test_contract(name, images):
    augment = build(SPECS.get(name, f"{name}()"))
    run = jax.jit(augment)
    keys, order = jax.random.split(jax.random.key(0), 64), np.arange(64)[::-1]
    on_device, other_way = jax.device_put((images, images[order]))
    turned = keys[order]
    with jax.transfer_guard("disallow"):  # nothing may go through the host
        out, told = run(keys, on_device)
        back, told_back = run(turned, other_way)
    out, told, back, told_back = map(np.asarray, (out, told, back, told_back))
    assert out.shape == images.shape and out.dtype == np.uint8
    assert told.shape == (64, augment.size)
    # An example's key decides, not its place in the batch or its neighbours.
    np.testing.assert_array_equal(back[order], out)
    np.testing.assert_array_equal(told_back[order], told)
    untouched = np.all(out == images, axis=(1, 2, 3))
    assert untouched.all() == (name == "none")
    if augment.size:  # zeros mean untouched, and only they do
        np.testing.assert_array_equal(np.all(told == 0, axis=1), untouched)
    if name != "crop":
        pixels = lambda a: np.sort(a.reshape(64, -1))
        np.testing.assert_array_equal(pixels(out), pixels(images))


@pytest.mark.parametrize(
    ("spec", "variants"),
    [("flip()", 2), ("rotate()", 4), ("permute()", 6), ("dihedral()", 8), ("crop(pad=1)", 9),
     ("chain(flip(), permute())", 12), ("chain(dihedral(), permute())", 48)],
)  # fmt: skip
def test_all_variants_are_equally_likely_and_told_apart(spec, variants):
    n = 100 * variants
    image = jnp.arange(27, dtype=jnp.uint8).reshape(1, 3, 3, 3).repeat(n, axis=0)
    out, told = jax.jit(build(spec))(jax.random.split(jax.random.key(1), n), image)
    seen = {}
    for o, t in zip(np.asarray(out), np.asarray(told), strict=True):
        seen.setdefault(o.tobytes(), []).append(t.tobytes())
    assert len(seen) == variants == len({t for ts in seen.values() for t in ts})
    assert all(len(set(ts)) == 1 for ts in seen.values())
    # Five standard deviations of a binomial count with mean 100.
    counts = np.array([len(ts) for ts in seen.values()])
    assert counts.min() > 50 and counts.max() < 150


def test_a_crop_is_the_reflected_image_shifted_as_told(images):
    out, told = build("crop(pad=2)")(jax.random.split(jax.random.key(2), 64), jnp.asarray(images))
    wide = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    shifts = np.asarray(told) * 2
    np.testing.assert_array_equal(shifts, np.round(shifts))
    for o, w, (dy, dx) in zip(np.asarray(out), wide, shifts.astype(int), strict=True):
        np.testing.assert_array_equal(o, w[2 - dy : 6 - dy, 2 - dx : 6 - dx])


def test_parts_of_a_chain_are_independent():
    n = 4000
    _, told = build("chain(flip(), flip())")(
        jax.random.split(jax.random.key(3), n), jnp.zeros((n, 1, 2, 1), jnp.uint8)
    )
    both = np.bincount(np.asarray(told @ jnp.array([1.0, 2.0])).astype(int), minlength=4)
    assert abs(both - n / 4).max() < 5 * np.sqrt(n * 3 / 16)


@pytest.mark.parametrize(
    ("spec", "shape", "says"),
    [
        ("rotate()", (1, 3, 4, 3), "must be square"),
        ("permute()", (1, 4, 4, 1), "must have 3 channels"),
        ("crop(pad=4)", (1, 4, 4, 3), "pad=4 must be less"),
        ("crop(pad=0)", None, "at least 1"),
        ("chain()", None, "chain takes augmentations"),
        ("chain(3)", None, "chain takes augmentations"),
        ("hidden('flip()')", None, "hidden takes an augmentation"),
    ],
)
def test_refusals(spec, shape, says):
    with pytest.raises(ConfigError, match=says):
        build(spec)(jax.random.split(jax.random.key(0), 1), jnp.zeros(shape, jnp.uint8))
