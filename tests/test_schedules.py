"""Every schedule in the folder: exact ends, monotone, invertible, differentiable."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError
from diffusion_jax.process.schedules.base import (
    check_rises,
    endpoints,
    gamma_and_slope,
    inverse,
    is_straight,
)
from diffusion_jax.process.time_change import defensive

NAMES = registry.available("schedules")
FIXED = {"linear", "cosine", "linear_beta"}


def build(name):
    return registry.build("schedules", name, gamma_min=-7.9, gamma_max=5.0, shape=(2, 2, 1))


@pytest.fixture(params=NAMES)
def schedule(request):
    return build(request.param)


@pytest.fixture
def trained(schedule):
    """Parameters moved away from their start, as training would."""
    params = jax.jit(schedule.init)(jax.random.key(0))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda p: p + 0.3 * jnp.asarray(rng.standard_normal(p.shape)), params)


def test_ends_are_exact_at_the_start(schedule):
    ends = endpoints(schedule, schedule.init(jax.random.key(0)))
    np.testing.assert_allclose(ends, (-7.9, 5.0), rtol=1e-6)


def test_learned_mlp_ends_stay_exact_while_the_shape_trains():
    schedule = registry.build("schedules", "learned_mlp(gamma_min=-7.9, gamma_max=5.0)")
    params = schedule.init(jax.random.key(0))
    before = endpoints(schedule, params)
    np.testing.assert_allclose(before, (-7.9, 5.0), atol=1e-6)
    params["shape"] = jax.tree.map(lambda p: p + 5.0 * jnp.cos(p), params["shape"])
    np.testing.assert_array_equal(endpoints(schedule, params), before)


def test_increasing_everywhere(schedule, trained):
    gamma = schedule.gamma(trained, jnp.linspace(0.0, 1.0, 2001))
    assert gamma.shape == (2001,)
    assert jnp.all(jnp.diff(gamma) > 0)


def test_shape_of_t_is_kept(schedule, trained):
    for shape in ((), (3,), (2, 3)):
        assert schedule.gamma(trained, jnp.full(shape, 0.3)).shape == shape


@pytest.mark.usefixtures("float64")
def test_slope_is_the_derivative(schedule, trained):
    t, h = jnp.linspace(0.05, 0.95, 19), 1e-5
    curve = jax.jit(lambda t: gamma_and_slope(schedule, trained, t))
    slope, finite = curve(t)[1], (curve(t + h)[0] - curve(t - h)[0]) / (2 * h)
    np.testing.assert_allclose(slope, finite, rtol=1e-6)


@pytest.mark.usefixtures("float64")
def test_inverse(schedule, trained):
    t = jnp.linspace(0.0, 1.0, 33)
    np.testing.assert_allclose(inverse(schedule, trained, schedule.gamma(trained, t)), t, atol=1e-9)
    outside = inverse(schedule, trained, jnp.asarray([-1e3, 1e3]))
    np.testing.assert_allclose(outside, [0.0, 1.0], atol=1e-9)


@pytest.mark.usefixtures("float64")
def test_half_of_the_defensive_times_are_even_in_t_and_half_in_gamma(schedule, trained):
    u = (jnp.arange(2**12) + 0.5) / 2**12
    t, weight = defensive(schedule, trained, u)
    np.testing.assert_allclose(jnp.mean(weight * t**2), 1.0 / 3.0, rtol=1e-5)
    first, last = endpoints(schedule, trained)
    place = (schedule.gamma(trained, t) - first) / (last - first)
    np.testing.assert_allclose(0.5 * (t + place), u, atol=1e-3)
    assert weight.max() <= 2.0 + 1e-6


def test_what_is_declared_straight_is(schedule, trained):
    t = jnp.linspace(0.0, 1.0, 33)
    gamma = schedule.gamma(trained, t)
    line = jnp.interp(t, t[jnp.asarray([0, -1])], gamma[jnp.asarray([0, -1])])
    assert is_straight(schedule) == np.allclose(gamma, line, atol=1e-4)


def test_only_learned_schedules_have_parameters():
    for name in NAMES:
        schedule = build(name)
        assert bool(jax.tree.leaves(schedule.init(jax.random.key(0)))) == (name not in FIXED)


@pytest.mark.usefixtures("float64")
def test_cosine_and_linear_beta_are_the_published_curves():
    """At points the definitions fix: alpha^2 = cos^2 half way, alpha^2 = exp(-B) in closed form."""
    cosine = registry.build("schedules", "cosine(gamma_min=-10.0, gamma_max=10.0)")
    np.testing.assert_allclose(cosine.gamma({}, jnp.asarray(0.5)), 0.0, atol=1e-12)
    # DDPM's variance at s = 1 is exp(-(0.1 + 20) / 2): there the schedule must end if told to.
    total = (0.1 + 20.0) / 2
    end = float(np.log(np.expm1(total)))
    beta = registry.build("schedules", f"linear_beta(gamma_min=-8.0, gamma_max={end!r})")
    start = beta._clock(-8.0)
    half = 0.5 * (start + 1.0)  # the clock runs linearly from start to 1
    alpha2 = np.exp(-(0.1 * half + 0.5 * 19.9 * half**2))
    np.testing.assert_allclose(jax.nn.sigmoid(-beta.gamma({}, jnp.asarray(0.5))), alpha2, rtol=1e-9)


SATURATED = {
    "all zero": {"slope": 0.0, "scale": 0.0, "shift": 0.0, "out": 0.0},
    "constant units": {"slope": 0.0, "scale": 1.0, "shift": 80.0, "out": 1.0},
    "a step": {"slope": 0.0, "scale": 1e4, "shift": 3e3, "out": 5.0},
    "steps of both signs": {"slope": 1e-9, "scale": 1e3, "shift": [-900.0, 900.0], "out": 1e3},
}


@pytest.mark.slow
@pytest.mark.parametrize("shape", SATURATED.values(), ids=SATURATED)
def test_a_saturated_network_still_rises(shape):
    schedule = registry.build("schedules", "learned_mlp(features=2)")
    params = schedule.init(jax.random.key(0))
    for k, v in shape.items():
        params["shape"][k] = jnp.broadcast_to(jnp.asarray(v), params["shape"][k].shape)
    t = jnp.linspace(0.0, 1.0, 1001)
    gamma, slope = jax.jit(lambda p: gamma_and_slope(schedule, p, t))(params)
    assert jnp.all(jnp.diff(gamma) > 0) and jnp.all(slope > 0) and jnp.all(jnp.isfinite(slope))
    grads = jax.jit(jax.grad(lambda p: schedule.gamma(p, t).sum()))(params)
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(grads))
    proposal = registry.build("time_sampling", "histogram(bins=8)")
    u = (jnp.arange(20000) + 0.5) / 20000
    times = jax.jit(lambda p, u: proposal.times(proposal.init(), schedule, p, u))
    np.testing.assert_allclose(times(params, u)[1].mean(), 1.0, rtol=0.03)


@pytest.mark.parametrize(
    ("curve", "says"),
    [
        (lambda t: 5.0 - 12.0 * t, "must be finite and rise"),
        (lambda t: jnp.log(t), "must be finite and rise"),
        (lambda t: jnp.minimum(10.0 * t, 5.0), "must be finite and rise"),
        (lambda t: jnp.sum(t), "must be equal"),
    ],
)
def test_a_schedule_that_does_not_rise_is_refused(curve, says):
    class Mine:
        def init(self, key):
            return {}

        def gamma(self, params, t):
            return curve(t)

    with pytest.raises(ConfigError, match=says):
        check_rises(Mine(), {})


def test_every_schedule_rises(schedule, trained):
    check_rises(schedule, trained)


@pytest.mark.parametrize("name", registry.available("schedules"))
def test_noise_grows_or_it_is_refused(name):
    with pytest.raises(ConfigError, match=r"gamma_min=4.0 must be below gamma_max=-6.0"):
        registry.build("schedules", f"{name}(gamma_min=4.0, gamma_max=-6.0)", shape=(2, 2, 1))
