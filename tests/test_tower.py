"""The tower of guides: features that differ, places, and parts of a map."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from weights import moved

from diffusion_jax.networks.guides import base
from diffusion_jax.networks.layers.tower import shares


def test_a_tower_of_places_knows_where_and_one_without_does_not():
    """An object that keeps its distance from the border, here and there."""
    z = np.zeros((2, 24, 24, 1), np.float32)
    z[0, 7:10, 6:9] = z[1, 13:16, 12:15] = 1.0

    def seen(places):
        body = base.tower(8, (1,), 1, 0.0, 0, -6.0, 4.0, "float32", places)
        zeros = np.zeros(2, np.float32)
        params = jax.jit(body.init)(jax.random.key(0), z, zeros, {})["params"]
        params = moved(params, 0.3)  # the same in both: a mean has no weights
        return np.asarray(jax.jit(body.apply)({"params": params}, z, zeros, {}))

    def apart(f):
        return np.linalg.norm(f[0] - f[1]) / np.linalg.norm(f[0])

    blind, sees = seen(1), seen(4)
    np.testing.assert_allclose(sees.reshape(2, 16, -1).mean(1), blind, rtol=1e-4, atol=1e-6)
    assert apart(blind) < 1e-4
    assert apart(sees) > 0.1


def test_no_feature_is_another_one_upside_down():
    """As two are that a norm makes opposite, alone in their group, before the mean."""
    z = jax.image.resize(
        jax.random.normal(jax.random.key(0), (256, 4, 4, 1)), (256, 8, 8, 1), "linear"
    )

    def mirrored(groups):
        body = base.tower(16, (2,), 1, 0.0, 0, -6.0, 4.0, "float32", groups=groups)
        params = jax.jit(body.init)(jax.random.key(1), z[:2], jnp.zeros(2), {})
        found = jax.jit(body.apply)(params, z, jnp.full(256, -4.0), {})
        alike = np.corrcoef(np.asarray(found).T)
        return np.mean([alike[i, i + 1] for i in range(0, len(alike), 2)])

    assert mirrored(32) < -0.9  # the channels come in pairs
    assert abs(mirrored(8)) < 0.5


@pytest.mark.parametrize(("size", "parts"), [(8, 4), (6, 4), (2, 4), (7, 3), (5, 1)])
def test_parts_of_a_map_are_means_that_share_everything_equally(size, parts):
    found = shares(size, parts)
    np.testing.assert_allclose(found.sum(1), 1.0)
    np.testing.assert_allclose(found.sum(0), parts / size)
    fine = np.arange(size * parts)  # every position as `parts` small ones
    alone = [np.bincount(fine[k * size : (k + 1) * size] // parts, minlength=size) / size
             for k in range(parts)]  # fmt: skip
    np.testing.assert_allclose(found, alone, atol=1e-12)
