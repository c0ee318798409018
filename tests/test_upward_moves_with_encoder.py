"""Moves up in gamma, and correctors, of models with an encoder: the law is kept."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closed_form import Draws, build, law
from encoded_gaussian import Linear, alpha2
from gaussian_edits import Squared, mean_error

from diffusion_jax import registry
from diffusion_jax.sampling import loop, path
from diffusion_jax.sampling.correctors import langevin
from diffusion_jax.sampling.encoder_corrections import for_corrector, for_sampler, lifting
from diffusion_jax.types import Pred, alpha, expand, sigma

pytestmark = pytest.mark.usefixtures("float64")
V = 0.7


@dataclass(frozen=True)
class Encoded:
    """N(0, V) behind the encoder `x_t = alpha^2 x`, for which the model's own assumption holds."""

    mean = np.zeros(1)
    sampler: object

    def raw(self, z, gamma):
        x = Linear(alpha2, 1.0, V).apply({}, z, gamma, {})
        g = expand(gamma, z)
        return Pred(x, (z - alpha(g) * x) / sigma(g))

    def denoise(self, z, gamma, constant):
        return for_sampler(self.raw, 1.0, self.sampler)(z, gamma)

    def noised(self, gamma):
        a2 = 1.0 / (1.0 + np.exp(gamma))
        return np.zeros(1), np.array([[a2**3 * V + 1.0 - a2]])


def error(monkeypatch, gammas, lifted=True, sampler="ancestral()"):
    """Of the variance at the end of a run that starts from the true law; no sampling error."""
    data = Encoded(build(sampler))
    lift = lifting(data.raw, 1.0) if lifted else None
    hooks = lambda constant: {"lift": lift}
    solve = lambda *args, **options: loop.run(*args, **options).end  # a plan may rise alone
    gammas = np.asarray(gammas)
    found = law(monkeypatch, data, sampler, gammas, hooks=hooks, solve=solve)[1].item()
    return abs(found - data.noised(gammas[-1])[1].item())


@pytest.mark.parametrize("start", [-3.0, -1.0, 1.0])
def test_one_move_keeps_the_marginal_to_second_order(monkeypatch, start):
    up = lambda length, **options: error(monkeypatch, [start, start + length], **options)
    assert up(0.125) / up(0.0625) == pytest.approx(4.0, rel=0.15)
    # The forward process of data that stay the same is wrong at first order.
    assert up(0.125, lifted=False) / up(0.0625, lifted=False) == pytest.approx(2.0, rel=0.15)
    assert up(0.125) < 0.1 * up(0.125, lifted=False)


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["churn(amount=4.0)", "repaint(jump=1, resamplings=2)"])
def test_plans_that_go_up_end_with_the_law_of_the_data(monkeypatch, spec):
    def end(steps, lifted=True):
        plan = registry.build("plans", spec)(np.linspace(6.0, -6.0, steps + 1))
        return error(monkeypatch, plan, lifted, "heun()")

    few, more = end(8), end(16)
    assert more < 0.4 * few
    assert more < 0.2 * end(16, lifted=False)


def test_what_it_adds_is_made_once_for_each_move():
    asked = []

    def denoise(z, gamma):
        jax.debug.callback(lambda g: asked.append(float(g)), gamma)
        return Encoded(None).raw(z, gamma)

    gammas = np.array([2.0, 1.0, 1.5, 0.0])
    lift = lifting(denoise, 1.0)
    z = jnp.ones((1, 1))
    ends = path(Encoded(None).raw, build("ddim()"), gammas, z, jax.random.key(0), lift=lift)
    jax.block_until_ready(ends)
    jax.effects_barrier()
    assert asked == [1.0]
    assert lifting(denoise, 0.0) is None


@dataclass(frozen=True)
class EncodedPair:
    """`E[x_t | z]` for the two pixels of correlation 0.8 behind `x_t = alpha^2 x`."""

    def apply(self, variables, z, gamma, cond, keys=None):
        c = jnp.array([[1.0, 0.8], [0.8, 1.0]])
        a2 = jax.nn.sigmoid(-jnp.ravel(gamma)[0])
        gain = a2**2.5 * jnp.linalg.solve(a2**3 * c + (1.0 - a2) * jnp.eye(2), c)
        return (z.reshape(-1, 2) @ gain).reshape(z.shape)


def test_repaint_errs_as_one_over_its_repeats(monkeypatch):
    """As without an encoder, down to what the length of the steps leaves."""

    def error(repeats, steps=50):
        return mean_error(
            monkeypatch, f"repaint(resamplings={repeats})", network=EncodedPair(), steps=steps,
            sampler="ancestral()", prediction="x", encoder=Squared(),
        )  # fmt: skip

    one, ten, forty = error(1), error(10), error(40)
    assert ten < one / 3
    assert forty < ten / 2.5


@pytest.mark.parametrize("sampler", ["ancestral()", "ddim()", "ancestral_diffenc()"])
def test_a_corrector_settles_at_the_marginal(monkeypatch, sampler):
    """Whatever the sampler adds to the drift: Langevin's variance is `v / (1 - delta / (2 v))`."""
    data, gamma, r = Encoded(build(sampler)), 0.5, 0.16
    correct = for_corrector(langevin.make(r=r), 1.0, data.sampler)
    with monkeypatch.context() as m, jax.disable_jit():
        m.setattr(jax.random, "normal", Draws(1, 2))
        denoise = lambda z, g: data.denoise(z, g, None)
        z = jnp.asarray([[1.0], [0.0]])  # functionals: start, the number drawn
        shrink, drawn = np.asarray(correct(denoise, z, jnp.asarray(gamma), jax.random.key(0)))[:, 0]
    v = data.noised(gamma)[1].item()
    delta = 2.0 * r**2 * float(sigma(jnp.asarray(gamma))) ** 2
    np.testing.assert_allclose(drawn**2 / (1.0 - shrink**2), v / (1.0 - delta / (2.0 * v)))
