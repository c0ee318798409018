"""Grids and plans: end points, spacing, upward moves, and what they do to the law of a run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closed_form import ENDS, Gaussian, build, grid, law

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError
from diffusion_jax.sampling import integrate, loop, replacement
from diffusion_jax.sampling.plans import churn, repaint, restart

# A plug-in that cannot be built from its name alone; new ones need no entry unless they are such.
EXAMPLES = {"array": "array(values=(5.0, 1.0, 0.5, -2.0, -8.0, -13.3))"}
GRIDS = [EXAMPLES.get(name, name) for name in registry.available("grids")]


@pytest.mark.parametrize("spec", GRIDS)
def test_grids_run_from_noise_to_data(spec):
    gammas = grid(spec, 5)
    assert isinstance(gammas, np.ndarray)
    assert gammas.dtype == np.float64
    assert gammas.shape == (6,)
    assert (gammas[0], gammas[-1]) == (ENDS[1], ENDS[0])
    assert np.all(np.diff(gammas) < 0.0)


@pytest.mark.parametrize("spec", [g for g in GRIDS if "values" not in g])
def test_grids_of_one_step(spec):
    np.testing.assert_array_equal(grid(spec, 1), [ENDS[1], ENDS[0]])


def test_spacing_of_the_grids():
    rho = np.exp(0.5 * grid("karras(rho=3.0)", 10))
    np.testing.assert_allclose(np.diff(rho ** (1 / 3)), np.diff(rho ** (1 / 3))[0])
    for rho in ("1e6", "1e16", "1e999"):  # the last is infinity
        np.testing.assert_allclose(grid(f"karras(rho={rho})", 10), grid("log_snr()", 10), atol=1e-4)
    # In this schedule gamma is linear in t.
    t = (grid("quadratic()", 10) - ENDS[0]) / (ENDS[1] - ENDS[0])
    np.testing.assert_allclose(np.sqrt(np.abs(t)), np.linspace(1, 0, 11), atol=1e-7)
    np.testing.assert_allclose(grid("uniform_t()", 10), grid("log_snr()", 10))


def test_karras_grid_as_published():
    """EDM's own range: 18 levels from 80 to 0.002."""
    ends = tuple(2 * np.log([0.002, 80.0]))
    rho = np.exp(0.5 * grid("karras()", 17, ends=ends))
    np.testing.assert_allclose(rho[[0, -1]], [80.0, 0.002])
    middle = ((80.0 ** (1 / 7) * 9 + 0.002 ** (1 / 7) * 8) / 17) ** 7
    np.testing.assert_allclose(rho[8], middle)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("array(values=(5.0, 0.0))", "sample.steps=5"),
        ("array(values=(9.0, 4.0, 3.0, 2.0, 1.0, 0.0))", "range of the model"),
        ("array(values=(5.0,))", "at least two"),
        ("karras(rho=0.0)", r"rho=0\.0 must be a number above 0"),
    ],
)
def test_grids_check_their_settings(spec, says):
    with pytest.raises(ConfigError, match=says):
        grid(spec, 5)


def test_an_array_may_climb_and_stays_in_range():
    gammas = grid("array(values=(5.0, 1.0, 2.0, -13.3005))", 3)
    np.testing.assert_array_equal(gammas, [5.0, 1.0, 2.0, ENDS[0]])


def test_churn_raises_the_noise_by_its_factor():
    gammas = grid("karras()", 20)
    np.testing.assert_array_equal(churn.make(0.0)(gammas), gammas)
    plan = churn.make(4.0, lo=-6.0, hi=2.0)(gammas)
    ups = np.flatnonzero(np.diff(plan) > 0)
    rho = np.exp(0.5 * plan)
    np.testing.assert_allclose(rho[ups + 1] / rho[ups], 1.0 + 4.0 / 20)
    assert len(ups) == np.sum((gammas[:-1] >= -6.0) & (gammas[:-1] <= 2.0))
    assert set(gammas) <= set(plan)
    assert (plan[0], plan[-1], plan.max()) == (gammas[0], gammas[-1], gammas[0])
    # Limited by sqrt(2) - 1, and by the start of the plan.
    rho = np.exp(0.5 * churn.make(1e9)(gammas))
    assert np.max(rho[1:] / rho[:-1]) == pytest.approx(np.sqrt(2.0))
    assert rho.max() == rho[0]


def test_restart_runs_the_stretch_again():
    gammas = np.array([4.0, 2.0, 0.0, -2.0, -4.0])
    plan = restart.make(lo=-1.9, hi=2.2, times=2)(gammas)
    np.testing.assert_array_equal(plan, [4, 2, 0, -2, 2, 0, -2, 2, 0, -2, -4])
    np.testing.assert_array_equal(restart.make(-2.0, 2.0, times=0)(gammas), gammas)


def test_repaint_runs_every_stretch_again():
    gammas = np.array([4.0, 2.0, 0.0, -2.0])
    np.testing.assert_array_equal(repaint.make(jump=9, resamplings=1)(gammas), gammas)
    plan = repaint.make(jump=2, resamplings=3)(gammas)
    np.testing.assert_array_equal(plan, [4, 2, 0, 4, 2, 0, 4, 2, 0, -2, 0, -2, 0, -2])


@pytest.mark.parametrize(
    "bad",
    [
        lambda g: registry.build("plans", "churn(amount=-1.0)")(g),
        lambda g: churn.make(1.0)(g[::-1]),
        lambda g: restart.make(lo=1.0, hi=0.0)(g),
        lambda g: registry.build("plans", "restart(times=-1)")(g),
        lambda g: registry.build("plans", "repaint(jump=0)")(g),
        lambda g: registry.build("plans", "repaint(resamplings=0)")(g),
        lambda g: repaint.make()(g[:1]),
    ],
)
def test_plans_check_their_settings(bad):
    with pytest.raises(ConfigError):
        bad(np.array([4.0, 0.0, -4.0]))


@pytest.mark.usefixtures("float64")
def test_going_up_is_the_forward_process(monkeypatch):
    """From the exact law at one level to the exact law at a higher one, for any data."""
    data = Gaussian(np.array([0.7, -0.1]), np.array([[0.3, 0.1], [0.1, 0.2]]))
    forward = lambda *args: loop.run(*args).end  # `integrate` refuses a plan that only rises
    mean, cov = law(monkeypatch, data, "ddim()", np.array([-3.0, -1.0, 2.5]), solve=forward)
    np.testing.assert_allclose(mean, data.noised(2.5)[0])
    np.testing.assert_allclose(cov, data.noised(2.5)[1])


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["ancestral()", "ddim()", "ddim(eta=0.4)", "dpmpp_2m()"])
@pytest.mark.usefixtures("float64")
def test_plans_keep_the_law(monkeypatch, sampler):
    """For one image these samplers are exact, so every plan must end in the exact law."""
    data = Gaussian(np.array([0.7]), np.zeros((1, 1)))
    gammas = np.linspace(4.0, -5.0, 7)
    for plan in (
        churn.make(2.0)(gammas),
        restart.make(-2.0, 2.0, times=2)(gammas),
        repaint.make(jump=2, resamplings=2)(gammas),
    ):
        mean, cov = law(monkeypatch, data, sampler, plan)
        np.testing.assert_allclose(mean, data.noised(plan[-1])[0], rtol=1e-10)
        np.testing.assert_allclose(cov, data.noised(plan[-1])[1], rtol=1e-10)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_repaint_reduces_the_bias_of_replacement(monkeypatch):
    """Two correlated pixels, the first is known: the law of the second, against the posterior."""
    data = Gaussian(np.zeros(2), np.array([[1.0, 0.9], [0.9, 1.0]]))
    known, wanted = np.array([1.5, 0.0]), 0.9 * 1.5
    gammas = np.linspace(4.0, -8.0, 6)

    def bias(resamplings):
        plan = repaint.make(jump=1, resamplings=resamplings)(gammas)
        hooks = lambda constant: {
            "constrain": replacement.make(constant * known, np.array([1.0, 0.0]))
        }
        mean, _ = law(monkeypatch, data, build("ancestral()"), plan, hooks=hooks)
        return abs(mean[1] - wanted)

    once, often = bias(1), bias(5)
    assert once > 0.1
    assert often < 0.5 * once, (once, often)


@pytest.mark.usefixtures("float64")
def test_the_bias_left_by_repaint_falls_as_one_over_its_repetitions(monkeypatch):
    """The chain is linear: without its noise it gives the mean, whose limit is the posterior's."""
    data = Gaussian(np.zeros(2), np.array([[1.0, 0.9], [0.9, 1.0]]))
    known, wanted = jnp.array([[1.5, 0.0]]), 0.9 * 1.5
    gammas = np.linspace(4.0, -8.0, 13)
    monkeypatch.setattr(jax.random, "normal", lambda key, shape, dtype=float: jnp.zeros(shape))

    def bias(resamplings):
        plan = repaint.make(jump=1, resamplings=resamplings)(gammas)
        end = integrate(
            lambda z, gamma: data.denoise(z, gamma, jnp.ones((1, 1))),
            build("ancestral()"),
            plan,
            jnp.zeros((1, 2)),
            jax.random.key(0),
            constrain=replacement.make(known, np.array([1.0, 0.0])),
        )
        return wanted - end[0, 1]

    errors = np.array([bias(r) for r in (1, 32, 64, 128)])
    assert errors[0] > 0.3
    np.testing.assert_allclose(errors[2:] / errors[1:-1], 0.5, atol=0.1)
