"""Muon and SOAP: which parameters they get, and what they do to them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffusion_jax import registry
from diffusion_jax.baselines import r3gan
from diffusion_jax.errors import ConfigError, SpecError
from diffusion_jax.training import optimizer, state as state_lib
from diffusion_jax.training.checkpoint import Checkpoints
from diffusion_jax.training.matrix_optimizers import labels, scale_by_soap

RATE = optax.constant_schedule(1.0)


def network(spec):
    made = registry.build("backbones", spec, channels=1, levels=17)
    z = jnp.zeros((1, 8, 8, 1))
    shapes = jax.eval_shape(lambda: made.init(jax.random.key(0), z, jnp.zeros(1), {}))["params"]
    return {"network": shapes, "schedule": {"shape": {"out": jnp.zeros((3, 3))}}}


def flat(tree):
    return {jax.tree_util.keystr(k, simple=True, separator="/"): v
            for k, v in jax.tree_util.tree_leaves_with_path(tree)}  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "matrices"),
    [
        ("vdm_unet(width=8, depth=2)", ("down/block/conv1", "up/block/conv2", "mid_0/attn/q")),
        ("unet(width=8, mults=(1, 2), blocks=1)", ("shrink0",)),
        ("dit(width=8, depth=2, heads=2)", ("blocks/attn/qkv", "blocks/mlp/in")),
        ("uvit(width=8, depth=4, heads=2)", ("down/mlp/in", "mid/attn/out", "up/skip")),
    ],
)
def test_kernels_get_the_rule_for_matrices_and_nothing_else(spec, matrices):
    params = network(spec)
    found = {k for k, v in flat(labels(params)).items() if v == "matrix"}
    assert {f"network/{m}/kernel" for m in matrices} <= found
    assert all(k.endswith("/kernel") for k in found)
    ends = {f"network/{n}/kernel" for n in ("conv_in", "conv_out", "in", "out")}
    assert not ends & found
    # Every other kernel inside of the network.
    assert found | ends >= {k for k in flat(params) if k.endswith("/kernel")}


def wrapped(spec, *shape):
    """Weights of a network of other data than images."""
    made = registry.build("backbones", spec, channels=shape[-1], levels=17, shape=shape)
    z = jnp.zeros((1, *shape))
    return {"network": made.init(jax.random.key(0), z, jnp.zeros(1), {})["params"]}


def guide(spec, **known):
    made = registry.build("guides", spec, gamma_min=-6.0, gamma_max=4.0, **known)
    return made.init(jax.random.key(0), (8, 8, 1))


def autoencoder():
    decoder = registry.build("decoders", "categorical()", levels=17, channels=1)
    known = {"channels": 1, "levels": 17, "shape": (8, 8, 1), "decoder": decoder}
    made = registry.build("autoencoders", "conv(widths=(8, 16), blocks=1)", **known)
    return {"autoencoder": made.init(jax.random.key(0), (8, 8, 1))}


def rival(made, x):
    return made.init(jax.random.key(0), x, None)["params"]


SMALL = "width=8, mults=(1,), blocks=1"
FIRST_AND_LAST = {
    "sequence": (lambda: wrapped("sequence(width=8, depth=1, heads=2)", 1, 8, 4),
                 ("network/body/in", "network/body/out")),
    "stacked_frames": (lambda: wrapped(f"stacked_frames(of=unet({SMALL}))", 3, 4, 4, 1),
                       ("network/of/conv_in", "network/of/conv_out")),
    "fno": (lambda: wrapped("fno(width=4, depth=1)", 4, 4, 1),
            ("network/filter_in", "network/filter_out")),
    "autoencoder": (autoencoder,
                    [f"autoencoder/{n}" for n in ("encoder/in", "encoder/mean", "encoder/log_std",
                                                  "decoder/in", "decoder/out")]),
    "classifier": (lambda: guide(f"classifier({SMALL})", num_classes=3),
                   ("network/tower/conv_in", "network/head")),
    "generator": (lambda: rival(r3gan.Generator((8, 8, 1), 8, 1, 0), jnp.zeros((1, 4))), ("out",)),
    "discriminator": (lambda: rival(r3gan.Discriminator(8, 1, 0), jnp.zeros((1, 8, 8, 1))),
                      ("in", "out")),
}  # fmt: skip


@pytest.mark.parametrize("name", FIRST_AND_LAST)
def test_first_and_last_layers_of_networks_in_others_are_adams(name):
    """And nothing else that is a kernel: blocks have layers called in and out as well."""
    made, ends = FIRST_AND_LAST[name]
    found = flat(labels(jax.eval_shape(made)))
    others = {k for k, v in found.items() if v == "rest" and k.endswith("kernel")}
    assert others == {f"{n}/kernel" for n in ends}
    assert any(v == "matrix" and k.split("/")[-2] in ("in", "out", "conv1", "dense_0")
               for k, v in found.items())  # fmt: skip


def test_a_network_of_layers_alone_has_ends_too():
    layer = {"kernel": jnp.zeros((3, 3))}
    made = {
        "network": {"in": layer, "middle": layer, "out": layer},
        "schedule": {"w": jnp.ones(())},
    }
    found = flat(labels(made))
    assert [k for k, v in found.items() if v == "matrix"] == ["network/middle/kernel"]


def shaped(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize("shape", [(6, 4), (3, 3, 2, 4), (2, 6, 4), (2, 3, 3, 2, 4)])
def test_muon_makes_matrices_orthogonal(shape):
    """Each block of a stack for itself, with the gradient's own directions."""
    made = optimizer.make("muon()", RATE)
    params = {"network": {"block": {"conv": {"kernel": jnp.zeros(shape)}}}}
    grads = jax.tree.map(lambda p: shaped(*p.shape), params)
    updates, _ = made.update(grads, made.init(params), params)
    step = updates["network"]["block"]["conv"]["kernel"]
    n = 2 if len(shape) % 2 else 1
    for u, g in zip(step.reshape(n, -1, shape[-1]),
                    grads["network"]["block"]["conv"]["kernel"].reshape(n, -1, shape[-1]),
                    strict=True):  # fmt: skip
        values = np.linalg.svd(u, compute_uv=False)
        assert values.max() / values.min() < 1.7  # Newton-Schulz is not exact
        left, _, right = np.linalg.svd(g, full_matrices=False)
        core = left.T @ np.asarray(-u) @ right.T
        assert np.abs(core - np.diag(np.diag(core))).max() < 0.05 * values.max()


@pytest.mark.slow
def test_soap_does_not_depend_on_the_axes():
    """Turning rows and columns turns the update: Adam would not have it."""
    g = [shaped(5, 4, seed=i) for i in range(4)]
    rows, columns = (np.linalg.qr(shaped(n, n, seed=9))[0] for n in (5, 4))
    rule = scale_by_soap(every=2)

    def last(gradients):
        state = rule.init(gradients[0])
        for one in gradients:
            step, state = rule.update(one, state)
        return step

    # The first eigenvectors are of rank 4 in 5 rows: what is left over carries no gradient yet.
    turned = last([rows @ a @ columns.T for a in g])
    np.testing.assert_allclose(turned, rows @ last(g) @ columns.T, atol=0.05)


def test_the_first_gradient_of_soap_is_for_the_eigenvectors():
    rule, g = scale_by_soap(), shaped(3, 5, 4)
    step, state = rule.update(g, rule.init(g))
    assert float(jnp.abs(step).max()) == 0.0
    rows, columns = state.sides
    core = np.einsum("nji,njk,nkl->nil", rows.basis, g, columns.basis)
    sizes = np.linalg.svd(g, compute_uv=False)
    for one, size in zip(core, sizes, strict=True):
        np.testing.assert_allclose(np.abs(np.diag(one)), size, rtol=1e-3)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_directions_without_gradient_are_not_walked(scale):
    """A gradient of rank one that stays: of size one along itself, and nothing else.

    Elsewhere there are rounding errors, whose ratios may be anything.
    """
    a, b = shaped(1, 6, 1), shaped(1, 1, 4, seed=1)
    g, rule = scale * a * b, scale_by_soap()
    state = rule.init(g)
    for _ in range(4):
        step, state = jax.jit(rule.update)(g, state)
    np.testing.assert_allclose(step, g / jnp.linalg.norm(g), atol=0.03)


def test_a_side_that_is_too_long_keeps_its_axes():
    state = scale_by_soap(largest=5).init(shaped(6, 4))
    assert state.sides[0] is None and state.sides[1].basis.shape == (1, 4, 4)


@pytest.mark.parametrize("spec", ["muon(weight_decay=0.01)", "soap(weight_decay=0.01, every=2)"])
def test_they_descend(spec):
    made = optimizer.make(spec, optax.constant_schedule(0.05), clip=1.0)
    target = shaped(3, 3, 2, 4)
    params = {"network": {"a": {"conv": {"kernel": jnp.zeros((3, 3, 2, 4)), "bias": jnp.ones(4)}}},
              "schedule": {"w": jnp.ones(())}}  # fmt: skip

    def loss(p):
        inner = p["network"]["a"]["conv"]
        return jnp.square(inner["kernel"] - target).sum() + jnp.square(inner["bias"]).sum()

    @jax.jit
    def step(p, state):
        updates, state = made.update(jax.grad(loss)(p), state, p)
        return optax.apply_updates(p, updates), state

    before, state = float(loss(params)), made.init(params)
    for _ in range(60):
        params, state = step(params, state)
    assert float(loss(params)) < 0.3 * before
    assert float(params["schedule"]["w"]) == 1.0


@pytest.mark.parametrize("spec", ["muon()", "soap(largest=5)"])
def test_their_state_is_in_checkpoints(tmp_path, spec):
    made = optimizer.make(spec, RATE)
    layer = {"kernel": shaped(6, 4), "bias": jnp.ones(4)}
    params = {"network": {"a": {"conv": layer}}, "schedule": {"w": jnp.ones(())}}
    fresh = state_lib.init(params, made, (0.9,))
    _, moved = made.update(jax.tree.map(jnp.ones_like, params), fresh.opt_state, params)
    checkpoints = Checkpoints(tmp_path / "run")
    checkpoints.save(fresh.replace(step=jnp.asarray(1), opt_state=moved), {"config": {}}, {})
    checkpoints.wait()
    found = checkpoints.restore(fresh, set_aside=False)
    checkpoints.close()
    assert jax.tree.structure(found.opt_state) == jax.tree.structure(moved)
    jax.tree.map(np.testing.assert_array_equal, found.opt_state, moved)


def test_a_cooldown_is_constant_and_then_falls_to_zero():
    rate = optimizer.learning_rate(2.0, 10, "cooldown(0.25)", 90)
    assert [float(rate(i)) for i in (5, 10, 69)] == pytest.approx([1.0, 2.0, 2.0])
    assert float(rate(80)) == pytest.approx(1.0)
    assert float(rate(90)) == 0.0
    for wrong, error in (("cooldown(0.0)", ConfigError), ("linear(0.1)", SpecError)):
        with pytest.raises(error):
            optimizer.learning_rate(2.0, 10, wrong, 90)
