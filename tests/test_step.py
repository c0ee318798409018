"""The step depends on (seed, step, global batch) only."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from diffusion_jax import rng
from diffusion_jax.data import base as data_base
from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.layers.blocks import dropout
from diffusion_jax.runtime.sharding import (
    check_batch,
    make_mesh,
    parse_mesh,
    placed,
    put,
    replicated,
)
from diffusion_jax.training import state as state_lib, step as step_lib
from diffusion_jax.training.compile import compile_steps, fresh_meter
from diffusion_jax.training.meter import add, fresh
from diffusion_jax.training.tasks.diffusion import make_recipe


def run_steps(
    experiment,
    *,
    devices=8,
    spec="data=-1",
    accumulate=1,
    unroll=True,
    several=False,
    resident=True,
    n=2,
):
    mesh = make_mesh(jax.devices()[:devices], spec)
    recipe = dataclasses.replace(make_recipe(experiment), accumulate=accumulate, unroll=unroll)
    split = experiment.source.split("train")
    state = state_lib.init(
        experiment.model.init(jax.random.key(0), experiment.source.shape), recipe.optimizer, (0.9,)
    )
    recipe = dataclasses.replace(recipe, ema=(("0.9", 0.9),))
    place = placed(mesh, state)
    state = jax.device_put(jax.tree.map(jnp.copy, state), place)
    meter = jax.device_put(fresh_meter(recipe), replicated(mesh))
    shape = split.images.shape[1:]
    run = compile_steps(recipe, mesh, shape if resident else None, several, place)
    flat = {"image": split.images.reshape(len(split), -1), "label": split.labels}
    index = np.stack([data_base.indices(i, 16, len(split), 0) for i in range(n)])
    whole = lambda a: put(a, replicated(mesh))
    if several:
        data = {k: whole(v) for k, v in flat.items()}
        state, meter, losses = run(state, meter, data, whole(index))
        return state, np.asarray(losses), float(meter.sums["grad_norm"])
    losses = []
    for i in range(n):
        rows = flat if resident else split.take(index[i])
        data = {k: whole(v) for k, v in rows.items()}
        state, meter, loss = run(state, meter, data, whole(index[i]))
        losses.append(float(loss))
    return state, np.asarray(losses), float(meter.sums["grad_norm"])


def assert_same(a, b, rtol):
    np.testing.assert_allclose(a[1], b[1], rtol=rtol)
    # The first rate is 0 and Adam knows no scale: only this sees that of the gradients.
    np.testing.assert_allclose(a[2], b[2], rtol=10 * rtol)
    for x, y in zip(jax.tree.leaves(a[0].params), jax.tree.leaves(b[0].params), strict=True):
        # Adam divides by tiny second moments in its first steps: compare on the scale of a step.
        np.testing.assert_allclose(x, y, atol=2e-4, rtol=1e-3)


NETWORKS = {
    "mlp": "mlp(width=16, depth=2, embed=8, dropout=0.2)",
    "vdm_unet": "vdm_unet(width=16, depth=1, embed=8, dropout=0.2)",
}


@functools.cache
def network_of(folder, name):
    return tiny.experiment(folder, network=NETWORKS[name], augment="dihedral()")


@functools.cache
def as_usual(folder, name):
    return run_steps(network_of(folder, name))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("step")


@pytest.fixture
def experiment(folder):
    return network_of(folder, "vdm_unet")


@pytest.mark.parametrize(
    ("name", "how"),
    [
        pytest.param("vdm_unet", {"devices": 1}, marks=pytest.mark.slow),
        pytest.param("vdm_unet", {"devices": 2, "accumulate": 4}, marks=pytest.mark.slow),
        pytest.param("vdm_unet", {"spec": "data=2,fsdp=4"}, marks=pytest.mark.slow),
        ("mlp", {"devices": 1}),
        ("mlp", {"devices": 2, "accumulate": 4}),
        pytest.param("mlp", {"devices": 1, "accumulate": 4}, marks=pytest.mark.slow),
        pytest.param(
            "mlp", {"devices": 2, "accumulate": 4, "unroll": False}, marks=pytest.mark.slow
        ),
        ("mlp", {"several": True}),
        pytest.param("mlp", {"resident": False}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_same_numbers_however_it_is_run(folder, name, how):
    assert_same(run_steps(network_of(folder, name), **how), as_usual(folder, name), rtol=2e-6)


@pytest.mark.slow
def test_a_run_of_latents_is_the_same_with_its_weights_in_shards(folder):
    latent = tiny.experiment(
        folder, network=NETWORKS["mlp"], prediction="v",
        autoencoder="conv(widths=(16, 16), channels=2, dropout=0.2, head=categorical())",
    )  # fmt: skip
    shards, whole = (run_steps(latent, spec=s) for s in ("data=2,fsdp=4", "data=-1"))
    assert_same(shards, whole, rtol=1e-5)
    kept = [a.addressable_shards[0].data.size / a.size
            for a in jax.tree.leaves(shards[0].params["autoencoder"])]  # fmt: skip
    assert min(kept) == 0.25


def test_several_steps_in_one_program_in_double_precision(float64):
    meter = fresh(("loss", "grad_norm"))
    step = {"loss": jnp.ones(2, jnp.float64), "grad_norm": jnp.arange(2, dtype=jnp.int32)}

    def body(meter, each):
        return add(meter, *each), None

    found, _ = jax.lax.scan(body, meter, (step, jnp.arange(2, dtype=jnp.int32)))
    assert (float(found.sums["loss"]), int(found.count)) == (2.0, 2)


def test_the_comparison_can_fail(folder):
    experiment = network_of(folder, "mlp")
    other = dataclasses.replace(experiment, config=tiny.config(folder, seed=1))
    assert np.abs(run_steps(other)[1] - as_usual(folder, "mlp")[1]).max() > 1e-3


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [("", (8, 1)), ("data=-1,fsdp=4", (2, 4)), ("fsdp=-1,data=1", (1, 8)), ("fsdp=2", (4, 2))],
)
def test_meshes(spec, wanted):
    assert parse_mesh(spec, 8) == wanted
    assert tuple(make_mesh(spec=spec).shape.values()) == wanted


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("data=3", "does not fit 8 devices"),
        ("fsdp=3", "does not fit 8 devices"),
        ("data=-1,fsdp=-1", "at most one axis"),
        ("data=-8,fsdp=-1", "does not fit"),
        ("model=2", "axes are data, fsdp"),
        ("data", "write data=-1"),
    ],
)
def test_meshes_that_do_not_fit(spec, says):
    with pytest.raises(ConfigError, match=says):
        parse_mesh(spec, 8)


def test_fsdp_splits_what_is_large(experiment):
    """Each device keeps about a quarter of the state: the shards say so, not the rule."""
    params = experiment.model.init(jax.random.key(0), experiment.source.shape)
    whole = sum(a.nbytes for a in jax.tree.leaves(params))
    mesh = make_mesh(spec="data=2,fsdp=4")
    split = jax.device_put(params, placed(mesh, params))
    held = sum(a.addressable_shards[0].data.nbytes for a in jax.tree.leaves(split))
    assert held < 0.4 * whole
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(split), strict=True):
        np.testing.assert_array_equal(a, b)


def test_dropout_masks_belong_to_examples():
    keys = rng.per_example(jax.random.key(0), 6)
    x = jnp.ones((6, 50))
    whole = dropout(x, 0.3, keys)
    np.testing.assert_array_equal(dropout(x[2:4], 0.3, keys[2:4]), whole[2:4])
    big = dropout(jnp.ones((100, 1000)), 0.3, rng.per_example(jax.random.key(1), 100))
    assert float(big.mean()) == pytest.approx(1.0, abs=0.01)
    assert float((big == 0).mean()) == pytest.approx(0.3, abs=0.01)
    np.testing.assert_array_equal(dropout(x, 0.3, None), x)


def test_times_are_one_per_stratum():
    for n in (1, 7, 49, 98, 103):
        t = np.asarray(rng.low_discrepancy_times(jax.random.key(n), n))
        assert t.shape == (n,)
        assert t.min() >= 0.0
        assert t.max() < 1.0
        assert len(set(np.floor(t * n - (t.min() * n) + 0.5).astype(int) % n)) == n
        np.testing.assert_allclose(np.diff(np.sort(t)), 1 / n, atol=1e-5)


def test_streams_are_independent_and_reproducible():
    root = jax.random.key(0)

    def draw(name, step):
        return float(jax.random.normal(rng.stream(root, name, step)))

    values = {(n, s): draw(n, s) for n in ("noise", "augment", "times") for s in range(3)}
    assert len(set(values.values())) == len(values)
    assert draw("noise", 2) == values["noise", 2]


def test_a_batch_that_does_not_divide_is_refused():
    mesh = make_mesh()
    with pytest.raises(ValueError, match="multiple of 16"):
        check_batch(24, mesh, accumulate=2)
    check_batch(32, mesh, accumulate=2)


def test_labels_are_dropped_at_the_asked_rate(folder):
    recipe = make_recipe(tiny.experiment(folder, class_dropout=0.25))
    batch = {"image": jnp.zeros((4000, 4, 4, 1), jnp.uint8), "label": jnp.ones(4000, jnp.int32)}
    _, cond, _ = step_lib.prepare(recipe, batch, jnp.asarray(0))
    labels = np.asarray(cond["label"])
    assert set(labels) == {1, 3}  # 3 is the null class
    assert (labels == 3).mean() == pytest.approx(0.25, abs=0.03)
