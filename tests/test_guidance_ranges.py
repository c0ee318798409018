"""Guidance that keeps predictions in a range: thresholds and clipping."""

import jax.numpy as jnp
import pytest
from guided import batch, consistent, guide, same

from diffusion_jax.types import Pred

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("spec", ["threshold(cfg(w=9.0), p=1.0)", "clip_denoised(cfg(w=9.0))"])
def test_predictions_stay_in_range(spec):
    z, cond = batch()
    gamma = jnp.asarray(3.0)
    strong = guide("cfg(w=9.0)")(z, gamma, cond)
    assert jnp.abs(strong.x).max() > 2.0
    pred = guide(spec)(z, gamma, cond)
    assert jnp.abs(pred.x).max() <= 1.0
    consistent(pred, z, gamma)
    kept = guide(spec.removesuffix(")") + ", keep_eps=True)")(z, gamma, cond)
    same(kept, Pred(pred.x, strong.eps), tol=0)


def test_threshold_leaves_what_is_in_range_and_scales_the_rest():
    inside = lambda z, gamma, cond: Pred(jnp.tanh(z), z)
    z, cond = batch()
    gamma = jnp.asarray(0.5)
    for spec in ("threshold(none())", "clip_denoised(none())"):
        same(guide(spec, denoiser=inside)(z, gamma, cond), inside(z, gamma, cond), tol=0)
    # With the maximum as the quantile, thresholding is a division by the largest value.
    outside = lambda z, gamma, cond: Pred(7.0 * z / jnp.abs(z).max(1, keepdims=True), z)
    found = guide("threshold(none(), p=1.0)", denoiser=outside)(z, gamma, cond)
    same(found.x, outside(z, gamma, cond).x / 7.0)
    # The quantile is a fraction: half of the pixels may exceed the median.
    many = jnp.arange(1.0, 102.0)[None]
    median = guide("threshold(none(), p=0.5)", denoiser=lambda z, g, c: Pred(many, many))
    assert int((median(many, gamma, cond).x == 1.0).sum()) == 51
