"""Convolutions with our gradients against the derivatives `jax.lax` has of its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from diffusion_jax.networks.layers import conv as conv_lib

NHWC = ("NHWC", "HWIO", "NHWC")
CASES = {
    "3x3": ((2, 6, 5, 3), (3, 3, 3, 4), (1, 1), "SAME"),
    "1x1": ((2, 4, 4, 3), (1, 1, 3, 2), (1, 1), "SAME"),
    "5x3": ((1, 7, 6, 2), (5, 3, 2, 3), (1, 1), "SAME"),
    "large": ((1, 12, 13, 2), (3, 5, 2, 3), (1, 1), "SAME"),
    "strided": ((2, 6, 6, 3), (3, 3, 3, 4), (2, 2), "SAME"),
    "strided odd": ((2, 7, 5, 3), (3, 3, 3, 4), (2, 3), "SAME"),
    "strided large": ((1, 24, 13, 2), (5, 3, 2, 3), (3, 1), "SAME"),
    "even": ((2, 6, 6, 3), (2, 2, 3, 4), (1, 1), "SAME"),
}


@pytest.fixture(params=CASES, name="pair")
def _pair(request, float64):
    x_shape, k_shape, strides, padding = CASES[request.param]
    keys = jax.random.split(jax.random.key(0), 4)
    x, dx = (jax.random.normal(k, x_shape) for k in keys[:2])
    w, dw = (jax.random.normal(k, k_shape) for k in keys[2:])

    def ours(x, w):
        return conv_lib.conv(x, w, strides, padding, dimension_numbers=NHWC)

    def plain(x, w):
        return lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=NHWC)

    return ours, plain, (x, w), (dx, dw)


def same(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-10), a, b)


def test_values_and_forward_mode(pair):
    ours, plain, at, along = pair
    same(jax.jvp(ours, at, along), jax.jvp(plain, at, along))
    same(jax.jvp(lambda x: ours(x, at[1]), at[:1], along[:1]),
         jax.jvp(lambda x: plain(x, at[1]), at[:1], along[:1]))  # fmt: skip


def test_reverse_mode_alone_and_inside_a_loop(pair):
    ours, plain, at, _ = pair

    def looped(f):
        def loss(x, w):
            def body(c, s):
                return c + jnp.sin(s * f(x + c, w)).sum(), None

            return lax.scan(body, 0.0, jnp.arange(3.0))[0]

        return jax.grad(loss, (0, 1))

    def single(f):
        return jax.grad(lambda x, w: jnp.sin(f(x, w)).sum(), (0, 1))

    same(single(ours)(*at), single(plain)(*at))
    same(jax.jit(looped(ours))(*at), jax.jit(looped(plain))(*at))


@pytest.mark.slow
def test_batches_of_images_and_of_kernels(pair):
    ours, plain, (x, w), _ = pair
    xs, ws = jnp.stack([x, 2 * x, x + 1]), jnp.stack([w, w - 1, 3 * w])

    def grad(f):
        return jax.grad(lambda x, w: jnp.sin(f(x, w)).sum(), (0, 1))

    for axes, args in (((0, None), (xs, w)), ((None, 0), (x, ws)), ((0, 0), (xs, ws)),
                       ((1, None), (xs.swapaxes(0, 1), w))):  # fmt: skip
        same(jax.vmap(ours, axes)(*args), jax.vmap(plain, axes)(*args))
        same(jax.vmap(grad(ours), axes)(*args), jax.vmap(grad(plain), axes)(*args))


def test_gradient_of_a_derivative(pair):
    # What training an encoder takes: reverse mode over forward mode.
    ours, plain, at, along = pair

    def squared(f):
        def loss(x, w):
            return jnp.square(jax.jvp(lambda x: jnp.sin(f(x, w)), (x,), along[:1])[1]).sum()

        return jax.grad(loss, (0, 1))

    same(jax.jit(squared(ours))(*at), jax.jit(squared(plain))(*at))


def test_other_devices_keep_their_own_convolution():
    # Through Flax, as the networks use it.
    layer, x = conv_lib.conv3x3(4), jnp.zeros((2, 16, 16, 4))
    params = layer.init(jax.random.key(0), x)

    def grad(params, x):
        return jax.grad(lambda p: jnp.sin(layer.apply(p, x)).sum())(params)

    traced = jax.jit(grad).trace(params, x)
    products = {p: traced.lower(lowering_platforms=(p,)).as_text().count("dot_general")
                for p in ("cpu", "tpu", "cuda")}  # fmt: skip
    assert products == {"cpu": 9, "tpu": 0, "cuda": 0}


@pytest.mark.parametrize("backend", ["cpu", "tpu", "gpu"])
def test_the_primitive_is_traced_on_cpu_only(monkeypatch, backend):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    layer, x = conv_lib.conv3x3(4), jnp.zeros((2, 8, 8, 4))
    traced = jax.make_jaxpr(lambda k: layer.init_with_output(k, x)[0])(jax.random.key(0))
    assert ("same_convolution" in str(traced)) == (backend == "cpu")


@pytest.mark.parametrize("size", [8, 16])
@pytest.mark.parametrize("stride", [1, 2])
def test_no_convolution_in_a_loop_has_a_form_that_is_slow_on_cpu(size, stride):
    # XLA:CPU has fast code for kernels laid out as HWIO only, and brings others there only outside
    # of loops.
    layer, x = conv_lib.conv3x3(4, strides=(stride, stride)), jnp.zeros((2, size, size, 4))
    params = layer.init(jax.random.key(0), x)

    def loss(params, x):
        def body(h, _):
            y = jnp.sin(layer.apply(params, h))
            return h + jnp.repeat(jnp.repeat(y, stride, 1), stride, 2), None

        return lax.scan(body, x, length=3)[0].sum()

    text = jax.jit(jax.grad(loss, (0, 1))).lower(params, x).compile().as_text()
    assert "_01io->" in text and "_01oi->" not in text and "_i01o->" not in text
    assert "lhs_dilate" not in text and "rhs_dilate" not in text
