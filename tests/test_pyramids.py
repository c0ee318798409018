"""Pyramids lose nothing, whatever the number of levels; views say what a run sees of an image."""

import itertools

import numpy as np
import pytest

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError, SpecError

PYRAMIDS = registry.available("pyramids")
EXACT = [n for n in PYRAMIDS if registry.build("pyramids", n).exact]


def parts(name, images, levels):
    pyramid = registry.build("pyramids", name, levels=levels)
    low, high = pyramid.split(images)
    assert np.array_equal(pyramid.merge(low, high), images)
    return np.asarray(low), np.asarray(high)


@pytest.mark.parametrize("levels", [2, 3, 4])
@pytest.mark.parametrize("name", PYRAMIDS)
def test_every_tiny_image_comes_back_and_a_bijection_reaches_every_pair(name, levels):
    images = np.array([*itertools.product(range(levels), repeat=4)], np.uint8).reshape(-1, 2, 2, 1)
    low, high = parts(name, images, levels)
    assert max(low.max(), high.max()) < levels
    pairs = {(a.tobytes(), b.tobytes()) for a, b in zip(low, high, strict=True)}
    assert len(pairs) == len(images)
    if name in EXACT:  # as many pairs as there can be
        assert low.size + high.size == images.size


@pytest.mark.parametrize("levels", [2, 5, 17, 255, 256])
@pytest.mark.parametrize("name", PYRAMIDS)
def test_random_images_of_other_sizes_and_levels(name, levels):
    shape = (16, 6, 4, 3)
    images = np.random.default_rng(levels).integers(0, levels, shape).astype(np.uint8)
    low, high = parts(name, images, levels)
    assert low.shape == (16, 3, 2, 3)
    assert max(low.max(), high.max()) < levels


def test_what_the_bands_of_a_smooth_image_are():
    """Haar's low part is the mean rounded down; differences of a flat image are the middle."""
    flat = np.full((1, 4, 4, 1), 77, np.uint8)
    low, high = parts("haar", flat, 256)
    assert (low == 77).all() and (high == 128).all()
    line = np.array([[10, 13], [10, 13]], np.uint8).reshape(1, 2, 2, 1)
    low, high = parts("haar", line, 256)
    assert low.item() == 11
    assert sorted(high.ravel().tolist()) == [125, 128, 128]
    assert parts("average", line, 256)[0].item() == 11
    assert parts("subsample", line, 256)[0].item() == 10


@pytest.mark.parametrize("name", PYRAMIDS)
def test_views_of_all_levels_make_up_the_image(name):
    images = np.random.default_rng(0).integers(0, 17, (5, 8, 8, 1)).astype(np.uint8)

    def view(text):
        return registry.build("views", text, levels=17)

    small, nothing = view(f"low({name}(), level=2)")(images)
    assert not nothing
    current = small
    for level in (2, 1):
        one = view(f"high({name}(), level={level})")
        part, given = one(images)
        assert np.array_equal(given["low"], current)
        assert part.shape == (5, *one.shape((8, 8, 1)))
        assert current.shape[1:] == one.given_shape((8, 8, 1))
        current = one.join(part, given)
    assert np.array_equal(current, images)


def test_odd_sizes_and_unknown_pyramids_are_refused():
    shape = (28, 28, 1)
    assert registry.build("views", "low(level=2)").shape(shape) == (7, 7, 1)
    with pytest.raises(ConfigError, match=r"7x7 images one more level .* or view='whole\(\)'"):
        registry.build("views", "low(level=3)").shape(shape)
    with pytest.raises(ConfigError, match="one more level is impossible"):
        registry.build("views", "high(average(), level=3)").shape(shape)
    with pytest.raises(SpecError, match=r"haar"):
        registry.build("views", "low(har())")
    with pytest.raises(SpecError, match="level"):
        registry.build("views", "low(level=0)")
