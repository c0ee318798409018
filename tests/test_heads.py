"""Heads: exact laws of levels. The contract of every plug-in; what a mixture of logistics is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_jax import registry, testing
from diffusion_jax.errors import UserError
from diffusion_jax.networks.heads import base

LEVELS = {"bernoulli": 2}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", registry.available("heads"))
def test_contract(name, channels):
    testing.check("heads", f"{name}()", levels=LEVELS.get(name, 17), channels=channels)


def logistic(levels=256, channels=1, mixtures=1):
    return registry.build(
        "heads", f"logistic(mixtures={mixtures})", levels=levels, channels=channels
    )


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("raw", [-40.0, -5.0, 0.0, 30.0])
def test_levels_sum_to_one_at_every_scale(levels, raw):
    head = logistic(levels)
    means = jnp.linspace(-3.0, 3.0, 41)
    out = jnp.stack([jnp.zeros(41), means, jnp.full(41, raw)], axis=-1)[None, None]
    every = head.log_probs(out, jnp.zeros((1, 1, 41, 1), int))
    assert bool(jnp.isfinite(every).all())
    np.testing.assert_allclose(jnp.exp(every).sum(-1), 1.0, atol=3e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_the_middle_of_the_law_moves_with_the_mean():
    head, step = logistic(64), 2.0 / 64
    out = jnp.asarray([0.0, 0.1, -3.0])[None, None, None]
    moved = out.at[..., 1].add(5 * step)
    levels = jnp.zeros((1, 1, 1, 1), int)
    here, there = (head.log_probs(o, levels)[0, 0, 0, 0] for o in (out, moved))
    np.testing.assert_allclose(here[20:50], there[25:55], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_green_follows_red_and_the_joint_law_of_a_pixel_sums_to_one():
    head, levels = logistic(3, channels=3, mixtures=4), 3
    out = jax.random.normal(jax.random.key(0), (1, 1, 1, head.outputs(3)))
    pixels = jnp.stack(jnp.meshgrid(*[jnp.arange(levels)] * 3), axis=-1).reshape(-1, 1, 1, 3)
    log_p = head.log_prob(jnp.broadcast_to(out, (27, 1, 1, out.shape[-1])), pixels).sum(-1)
    np.testing.assert_allclose(jnp.exp(log_p).sum(), 1.0, atol=1e-12)
    every = head.log_probs(jnp.repeat(out, 2, 0), jnp.asarray([[[[0, 0, 0]]], [[[2, 0, 0]]]]))
    assert not np.allclose(every[0, 0, 0, 1], every[1, 0, 0, 1])


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "channels"), [("categorical()", 1), ("logistic()", 3)])
def test_draws_have_the_probabilities(spec, channels):
    head = registry.build("heads", spec, levels=4, channels=channels)
    out = jax.random.normal(jax.random.key(0), (1, 1, 1, head.outputs(channels)))
    keys = jax.random.split(jax.random.key(1), 20_000)
    many = jnp.broadcast_to(out, (20_000, *out.shape[1:]))

    @jax.jit
    def draw(out, keys):
        law, shape = (lambda image: head.log_probs(out, image)), (*out.shape[:3], channels)
        return base.fill(law, shape, head.sequential, base.by_chance(keys))

    found = np.asarray(draw(many, keys)).reshape(-1, channels)
    codes, counts = np.unique(found, axis=0, return_counts=True)
    log_p = head.log_prob(many[: len(codes)], jnp.asarray(codes)[:, None, None].astype(int))
    p = np.exp(np.asarray(log_p).reshape(len(codes), -1).sum(1))
    assert np.abs(counts / 20_000 - p).max() < 5 * np.sqrt(p.max() / 20_000)


def test_refusals():
    for spec, levels, words in (
        ("bernoulli()", 256, "these data have 256 levels"),
        ("logistic(mixtures=-1)", 256, "at least 0"),
        ("categorical(levels=1)", 2, "levels=1 must be"),
    ):
        with pytest.raises(UserError, match=words):
            registry.build("heads", spec, levels=levels, channels=1)
