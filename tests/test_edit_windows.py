"""Canvases wider than the model: windows, widening and extending."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian_edits import KEY, Network, edited

from diffusion_jax.sampling.edits._windows import Border, tiling
from diffusion_jax.sampling.edits.widen import windowed
from diffusion_jax.types import Pred, alpha, expand, sigma

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize(
    ("canvas", "window", "sides", "stride"),
    [
        ((8, 16), (8, 8), (0, 8, 0, 0), 0),
        ((6, 9), (4, 4), (2, 3, 1, 1), 3),
        ((7, 7), (4, 5), (2, 0, 0, 3), 1),
    ],
)  # fmt: skip
def test_windows_cover_the_canvas_from_the_source_outwards(canvas, window, sides, stride):
    left, right, top, bottom = sides
    tiles = tiling("widen", canvas, window, Border(left, right, top, bottom), stride)
    assert tiles.corners[0] == (top, left)
    seen = np.zeros(canvas, bool)
    for k, (y, x) in enumerate(tiles.corners):
        assert 0 <= y <= canvas[0] - window[0] and 0 <= x <= canvas[1] - window[1]
        part = seen[y : y + window[0], x : x + window[1]]
        assert k == 0 or part.any(), "a window that shares nothing with those before"
        part[:] = True
    assert seen.all()
    # What is cut out and averaged is what it was.
    a = jax.random.normal(KEY, (3, *canvas, 2))
    back = jax.jit(lambda a: tiles.average(tiles.cut(a)))(a)
    np.testing.assert_allclose(back, a, atol=1e-12)


def test_a_windowed_denoiser_of_independent_pixels_is_the_wide_one():
    tiles = tiling("widen", (2, 7), (2, 3), Border(2, 2, 0, 0), 0)
    z, gamma = jax.random.normal(KEY, (4, 2, 7, 1)), jnp.asarray(0.3)

    def denoise(z, gamma, cond):
        eps = Network(tuple(map(tuple, 0.2 * np.eye(z[0].size))), 0.5).apply({}, z, gamma, cond)
        g = expand(gamma, z)
        return Pred((z - sigma(g) * eps) / alpha(g), eps)

    wide = windowed(denoise, tiles, (), 0)(z, gamma, {})
    true = denoise(z, gamma, {})
    np.testing.assert_allclose(wide.x, true.x, atol=1e-12)
    np.testing.assert_allclose(wide.eps, true.eps, atol=1e-12)
    each = windowed(denoise, tiles, (), 0)(z, jnp.full(4, gamma), {})
    np.testing.assert_allclose(each.x, true.x, atol=1e-12)


def test_windows_have_their_own_labels():
    tiles = tiling("widen", (1, 4), (1, 2), Border(0, 2, 0, 0), 1)
    saw = lambda z, gamma, cond: Pred(*[z * 0.0 + cond["label"].reshape(-1, 1, 1, 1)] * 2)
    wide = windowed(saw, tiles, (7, -1, 3), 10)
    x = wide(jnp.zeros((2, 1, 4, 1)), jnp.asarray(0.0), {"label": jnp.array([1, 2])}).x
    np.testing.assert_allclose(x[0].ravel(), [7.0, 8.5, 6.5, 3.0])
    np.testing.assert_allclose(x[1], x[0])


def ar1(n, rho=0.7):
    return rho ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))


@pytest.mark.slow
def test_extending_a_markov_process_gives_its_law():
    """Sources from the process, windows of four with two in common: the canvas is the process."""
    network = Network(tuple(map(tuple, ar1(4))))
    x = np.random.default_rng(0).multivariate_normal(np.zeros(4), ar1(4), 6000)
    end = edited("extend(left=2, right=2, inner=posterior(method='exact', noise=0.01))", network,
                 x.reshape(-1, 1, 4, 1), sampler="dpmpp_2m(eta=1.0)", steps=60)  # fmt: skip
    np.testing.assert_allclose(end[:, 0, 2:6, 0], x, atol=1e-12)
    np.testing.assert_allclose(np.cov(end.reshape(-1, 8).T), ar1(8), atol=0.07)


@pytest.mark.slow
def test_widening_keeps_the_law_of_independent_pixels():
    network = Network(tuple(map(tuple, 0.3 * np.eye(4))), 0.5)
    x = np.full((20000, 1, 4, 1), 0.1)
    end = edited("widen(right=4)", network, x, steps=60).reshape(-1, 8)
    np.testing.assert_allclose(end[:, :4], 0.1, atol=0.02)
    np.testing.assert_allclose(end[:, 4:].mean(0), 0.5, atol=0.02)
    np.testing.assert_allclose(np.cov(end[:, 4:].T), 0.3 * np.eye(4), atol=0.015)
