"""Averages by power function of scripted weights, and those made of them afterwards."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from diffusion_jax import saved_config
from diffusion_jax.errors import CheckpointError, ConfigError
from diffusion_jax.experiment import posthoc_average, prepare_workdir, weights
from diffusion_jax.runtime.sharding import replicated
from diffusion_jax.training import averages, optimizer, restore, state as state_lib
from diffusion_jax.training.checkpoint import Checkpoints

STEPS = 2000
rng = np.random.default_rng(0)
PATH = np.sin(np.arange(1, STEPS + 1) / 300)[:, None] + 0.1 * rng.normal(size=(STEPS, 3))


def followed(names, every=0):
    """Averages of the scripted weights; all of them after each `every` steps."""

    def step(ema, at):
        i, p = at
        ema = [optimizer.ema_update(e, p, n, i, True) for e, n in zip(ema, names, strict=True)]
        return ema, ema

    start = [jnp.full(3, 9.0) for _ in names]
    xs = (jnp.arange(1, STEPS + 1), jnp.asarray(PATH))
    return [np.asarray(a) for a in jax.lax.scan(step, start, xs)[1]]


@pytest.mark.parametrize("length", [0.05, 0.1, 0.25])
def test_the_spread_of_an_average_is_its_name(length, float64):
    g = averages.exponent(length)
    i = (np.arange(200_000) + 0.5) / 200_000
    w = i**g / (i**g).sum()
    assert np.sqrt((w * (i - (w * i).sum()) ** 2).sum()) == pytest.approx(length, rel=1e-4)


def test_an_average_weighs_steps_by_their_power(float64):
    """And nothing is left of the initial weights."""
    g = averages.exponent(0.1)
    edges = np.arange(STEPS + 1.0) ** (g + 1)
    w = np.diff(edges) / edges[-1]
    (found,) = followed(["power(0.1)"])
    np.testing.assert_allclose(found[-1], w @ PATH, rtol=1e-9)


@pytest.mark.parametrize("length", [0.05, 0.25])
@pytest.mark.parametrize("step", [1, 2, 10**6, 10**7])
def test_the_share_of_a_late_step_is_exact_in_float32(length, step):
    """That of `i^g` summed in float64; what is everywhere the same stays so."""
    power = averages.exponent(length) + 1
    expected = (float(step) ** power - (step - 1.0) ** power) / float(step) ** power
    old, new = {"p": jnp.asarray([0.0, 0.3])}, {"p": jnp.asarray([1.0, 0.3])}
    at = jnp.asarray(step, jnp.int32)
    moved, same = optimizer.ema_update(old, new, f"power({length})", at, True)["p"]
    assert float(moved) == pytest.approx(expected, rel=1e-6)
    assert same == new["p"][1]


def test_averages_that_begin_late_are_those_of_a_run_that_begins_there():
    names, rule = (0.9, "power(0.1)"), optax.sgd(0.1)
    ema = tuple((averages.key(n), n) for n in names)
    early = state_lib.init({"network": jnp.asarray([1.0, -2.0])}, rule, names)
    late = early.replace(step=jnp.asarray(40))
    for i in range(3):
        grads = {"network": jnp.asarray([1.0 + i, 0.5])}
        early = optimizer.advance(early, grads, rule, ema, True)
        late = optimizer.advance(late, grads, rule, ema, True, jnp.asarray(40))
        jax.tree.map(np.testing.assert_array_equal, late.ema, early.ema)
    assert int(late.step) == 43


def test_nothing_of_the_start_is_left_after_a_step():
    old, new = {"p": jnp.asarray([9.1e6, 1e-3])}, {"p": jnp.asarray([0.3, 1e6])}
    found = optimizer.ema_update(old, new, "power(0.1)", jnp.asarray(1), True)
    np.testing.assert_array_equal(found["p"], new["p"])


@pytest.mark.parametrize("wanted", [0.05, 0.075, 0.1, 0.15])
def test_an_average_of_any_length_afterwards(wanted, float64):
    names = ["power(0.05)", "power(0.1)"]
    *kept, exact = followed([*names, f"power({wanted})"])
    every = range(99, STEPS, 100)
    there = [
        (t + 1, averages.length(n), k[t]) for t in every for n, k in zip(names, kept, strict=True)
    ]
    c = averages.posthoc([(t, s) for t, s, _ in there], STEPS, wanted)
    made = sum(w * v for w, (*_, v) in zip(c, there, strict=True))
    assert c.sum() == pytest.approx(1.0, abs=1e-3)
    tolerance = 1e-6 if wanted in (0.05, 0.1) else 5e-3
    np.testing.assert_allclose(made, exact[-1], atol=tolerance)


def test_an_exponential_average_is_as_before():
    for warmup in (True, False):
        assert float(averages.share(0.9999, jnp.asarray(5), warmup)) == pytest.approx(
            9 / 15 if warmup else 1e-4
        )
    assert [averages.key(a) for a in (0.9999, "power(0.10)")] == ["0.9999", "power(0.1)"]


@pytest.mark.parametrize("wrong", ["power(0.5)", "power()", "mean(0.1)", "power(0.0)"])
def test_what_is_no_average(wrong):
    with pytest.raises(ConfigError, match=r"average|length"):
        state_lib.check_decays((wrong,))


@pytest.mark.slow
def test_a_run_makes_the_average_of_its_checkpoints(tmp_path):
    ema = ("power(0.05)", "power(0.1)")
    experiment = tiny.experiment(tmp_path, ema=ema, keep_latest=9)
    prepare_workdir(experiment)
    params = jax.jit(lambda: experiment.model.init(jax.random.key(0), experiment.source.shape))()
    state = state_lib.init(params, optax.sgd(0.1), ema)
    checkpoints = Checkpoints(experiment.workdir, 9)
    record = {"config": saved_config.to_dict(experiment.config)}
    for step in (10, 20):
        one = {n: jax.tree.map(lambda p, k=k: p + step * k, params) for k, n in enumerate(ema)}
        checkpoints.save(state.replace(step=jnp.asarray(step), ema=one), record, {})
    checkpoints.close()
    found, what = weights.load(experiment, "posthoc(0.1)")
    assert what["weights"] == "posthoc(0.1)" and what["step"] == 20
    jax.tree.map(lambda a, p: np.testing.assert_allclose(a, p + 20, rtol=1e-4), found, params)
    # Of those that began at step 10 only step 20 has any, after ten steps.
    (end,) = (f for f in restore.locate(experiment.workdir) if f.name == "20")
    known = experiment.workdir, end, 0.07, params, replicated(experiment.mesh), 10
    c = averages.posthoc([(10, 0.05), (10, 0.1)], 10, 0.07)
    jax.tree.map(lambda a, p: np.testing.assert_allclose(a, c.sum() * p + 20 * c[1], rtol=1e-3),
                 posthoc_average.load(*known), params)  # fmt: skip
    with pytest.raises(ConfigError, match="the length must be above 0"):
        weights.load(experiment, "posthoc(0.9)")
    assert issubclass(CheckpointError, ValueError)
