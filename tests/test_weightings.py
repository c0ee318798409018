"""Weighted losses: those of their authors on Gaussian data; the schedule follows the bound."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from gaussian import Gaussian, legendre

from diffusion_jax import registry, rng
from diffusion_jax.cli.modes import train
from diffusion_jax.errors import ConfigError, SpecError
from diffusion_jax.likelihood.objectives.base import bound_of, is_shape_invariant
from diffusion_jax.training import minimize_variance
from diffusion_jax.training.tasks import diffusion

pytestmark = pytest.mark.usefixtures("float64")
DATA = Gaussian()
ENDS = (-6.0, 4.0)


def objective(weight):
    return registry.build("objectives", f"weighted(weight={weight})")


def errors(gamma):
    """Least squared errors of x, summed over the dimensions, given z at `gamma`."""
    a2, s2 = 1 / (1 + np.exp(gamma)), 1 / (1 + np.exp(-gamma))
    return sum(v * s2 / (a2 * v + s2) for v in DATA.variance)


def mean(f, lo, hi):
    points, weights = np.polynomial.legendre.leggauss(400)
    return 0.5 * (hi - lo) * float(np.sum(weights * f(lo + 0.5 * (hi - lo) * (points + 1))))


def normal(x, mean, std):
    return np.exp(-0.5 * ((x - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))


def edm():
    """Over the log of the noise level s: `E (s^2 + d^2) / (s d)^2 |D - x|^2`."""
    d = 0.5
    return mean(
        lambda log: normal(log, -1.2, 1.2) * (np.exp(2 * log) + d**2) / (np.exp(log) * d) ** 2
        * errors(2 * log), ENDS[0] / 2, ENDS[1] / 2,
    )  # fmt: skip


def rectified():
    """Over the path's time: `z = (1 - t) x + t eps`, and `u - u_hat = (x_hat - x) / t`."""

    def at(t):
        odds = np.log(t / (1 - t))
        return normal(odds, 0.3, 0.8) / (t * (1 - t)) * errors(2 * odds) / t**2

    return mean(at, *(1 / (1 + np.exp(-0.5 * np.asarray(ENDS)))))


def x_loss():
    return 0.5 * mean(errors, *ENDS)


def eps_loss():
    """Over the schedule's time; `eps - eps_hat = (x_hat - x) alpha / sigma`."""
    return 0.5 * mean(lambda g: np.exp(-g) * errors(g), *ENDS) / (ENDS[1] - ENDS[0])


def min_snr():
    return 0.5 * (
        5 * mean(errors, ENDS[0], -math.log(5))
        + mean(lambda g: np.exp(-g) * errors(g), -math.log(5), ENDS[1])
    )


@pytest.mark.parametrize(
    ("weight", "theirs", "accuracy"),
    [
        ("edm()", edm, 1e-9),
        ("logit_normal(mean=0.3, std=0.8)", rectified, 1e-9),
        ("x()", x_loss, 1e-9),
        ("eps()", eps_loss, 1e-9),
        ("truncated_snr(low=0.0, high=5.0)", min_snr, 1e-3),  # it has a kink
    ],
)
def test_the_loss_is_that_of_its_authors(weight, theirs, accuracy):
    model = DATA.model()
    params = {"network": {}, "schedule": model.schedule.init(jax.random.key(0))}
    x, noise, w = DATA.quadrature(*legendre(150))
    terms = objective(weight)(model, params, x, {}, noise)
    assert float(np.sum(w * terms.diffusion)) == pytest.approx(theirs(), rel=accuracy)


def learned(seed=0):
    model = DATA.model("learned_mlp(features=5, gamma_min=-6.0, gamma_max=4.0)", wrong=0.1)
    params = {"network": {}, "schedule": model.schedule.init(jax.random.key(seed))}
    shape = params["schedule"]["shape"]
    shape["out"] = jax.random.normal(jax.random.key(seed + 1), shape["out"].shape)
    x = jax.random.normal(jax.random.key(3), (6, 2))
    noise = rng.draw_noise(jax.random.key(4), x)
    return model, jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), params), x, noise


def values(objective, where):
    model, params, x, noise = where
    return jax.value_and_grad(lambda p: objective(model, p, x, {}, noise).total.mean())(params)


@pytest.mark.slow
def test_weight_one_is_the_bound_bit_for_bit():
    where = learned()
    ours, theirs = (
        values(o, where)
        for o in (objective("constant()"), registry.build("objectives", "continuous()"))
    )
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


WEIGHTS = registry.available("weightings")


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_schedule_follows_the_bound(name):
    where = learned()
    value, grads = values(objective(f"{name}()"), where)
    bound, expected = values(registry.build("objectives", "continuous()"), where)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), grads, expected
    )
    assert (value == bound) == (name == "constant")


@pytest.mark.parametrize("name", ["sigmoid", "edm", "truncated_snr"])
def test_the_shape_is_trained_on_the_variance_of_the_weighted_loss(name):
    model, params, x, noise = learned()
    weighted, plain = objective(f"{name}()"), registry.build("objectives", "continuous()")
    grads, _ = minimize_variance.gradient(weighted, model, params, x, {}, noise)
    scale = 1 / (2 * math.log(2))

    def square(p):
        """With the weight inside what is derived, unlike in the objective."""
        gamma, slope = jax.jvp(lambda t: model.schedule.gamma(p["schedule"], t), (noise.t,),
                               (jnp.ones_like(noise.t),))  # fmt: skip
        terms = plain(model, p, x, {}, noise)
        return jnp.square(scale * terms.diffusion * weighted.weight(gamma, slope)).mean()

    expected = jax.grad(square)(params)["schedule"]["shape"]
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12)
    jax.tree.map(close, grads["schedule"]["shape"], expected)
    assert optax.tree.norm(expected) > 1e-5
    ends = jax.grad(lambda p: scale * plain(model, p, x, {}, noise).total.mean())(params)
    jax.tree.map(close, grads["schedule"]["ends"], ends["schedule"]["ends"])


@pytest.mark.parametrize("name", WEIGHTS)
def test_weightings_are_what_they_declare(name):
    weight = registry.build("weightings", f"{name}()")
    gamma = jnp.linspace(-14.0, 8.0, 500)
    w = weight(gamma, jnp.full_like(gamma, 3.0))
    assert w.shape == gamma.shape and bool((w >= 0).all())
    if weight.monotone:
        assert bool((jnp.diff(w) >= 0).all())
    assert weight.of_gamma == bool((w == weight(gamma, jnp.full_like(gamma, 5.0))).all())
    assert is_shape_invariant(objective(f"{name}()")) == weight.of_gamma


def test_what_is_validated_is_the_bound(tmp_path, monkeypatch):
    assert bound_of(objective("edm()")) == registry.build("objectives", "continuous()")
    experiment = tiny.experiment(tmp_path, objective="weighted(weight=edm())")
    task = experiment.task.open(experiment, train.HANDED)
    assert "not a bound" in task.note and task.unit == "weighted bits/dim"
    seen = []

    def measure(model, objective, *args, **kwargs):
        seen.append(objective)
        raise InterruptedError

    monkeypatch.setattr(diffusion.bpd, "measure", measure)
    monkeypatch.setattr(diffusion.Training, "_average", lambda self, state: None)
    with pytest.raises(InterruptedError):
        task.validate(None, None)
    assert seen == [registry.build("objectives", "continuous()")]


@pytest.mark.parametrize(
    ("spec", "error", "said"),
    [
        ("weighted(inner=discrete(timesteps=10))", ConfigError, "use inner=continuous()"),
        ("weighted(inner=weighted())", ConfigError, "use a single weight, with inner=continuous()"),
        ("weighted(weight=3)", SpecError, "it takes (weight=sigmoid(), inner=None)"),
        ("weighted(weight=edn())", SpecError, "did you mean 'edm'"),
        ("weighted(weight=truncated_snr(low=2.0, high=1.0))", ConfigError, "0 <= low < high"),
        ("weighted(weight=constant(value=0.0))", ConfigError, "above 0"),
    ],
)
def test_weights_that_make_no_sense(spec, error, said):
    with pytest.raises(error, match=re.escape(said)):
        registry.build("objectives", spec)
