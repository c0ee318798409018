"""The transformer of one vector: what sees what, and vectors as pictures."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from weights import drawn

from diffusion_jax import registry
from diffusion_jax.data.media.vector import VECTOR
from diffusion_jax.errors import SpecError
from diffusion_jax.networks.text_encoders.base import encode

BYTES = registry.build("text_encoders", "bytes(length=8, width=8, depth=1, heads=2)")
Z = jax.random.normal(jax.random.key(0), (3, 1, 1, 6))
GAMMA = jnp.asarray([-3.0, 0.0, 2.0])


@functools.cache
def ready(causal):
    spec = f"prior(width=8, depth=2, heads=2, embed=8, causal={causal})"
    network = registry.build("backbones", spec, channels=6, text=BYTES)
    shapes = jax.eval_shape(lambda k: network.init(k, Z, GAMMA, {}), jax.random.key(0))
    params = drawn(shapes, 0.3)
    return params, jax.jit(network.apply)


def ids(*texts):
    return jnp.asarray(encode(BYTES, texts))


@pytest.mark.parametrize("causal", [False, True])
def test_text_time_and_vector_reach_the_query(causal):
    params, apply = ready(causal)
    text = ids("a", "b", "c")
    base = apply(params, Z, GAMMA, {"text": text})
    assert base.shape == Z.shape and bool(jnp.isfinite(base).all())
    for out in (
        apply(params, Z.at[0].add(1.0), GAMMA, {"text": text}),
        apply(params, Z, GAMMA.at[0].add(1.0), {"text": text}),
        apply(params, Z, GAMMA, {"text": text.at[0].set(text[1])}),
        apply(params, Z, GAMMA, {"text": text.at[0].set(0)}),
    ):
        assert float(jnp.abs(out - base)[0].max()) > 1e-4
        np.testing.assert_allclose(out[1:], base[1:], atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_no_text_is_zeros_and_what_is_under_the_padding_does_not_matter(causal):
    params, apply = ready(causal)
    none = apply(params, Z, GAMMA, {})
    np.testing.assert_array_equal(none, apply(params, Z, GAMMA, {"text": jnp.zeros((3, 8), int)}))
    text = ids("a", "", "b")
    base = apply(params, Z, GAMMA, {"text": text})
    assert float(jnp.abs(base - none).max()) > 1e-4
    tree = dict(params["params"])
    place = tree["position"]  # of the text: "a" has three pieces, the sixth is padding
    other = {"params": {**tree, "position": place.at[5].add(1e3)}}
    np.testing.assert_allclose(apply(other, Z, GAMMA, {"text": text}), base, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_tokens_see_what_comes_after_them_unless_causal(causal):
    spec = f"prior(width=8, depth=2, heads=2, embed=8, causal={causal})"
    network = registry.build("backbones", spec, channels=6, text=BYTES)
    run = jax.jit(lambda z: network.apply(
        ready(causal)[0], z, GAMMA, {"text": ids("ab", "", "b")}, capture_intermediates=True
    )[1]["intermediates"]["mlp1"]["__call__"][0])  # fmt: skip
    a, b = run(Z), run(Z + 1.0)
    moved = np.abs(a - b).max((0, 2)) > 1e-5
    there = np.arange(12) < 10  # text, pooled and time; then the vector and the query
    np.testing.assert_array_equal(moved[~there], True)
    assert moved[there].any() != causal


def test_heads_that_do_not_divide():
    with pytest.raises(SpecError, match="width=10 is not divisible by heads=4"):
        registry.build("backbones", "prior(width=10)")


def test_vectors_are_squares_to_a_reader():
    vectors = np.arange(2 * 6, dtype=np.uint8).reshape(2, 1, 1, 6)
    shown = VECTOR.stills(vectors, 64)
    assert shown.shape == (2, 3, 3, 1)
    np.testing.assert_array_equal(shown.reshape(2, 9)[:, :6], vectors.reshape(2, 6))
    assert VECTOR.fits((1, 1, 64)) and not VECTOR.fits((1, 2, 64)) and not VECTOR.fits((64,))
