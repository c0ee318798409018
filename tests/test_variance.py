"""Less variance, the same bound: the schedule's shape and importance-sampled times."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from encoded_gaussian import ENDS, V, bound, exact_mean, model
from gaussian import Gaussian
from ml_collections import ConfigDict

from diffusion_jax import config as config_lib, registry, rng
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment
from diffusion_jax.process.schedules.base import gamma_and_slope
from diffusion_jax.training import minimize_variance, step as step_lib
from diffusion_jax.training.step import Recipe
from diffusion_jax.training.tasks.diffusion import make_recipe
from diffusion_jax.types import Noise

CONTINUOUS = registry.build("objectives", "continuous()")
PROPOSALS = ("uniform()", "vloss()", "histogram(bins=8)")


class Scale:
    """A network with one weight, close to the best."""

    def init(self, key, z, gamma, cond):
        return {"params": {"w": jnp.asarray(0.8)}}

    def apply(self, variables, z, gamma, cond, keys=None):
        return variables["params"]["w"] * jnp.tanh(z) * jax.nn.sigmoid(-gamma)[:, None, None, None]


def recipe(m, **changes):
    base = Recipe(
        model=m, objective=CONTINUOUS, optimizer=optax.identity(), augment=None, class_dropout=0.0,
        ema=(), ema_warmup=False, accumulate=1, seed=0, unroll=True, minimize_variance=True,
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


def learned(key=0, features=6):
    m = model(schedule=f"learned_mlp(features={features})", network=Scale())
    params = m.init(jax.random.key(key), (1, 1, 1))
    shape = params["schedule"]["shape"]
    shape["out"] = 0.5 * jax.random.normal(jax.random.key(key + 1), shape["out"].shape)
    return m, jax.tree.map(lambda a: jnp.asarray(a, jnp.result_type(float)), params)


def data(n, key=3):
    k_x, k_noise = jax.random.split(jax.random.key(key))
    x = math.sqrt(V) * jax.random.normal(k_x, (n, 2, 2, 1))
    return x, rng.draw_noise(k_noise, x)


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("unroll", [True, False])
def test_one_backward_pass_gives_both_gradients(float64, accumulate, unroll):
    m, params = learned()
    x, noise = data(8)
    r = recipe(m, accumulate=accumulate, unroll=unroll)
    grads, metrics = jax.jit(lambda p: step_lib.gradient(r, p, x, {}, noise))(params)

    def mean_and_square(p):
        terms = CONTINUOUS(m, p, x, {}, noise)
        scale = 1.0 / (4 * math.log(2.0))
        return terms.total.mean() * scale, jnp.square(terms.diffusion * scale).mean()

    expected, other = jax.jit(
        lambda p: tuple(jax.grad(lambda p, i=i: mean_and_square(p)[i])(p) for i in (0, 1))
    )(params)
    expected["schedule"]["shape"] = other["schedule"]["shape"]

    def close(a, b):  # sums of terms up to 1e8 are as exact as those allow
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-15 * np.abs(b).max())

    jax.tree.map(close, grads, expected)
    assert optax.tree.norm(grads["schedule"]["shape"]) > 1e-3
    np.testing.assert_allclose(metrics["loss"], mean_and_square(params)[0], rtol=1e-12)


def test_where_a_weight_is_too_small_for_float32_its_gradient_is_finite():
    """At the ends that a run has by default, and that of E l^2 by plain derivation."""
    weighted = registry.build("objectives", "weighted(weight=edm(std=0.4))")
    m = Gaussian().model("learned_mlp(features=6, gamma_min=-13.3, gamma_max=5.0)", wrong=0.1)
    params = {"network": {}, "schedule": jax.jit(m.schedule.init)(jax.random.key(0))}
    x = jax.random.normal(jax.random.key(1), (6, 2))
    noise = rng.draw_noise(jax.random.key(2), x)._replace(t=jnp.asarray([0, 0.2, 0.4, 0.6, 0.8, 1]))

    def square(p):
        curve = gamma_and_slope(m.schedule, p, noise.t)
        terms, w = CONTINUOUS(m, {**params, "schedule": p}, x, {}, noise), weighted.weight(*curve)
        return jnp.square(terms.diffusion * w / (2 * math.log(2.0))).mean(), w.min()

    @jax.jit
    def both(p):
        (_, least), plain = jax.value_and_grad(square, has_aux=True)(p)
        grads, _ = minimize_variance.gradient(weighted, m, {**params, "schedule": p}, x, {}, noise)
        return grads["schedule"], plain["shape"], least

    found, expected, least = both(params["schedule"])
    assert least == 0.0
    assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(found))
    assert optax.tree.norm(expected) > 1e-5
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)
    jax.tree.map(close, found["shape"], expected)


def test_the_bound_does_not_depend_on_the_shape(float64):
    values = []
    for key in range(3):
        m, params = learned(key)
        values.append(bound(m, params, points=500))
    np.testing.assert_allclose(values, values[0], rtol=1e-7)


def second_moment(m, params, times=lambda u: (u, jnp.ones_like(u)), points=2000):
    """`E l^2` of one example's weighted diffusion loss, over data, noise and time."""
    u = (np.arange(points) + 0.5) / points

    def square(x, noise):
        t, weight = times(noise.t)
        return (CONTINUOUS(m, params, x, {}, noise._replace(t=t)).diffusion * weight) ** 2

    return float(exact_mean(square, u).mean())


@pytest.mark.slow
def test_training_the_shape_lowers_the_variance(float64):
    m = model(schedule="learned_mlp(features=32)")
    params = m.init(jax.random.key(0), (1, 1, 1))
    r, optimizer = recipe(m), optax.adam(2e-2)

    @jax.jit
    def step(carry, key):
        params, state = carry
        k_x, k_noise = jax.random.split(key)
        x = math.sqrt(V) * jax.random.normal(k_x, (64, 1, 1, 1))
        grads, _ = step_lib.gradient(r, params, x, {}, rng.draw_noise(k_noise, x))
        grads["schedule"]["ends"] = jax.tree.map(jnp.zeros_like, grads["schedule"]["ends"])
        updates, state = optimizer.update(grads, state)
        return (optax.apply_updates(params, updates), state), None

    before = second_moment(m, params)
    keys = jax.random.split(jax.random.key(1), 400)
    (after, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), keys)
    assert second_moment(m, after) < 0.7 * before
    ends = m.schedule.gamma(after["schedule"], jnp.asarray([0.0, 1.0]))
    np.testing.assert_allclose(ends, [ENDS["gamma_min"], ENDS["gamma_max"]], rtol=1e-6)


def trained_histogram(m, params):
    """The adaptive proposal after it has seen many batches."""
    proposal = registry.build("time_sampling", "histogram(bins=40, decay=0.98)")

    @jax.jit
    def step(state, key):
        k_x, k_noise = jax.random.split(key)
        x = math.sqrt(V) * jax.random.normal(k_x, (256, 1, 1, 1))
        noise = rng.draw_noise(k_noise, x)
        t, weight = proposal.times(state, m.schedule, params["schedule"], noise.t)
        noise = noise._replace(t=t)
        terms = CONTINUOUS(m, params, x, {}, noise)
        seen = step_lib.measures(recipe(m, proposal=proposal), params, terms, noise, weight, 1)[1]
        return proposal.update(state, seen["proposal"]), None

    keys = jax.random.split(jax.random.key(2), 400)
    return proposal, jax.lax.scan(step, proposal.init(), keys)[0]


@pytest.mark.parametrize("seen", [0.0, 1e30])
def test_an_adaptive_proposal_survives_losses_of_any_size(seen):
    """Nothing but zeros, or squares beyond float32."""
    proposal = registry.build("time_sampling", "histogram(bins=4, decay=0.0)")
    sums = proposal.observe(jnp.linspace(0.0, 0.99, 64), jnp.full(64, seen))
    state = proposal.update(proposal.init(), sums)
    np.testing.assert_allclose(proposal.masses(state), 0.25, rtol=1e-5)


@pytest.mark.parametrize("schedule", ["linear()", "cosine()"])
@pytest.mark.parametrize("name", PROPOSALS)
def test_every_proposal_estimates_the_same_bound(float64, schedule, name):
    m, params = model(schedule=schedule), {"schedule": {}, "network": {}}
    proposal = registry.build("time_sampling", name)
    state = proposal.init()
    if state:
        state = {"second": jnp.exp(jnp.linspace(1.0, -3.0, 8))}

    def weighted(x, noise):
        t, weight = proposal.times(state, m.schedule, {}, noise.t)
        return CONTINUOUS(m, params, x, {}, noise._replace(t=t)).diffusion * weight

    u = (np.arange(4000) + 0.5) / 4000
    closed = lambda g: 0.5 * np.log1p(np.exp(-g) * V)
    exact = closed(ENDS["gamma_min"]) - closed(ENDS["gamma_max"])
    np.testing.assert_allclose(exact_mean(weighted, u).mean(), exact, rtol=2e-4)


@pytest.mark.slow
def test_proposals_have_less_variance_and_the_adaptive_one_almost_the_least(float64):
    m, params = model(), {"schedule": {}, "network": {}}
    adaptive, state = trained_histogram(m, params)
    times = {
        "uniform": registry.build("time_sampling", "uniform()").times,
        "vloss": registry.build("time_sampling", "vloss()").times,
        "histogram": lambda s, *rest: adaptive.times(state, *rest),
    }
    found = {
        k: second_moment(m, params, lambda u, f=f: f({}, m.schedule, {}, u))
        for k, f in times.items()
    }
    gamma = np.linspace(ENDS["gamma_min"], ENDS["gamma_max"], 2001)
    t = (gamma - gamma[0]) / (gamma[-1] - gamma[0])
    loss = lambda x, noise: (CONTINUOUS(m, params, x, {}, noise).diffusion / 20.0) ** 2
    least = np.trapezoid(np.sqrt(exact_mean(loss, t)), gamma) ** 2
    assert found["vloss"] < 0.8 * found["uniform"]
    assert least < found["histogram"] < 1.1 * least


def test_gradients_stay_unbiased_under_a_proposal(float64):
    """Weighted gradients at chosen times average to those at uniform times, ends included."""
    m, params = learned()
    proposal = registry.build("time_sampling", "vloss()")
    u = jnp.asarray((np.arange(4000) + 0.5) / 4000)
    noise = Noise(u, jnp.full((4000, 1, 1, 1), 0.3), jnp.zeros((4000, 1, 1, 1)))
    x = jnp.full((4000, 1, 1, 1), 0.5)
    r = recipe(m, minimize_variance=False)
    t, weight = jax.jit(lambda u: proposal.times({}, m.schedule, params["schedule"], u))(u)
    gradient = jax.jit(lambda t, weight: step_lib.gradient(
        r, params, x, {}, noise._replace(t=t), weight)[0])  # fmt: skip
    plain, chosen = gradient(u, jnp.ones_like(u)), gradient(t, weight)
    pick = lambda g: [g["schedule"]["ends"]["b"], g["schedule"]["ends"]["w"], g["network"]["w"]]
    np.testing.assert_allclose(pick(chosen), pick(plain), rtol=1e-3, atol=1e-3)


def test_weights_are_the_inverse_density_of_the_times(float64):
    m, params = learned()
    u = jnp.asarray((np.arange(1000) + 0.5) / 1000)
    t, weight = registry.build("time_sampling", "vloss()").times(
        {}, m.schedule, params["schedule"], u
    )
    middle = 0.5 * (weight[1:] + weight[:-1])  # dt/du = 1/q
    np.testing.assert_allclose((jnp.diff(t) * 1000)[:950], middle[:950], rtol=1e-2)
    gamma, _ = gamma_and_slope(m.schedule, params["schedule"], t)
    assert jnp.all(jnp.diff(gamma) > 0)


def experiment(tmp_path, **changes):
    c: ConfigDict = config_lib.base()
    c.data, c.network = "digits()", "vdm_unet(width=32, depth=1)"
    c.update(changes)
    return Experiment(c, tmp_path)


def test_the_switch(tmp_path):
    on = {"minimize_variance": "on"}
    learned = {"schedule": "learned_mlp(features=8)"}
    assert make_recipe(experiment(tmp_path, **learned)).minimize_variance
    assert not make_recipe(
        experiment(tmp_path, **learned, minimize_variance="off")
    ).minimize_variance
    assert not make_recipe(experiment(tmp_path)).minimize_variance
    assert not make_recipe(experiment(tmp_path, **learned, proposal="vloss()")).minimize_variance
    for changes, reason in [
        ({**learned, "objective": "discrete(timesteps=10)"}, "depends on the schedule's shape"),
        ({}, "no shape to train"),
        ({**learned, "proposal": "histogram()"}, "does not depend"),
    ]:
        with pytest.raises(ConfigError, match=reason):
            make_recipe(experiment(tmp_path, **changes, **on))
    with pytest.raises(ConfigError, match="allowed: auto, on, off"):
        make_recipe(experiment(tmp_path, minimize_variance="maybe"))
