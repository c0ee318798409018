"""Transformers: what they must not depend on, what training moves first, and what they cost."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from weights import drawn

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError, SpecError
from diffusion_jax.networks.layers import patches, transformer

DIT = "dit(width=16, depth=2, heads=2{})"
UVIT = "uvit(width=16, depth=2, heads=2{})"


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


BOTH = pytest.mark.parametrize("spec", [DIT, UVIT], ids=("dit", "uvit"))


def build(spec, more="", **context):
    known = {"channels": 3, "levels": 17, "num_classes": 5, "gamma_min": -8.0, **context}
    return registry.build("backbones", spec.format(more and ", " + more), **known)


def shapes(network, shape=(2, 4, 4, 3)):
    z = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.eval_shape(
        lambda z: network.init(jax.random.key(0), z, jnp.zeros(shape[0]), {}), z
    )["params"]  # fmt: skip


@functools.partial(jax.jit, static_argnums=0)
def run(network, params, z, keys=None):
    cond = {"label": jnp.full(len(z), 2)}
    return network.apply({"params": params}, z, jnp.full(len(z), 1.0), cond, keys)


def noise(*shape, seed=5):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize("patch", [1, 2, 3])
def test_patches_are_squares_of_pixels_and_go_back(patch):
    x = np.arange(2 * 6 * 12 * 5).reshape(2, 6, 12, 5)
    tokens = patches.patchify(jnp.asarray(x), patch)
    rows, columns = 6 // patch, 12 // patch
    assert tokens.shape == (2, rows * columns, patch * patch * 5)
    corner = x[1, patch : 2 * patch, 2 * patch : 3 * patch]
    np.testing.assert_array_equal(tokens[1, columns + 2], corner.ravel())
    np.testing.assert_array_equal(patches.unpatchify(tokens, (rows, columns), patch), x)


def test_rotary_positions_tell_offsets_and_nothing_else():
    grid, heads, size = (4, 6), 2, 8
    angles = patches.rope_angles(grid, heads, size)
    q, k = noise(2, 1, 1, heads, size)
    logits = jnp.einsum(
        "bnhc,bmhc->hnm", *(patches.rotate(jnp.tile(a, (1, 24, 1, 1)), angles) for a in (q, k))
    )
    row, column = np.divmod(np.arange(24), 6)
    offset = np.stack([a[:, None] - a[None] for a in (row, column)], -1).reshape(-1, 2)
    kinds, which = np.unique(offset, axis=0, return_inverse=True)
    assert len(kinds) == 7 * 11
    for head in np.asarray(logits).reshape(heads, -1):
        means = np.bincount(which, head) / np.bincount(which)
        np.testing.assert_allclose(head, means[which], atol=1e-4)
        assert len(np.unique(np.round(means, 4))) > 70  # and different offsets differ


def test_fixed_positions_differ_from_token_to_token():
    table = patches.sincos((3, 5), 16)
    apart = jnp.linalg.norm(table[:, None] - table[None], axis=-1) + 9 * jnp.eye(15)
    assert float(apart.min()) > 0.5
    np.testing.assert_allclose(jnp.square(table).sum(-1), 8.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("spec", "more", "same"),
    [
        (DIT, "position='none'", True),
        (DIT, "position='none', share=True, qk_norm=True", True),
        (UVIT, "position='none', conv=False, cond_tokens=2", True),
        (DIT, "position='sincos'", False),
        (DIT, "position='learned'", False),
        (DIT, "position='rope'", False),
        (UVIT, "position='rope', conv=False", False),
    ],
)
def test_without_positions_patches_have_no_order(spec, more, same):
    network = build(spec, more)
    params = drawn(shapes(network), 0.3)
    order = jnp.asarray([2, 0, 3, 1])

    def shuffled(x):
        return patches.unpatchify(patches.patchify(x, 2)[:, order], (2, 2), 2)

    z = noise(1, 4, 4, 3)
    apart = jnp.abs(run(network, params, shuffled(z)) - shuffled(run(network, params, z))).max()
    assert (apart < 1e-4) == same


@functools.partial(jax.jit, static_argnums=0)
def fresh(network, z):
    return network.init(jax.random.key(0), z, jnp.zeros(len(z)), {})["params"]


@functools.partial(jax.jit, static_argnums=0)
def slope(network, params, z):
    return jax.grad(lambda p: jnp.square(run(network, p, z) - 0.5).sum())(params)


def slopes(network, params, z):
    found = slope(network, params, z)
    return {
        jax.tree_util.keystr(path): float(jnp.abs(leaf).max())
        for path, leaf in jax.tree_util.tree_leaves_with_path(found)
    }


def test_the_gates_are_opened_by_the_second_step():
    network = build(DIT)
    z = noise(2, 4, 4, 3)
    params = fresh(network, z)
    first = slopes(network, params, z)
    assert {k for k, v in first.items() if v} == {"['out']['kernel']", "['out']['bias']"}
    params["out"] = drawn(params["out"], 0.3)
    second = {k for k, v in slopes(network, params, z).items() if v}
    assert any("'blocks'" in k and "'modulation'" in k for k in second)
    assert not any("'attn'" in k or "'mlp'" in k for k in second)


def test_a_fresh_block_of_uvit_adds_as_much_at_any_width():
    """Weights of one size, 0.02 say, would leave narrow networks with hardly a signal."""

    def added(width):
        block = transformer.PlainBlock(width, 2, 4.0, 0.0, False, "xla", None)
        x = noise(2, 8, width)
        y, _ = block.init_with_output(jax.random.key(0), x, None)
        return float(jnp.std(y - x))

    narrow, wide = added(16), added(128)
    assert 0.5 < narrow / wide < 2.0 and narrow > 0.1


def test_the_first_step_of_uvit_moves_the_last_layer():
    network, z = build(UVIT), noise(2, 4, 4, 3)
    params = network.init(jax.random.key(0), z, jnp.zeros(2), {})["params"]
    grads = slopes(network, params, z)
    assert grads["['out']['kernel']"] > 0


@pytest.mark.parametrize("spec", [DIT, UVIT], ids=("dit", "uvit"))
def test_without_the_skip_a_fresh_network_gives_zero(spec):
    network = build(spec, "skip=False")
    z = noise(1, 4, 4, 3)
    params = fresh(network, z)
    np.testing.assert_array_equal(run(network, params, z), 0.0)


@pytest.mark.parametrize("more", ["", "share=True"])
def test_dit_scanned_is_dit_unrolled(more):
    same(DIT, more)


@pytest.mark.slow
def test_uvit_scanned_is_uvit_unrolled():
    same("uvit(width=16, depth=4, heads=2{})", "")


def same(spec, more):
    more += ", dropout=0.2, drop_path=0.4"
    plain, scanned = (build(spec, f"{more}, scan={s}".strip(", ")) for s in (False, True))
    params = drawn(shapes(plain), 0.1)
    assert jax.tree.map(jnp.shape, shapes(scanned)) == jax.tree.map(jnp.shape, params)
    z, keys = noise(2, 4, 4, 3), jax.random.split(jax.random.key(1), 2)
    a, b = (run(n, params, z, keys) for n in (plain, scanned))
    np.testing.assert_allclose(a, b, atol=2e-5)


@BOTH
def test_a_batch_may_be_split(spec):
    network = build(spec, "dropout=0.3, drop_path=0.5")
    params = drawn(shapes(network), 0.3)
    z, keys = noise(4, 4, 4, 3), jax.random.split(jax.random.key(1), 4)
    whole = run(network, params, z, keys)
    halves = [run(network, params, z[i : i + 2], keys[i : i + 2]) for i in (0, 2)]
    np.testing.assert_allclose(whole, jnp.concatenate(halves), atol=2e-5)
    assert jnp.abs(whole - run(network, params, z)).max() > 1e-2


@BOTH
def test_bfloat16_is_float32_but_for_its_rounding(spec):
    """Products are rounded to 8 bits; the stream, norms, softmax and the result are not."""
    exact, rounded = (build(spec, "qk_norm=True", dtype=d) for d in ("float32", "bfloat16"))
    params, z = drawn(shapes(exact), 0.3), noise(4, 4, 4, 3)
    assert {a.dtype for a in jax.tree.leaves(shapes(rounded))} == {jnp.dtype("float32")}
    a, b = (run(n, params, z) for n in (exact, rounded))
    assert b.dtype == jnp.float32
    apart = jnp.linalg.norm(a - b) / jnp.linalg.norm(a)
    assert 2**-14 < apart < 2**-5
    assert jnp.linalg.norm(b - b.astype(jnp.bfloat16)) > 0  # the result has more than 8 bits


def test_branches_left_out_keep_the_mean():
    keys = jax.random.split(jax.random.key(0), 4000)
    kept = transformer.drop_branch(jnp.ones((4000, 2, 3)), 0.3, keys)
    np.testing.assert_array_equal(kept, jnp.broadcast_to(kept[:, :1, :1], kept.shape))
    assert float((kept[:, 0, 0] == 0).mean()) == pytest.approx(0.3, abs=4 * 0.0073)
    assert float(kept.mean()) == pytest.approx(1.0, abs=4 * 0.0104)


def weights(spec, deep):
    """Weights of all blocks of a deep network, from those of shallow ones."""
    first, second = (
        count(shapes(registry.build("backbones", spec.format(d), channels=4), (1, 4, 4, 4)))
        for d in (2, 4)
    )
    return (second - first) * deep // 2


@pytest.mark.parametrize(
    ("width", "depth", "heads", "total"),
    [
        # The published networks' totals without what is outside of their blocks.
        (384, 12, 6, 31_920_000),
        (1152, 28, 16, 669_344_256),
    ],
)
def test_weights_of_published_dits(width, depth, heads, total):
    found = weights(f"dit(width={width}, depth={{}}, heads={heads})", depth)
    assert found == pytest.approx(total, rel=1e-9 if width == 1152 else 1e-3)


def test_sharing_modulations_saves_a_third():
    spec = "dit(width=256, depth={{}}, heads=4, share={})"
    shared, own = (weights(spec.format(s), 12) for s in (True, False))
    assert shared / own == pytest.approx(12 / 18, rel=0.01)


def test_weights_of_the_published_uvit():
    # 13 blocks and 6 joints of long skips, one block of them outside of the pairs: 44M.
    pairs = weights("uvit(width=512, depth={}, heads=8)", 12)
    middle = shapes(registry.build("backbones", "uvit(depth=2)", channels=3), (1, 4, 4, 3))["mid"]
    assert pairs + count(middle) == pytest.approx(44.04e6, rel=2e-3)


@pytest.mark.parametrize(
    ("spec", "joints"), [("dit(width=256, depth={}, heads=4, patch=1)", 0),
                         ("uvit(width=256, depth={}, heads=4, patch=1)", 1)],
)  # fmt: skip
def test_flops_of_two_more_blocks(spec, joints):
    def flops(depth):
        network = registry.build("backbones", spec.format(depth), channels=1)
        z = jax.ShapeDtypeStruct((4, 8, 8, 1), jnp.float32)
        params = shapes(network, (4, 8, 8, 1))
        lowered = jax.jit(lambda p, z: run(network, p, z)).lower(params, z)
        return lowered.cost_analysis()["flops"]

    n, d = 64 + joints, 256
    expected = 2 * 4 * (2 * n * (12 * d**2 + 2 * n * d) + joints * n * 2 * d**2)
    assert flops(4) - flops(2) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    ("spec", "shape", "said"),
    [
        ("dit(patch=8)", (1, 28, 28, 1), "use patch=1 or 2 or 4 or 7 or 14"),
        ("dit(patch=2)", (1, 15, 16, 1), r"use patch=1(\n|$)"),  # no other divides both sides
        ("dit(patch=2)", (1, 3, 3, 1), r"use patch=1(\n|$)"),
        (
            "dit(width=32, heads=2, patch=8)",
            (1, 28, 28, 3),
            r"use patch=1 or 2(\n|$)",
        ),  # 4 holds 48
        ("uvit(patch=8)", (1, 28, 28, 1), "28x28 images are not covered"),
        ("dit(width=32, heads=2, patch=4)", (1, 8, 8, 3), "48 values, more than width=32"),
    ],
)
def test_images_that_do_not_fit_the_patches(spec, shape, said):
    with pytest.raises(ConfigError, match=said):
        shapes(registry.build("backbones", spec), shape)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("dit(width=100, heads=3)", "not divisible by heads=3; allowed: 1, 2, 4, 5"),
        ("dit(width=24, heads=4, position='rope')", "must be divisible by 4"),
        ("dit(width=18, heads=2)", "divisible by 4"),
        ("uvit(position='here')", "allowed: sincos, rope, learned, none"),
        ("uvit(depth=13)", "use depth=12 or 14"),
        ("dit(attention='cudnn')", "needs bfloat16 on a GPU, not float32 on cpu"),
        ("dit(attention='flash')", "allowed: xla, cudnn"),
        ("dit(scan='yes')", "scan='yes'; allowed: True, False, 'auto'"),
    ],
)
def test_settings_that_do_not_go_together(spec, said):
    with pytest.raises(SpecError, match=said):
        registry.build("backbones", spec)


@BOTH
def test_attention_larger_than_the_memory_is_refused_before_it_is_made(spec):
    network = build(spec, "patch=1", memory=2**28, devices=2)
    shapes(network, (64, 16, 16, 3))
    with pytest.raises(ConfigError, match=r"needs 1\.0 GiB per device .* 0\.2; use a larger patch"):
        shapes(network, (4096, 16, 16, 3))
