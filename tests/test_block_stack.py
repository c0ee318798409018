"""Stacks of blocks, the group norm and the fence: against loops written out, and against flax."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_jax.networks.layers import block_stack
from diffusion_jax.networks.layers.fusion_barrier import computed_once
from diffusion_jax.networks.layers.norm import GroupNorm


def close(a, b, tolerance=1e-10):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b
    )


def block(p, h, keys):
    return h + jnp.sin(h @ p["w"] + p["b"])


@pytest.mark.parametrize("n", [1, 3, 6])
@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("remat", [False, True])
def test_a_stack_is_the_loop_over_its_blocks(n, scan, remat, float64):
    key = jax.random.key(0)
    params = {"w": jax.random.normal(key, (n, 4, 4)), "b": jax.random.normal(key, (n, 4))}
    x = jax.random.normal(jax.random.key(1), (2, 4))

    def ours(params, x):
        h, outputs = block_stack.run(block, params, x, scan=scan, remat=remat)
        return jnp.sum(h**2) + sum(jnp.sum(o) for o in outputs)

    def loop(params, x):
        h, total = x, 0.0
        for i in range(n):
            h = block({"w": params["w"][i], "b": params["b"][i]}, h, None)
            total += h.sum()
        return jnp.sum(h**2) + total

    close(jax.value_and_grad(ours, (0, 1))(params, x), jax.value_and_grad(loop, (0, 1))(params, x))
    assert len(block_stack.unstacked(params)) == n


@pytest.mark.parametrize(("channels", "groups"), [(8, 4), (6, 1), (12, 3), (4, 4)])
def test_group_norm_is_that_of_flax(channels, groups, float64):
    ours, theirs = GroupNorm(groups), nn.GroupNorm(groups, epsilon=1e-6)
    keys = jax.random.split(jax.random.key(0), 4)
    x = 3 + jax.random.normal(keys[0], (2, 5, 4, channels))
    params = {"scale": jax.random.normal(keys[1], (channels,)),
              "bias": jax.random.normal(keys[2], (channels,))}  # fmt: skip
    weight = jax.random.normal(keys[3], x.shape)

    def found(layer):
        def loss(params, x):
            return (weight * layer.apply({"params": params}, x)).sum()

        return jax.jit(lambda p, x: (layer.apply({"params": p}, x), jax.grad(loss, (0, 1))(p, x)))(
            params, x
        )

    close(found(ours), found(theirs), 1e-9)
    shapes = [jax.tree.map(jnp.shape, m.init(keys[0], x)) for m in (ours, theirs)]
    assert shapes[0] == shapes[1]


def test_group_norm_of_bfloat16_has_float32_statistics():
    x = (100 + jax.random.normal(jax.random.key(0), (2, 16, 16, 8))).astype(jnp.bfloat16)
    ours, theirs = (m(4, dtype=jnp.dtype("bfloat16")) for m in (GroupNorm, nn.GroupNorm))
    y, reference = (m.apply(m.init(jax.random.key(0), x), x) for m in (ours, theirs))
    assert y.dtype == jnp.bfloat16
    close(y.astype(jnp.float32), reference.astype(jnp.float32), 2e-2)


def test_what_is_computed_once_is_not_changed():
    x = jax.random.normal(jax.random.key(0), (3, 5))
    np.testing.assert_array_equal(jax.jit(computed_once)(x), x)
    slope = jax.jit(jax.grad(lambda x: (computed_once(x) ** 2).sum()))(x)
    np.testing.assert_array_equal(slope, 2 * x)


def test_a_residual_stream_is_not_summed_anew_in_every_block():
    # XLA:CPU counts what it really does; without the fence this grows with the square of the depth.
    def work(depth):
        def loss(x):
            h = x
            for _ in range(depth):
                h = computed_once(h)
                h = h + 0.5 * h.mean(0) * h
            return (h**2).sum()

        return jax.jit(jax.grad(loss)).lower(jnp.ones((64, 64))).compile().cost_analysis()["flops"]

    assert work(16) / work(8) < 2.3
