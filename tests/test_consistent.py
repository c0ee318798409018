"""The objective that adds the drift of predictions to a bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from gaussian import Gaussian

from diffusion_jax import registry, rng
from diffusion_jax.errors import ConfigError
from diffusion_jax.likelihood.objectives.base import bound_of

DATA = Gaussian((0.1, -0.2), (0.2, 0.8))
MADE = registry.build("objectives", "consistent(steps=3, window=0.2)")


def drift(wrong, gamma, n=4000):
    """Mean and standard error of the estimate at one gamma."""
    model = DATA.model(wrong=wrong)
    params = model.init(jax.random.key(0), (2,))
    eps = jax.random.normal(jax.random.key(1), (n, 2))
    x = jnp.asarray(DATA.mean) + jnp.sqrt(jnp.asarray(DATA.variance)) * eps
    noise = rng.draw_noise(jax.random.key(2), x)
    ends = [float(model.schedule.gamma(params["schedule"], jnp.asarray(t))) for t in (0.0, 1.0)]
    t = (gamma - ends[0]) / (ends[1] - ends[0])  # the schedule is a straight line
    noise = noise._replace(t=jnp.full(n, t))
    run = jax.jit(lambda x, noise: MADE.drift(model, params, x, {}, noise, noise.latent))
    found = np.asarray(run(x, noise)).mean(1)
    return found.mean(), found.std(ddof=1) / n**0.5


def test_a_perfect_network_has_no_drift_and_a_wrong_one_has():
    mean, error = drift(0.0, 1.0)
    assert abs(mean) < 4.0 * error
    mean, error = drift(0.3, 1.0)
    assert mean > 5.0 * error


def test_all_else_is_the_bound():
    model = DATA.model(wrong=0.3)
    params, x = model.init(jax.random.key(0), (2,)), jnp.ones((6, 2))
    noise = rng.draw_noise(jax.random.key(2), x)
    none = registry.build("objectives", "consistent(lam=0.0, steps=1)")
    ours, bound, none = (
        jax.jit(lambda x, noise, f=f: f(model, params, x, {}, noise))(x, noise)
        for f in (MADE, bound_of(MADE), none)
    )
    for name in ("prior", "diffusion", "reconstruction"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(bound, name))
    assert (ours.auxiliary != 0.0).all()
    np.testing.assert_array_equal(none.total, bound.total)


def test_a_run_says_what_its_loss_is(tmp_path):
    from diffusion_jax.cli.modes import train

    run = tiny.experiment(tmp_path, objective="consistent(steps=1)", steps=2)
    task = run.task.open(run, train.HANDED)
    assert task.unit == "weighted bits/dim" and "drift of predictions" in task.note
    slope = jax.jit(jax.grad(lambda p: _loss(run, p)))(task.initial().params)
    assert all(bool(jnp.isfinite(a).all()) for a in jax.tree.leaves(slope))
    with pytest.raises(ConfigError, match="inner is not a bound"):
        registry.build("objectives", "consistent(inner=weighted())")


def _loss(run, params):
    rows = run.source.split("train").take(np.arange(4))
    x, cond = run.model.examples({k: jnp.asarray(v) for k, v in rows.items()})
    noise = rng.draw_noise(jax.random.key(0), x)
    return registry.build("objectives", run.config.objective)(
        run.model, params, x, cond, noise
    ).total.mean()
