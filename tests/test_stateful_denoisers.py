"""Guidance with a memory: what it adds up to, where it goes, and where it must not get lost."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closed_form import MIXTURE, Gaussian, build

from diffusion_jax import registry
from diffusion_jax.denoiser import StatefulDenoiser, with_condition
from diffusion_jax.errors import ConfigError
from diffusion_jax.model import Model
from diffusion_jax.sampling import integrate, path
from diffusion_jax.sampling.correctors import langevin
from diffusion_jax.sampling.encoder_corrections import corrected
from diffusion_jax.sampling.generate import draw
from diffusion_jax.sampling.guidance.base import Context
from diffusion_jax.sampling.method import Method
from diffusion_jax.types import Pred

pytestmark = pytest.mark.usefixtures("float64")
KEY = jax.random.key(0)
COND = {"label": jnp.array([0, 0])}
CONTEXT = Context(MIXTURE.null, None, lambda z, gamma, cond: jnp.sin(z).sum(1))
DOWN = np.linspace(4.0, -3.0, 8)


@dataclass(frozen=True)
class Ask:
    """A sampler whose latent is what the denoiser last said."""

    calls: int
    noise_share: float = 0.0

    def rows(self, gammas):
        return {"gamma": gammas[:-1]}

    def init(self, z):
        return ()

    def step(self, denoise, row, z, memory, key):
        for _ in range(self.calls):
            pred = denoise(z, row["gamma"])
        return pred.x, memory


def constant(z, gamma, cond):
    """3 with the class, 1 without: the guidance is 2 everywhere."""
    x = jnp.where((cond["label"] == len(MIXTURE.probs))[:, None], 1.0, 3.0) + 0.0 * z
    return Pred(x, z)


def guided(spec, denoiser=constant):
    return with_condition(registry.build("guidance", spec)(denoiser, CONTEXT), COND)


def said(denoise, gammas=DOWN, calls=1, **hooks):
    """Predictions of a run, one row for each step."""
    z = jnp.zeros((2, 2))
    return np.asarray(path(denoise, Ask(calls), gammas, z, KEY, **hooks))[1:]


@pytest.mark.parametrize("beta", [-0.75, 0.5])
@pytest.mark.parametrize("calls", [1, 2])
def test_momentum_of_a_constant_guidance_is_a_geometric_series(beta, calls):
    found = said(guided(f"apg(w=2.5, eta=1.0, beta={beta})"), calls=calls)
    times = calls * np.arange(1, len(DOWN))
    momentum = 2.0 * (1.0 - beta**times) / (1.0 - beta)
    wanted = np.broadcast_to((3.0 + 1.5 * momentum)[:, None, None], found.shape)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_momentum_is_limited_to_the_radius_but_remembered_in_full():
    found = said(guided("apg(w=2.0, eta=1.0, r=0.5, beta=0.9)"))
    np.testing.assert_allclose(np.linalg.norm(found - 3.0, axis=-1), 0.5, rtol=1e-12)


def test_a_move_up_begins_anew():
    """Down three, up, down three: the second run says what the first said."""
    gammas = np.array([4.0, 3.0, 2.0, 1.0, 4.0, 3.0, 2.0, 1.0])
    found = said(guided("apg(w=2.0, eta=1.0, beta=0.5)"), gammas)
    np.testing.assert_allclose(found[4:], found[:3], rtol=1e-12)
    assert np.abs(np.diff(found[:3], axis=0)).min() > 0.1
    # The plan may be known only when it runs.
    traced = jax.jit(lambda g: said_traced(guided("apg(w=2.0, eta=1.0, beta=0.5)"), g))(gammas)
    np.testing.assert_allclose(np.delete(traced, 3, 0), np.delete(found, 3, 0), rtol=1e-12)


def said_traced(denoise, gammas):
    return path(denoise, Ask(1), gammas, jnp.zeros((2, 2)), KEY)[1:]


def test_a_corrector_leaves_the_memory_alone():
    denoise = guided("apg(w=2.0, eta=1.0, beta=0.5)")
    correct = langevin.make(repeats=3)
    np.testing.assert_allclose(said(denoise, correct=correct), said(denoise), rtol=1e-12)


def test_outside_of_an_interval_nothing_is_remembered():
    """gammas 4, 3, 2, 1, 0, -1, -2: inside are 2, 1 and 0."""
    plain, inside = said(guided("none()")), said(guided("apg(w=2.0, eta=1.0, beta=0.5)"))
    found = said(guided("interval(apg(w=2.0, eta=1.0, beta=0.5), lo=-1.0, hi=2.0)"))
    wanted = np.concatenate([plain[:2], inside[:3], plain[5:]])
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_an_interval_remembers_for_each_example():
    denoise = guided("interval(apg(w=2.0, eta=1.0, beta=0.5), lo=-1.0, hi=2.0)")
    z = jnp.zeros((2, 2))
    pred, memory = denoise.step(denoise.init(z), z, jnp.array([1.0, 3.0]))
    np.testing.assert_allclose(pred.x, [[5.0, 5.0], [3.0, 3.0]], rtol=1e-12)
    np.testing.assert_allclose(memory, [[2.0, 2.0], [0.0, 0.0]], rtol=1e-12)


@pytest.mark.parametrize(
    "around",
    ["clip_denoised({}, lo=-99.0, hi=99.0)", "rescale({}, phi=0.0)", "rescale({}, phi=1e-14)",
     "interval({}, lo=-99.0, hi=99.0)", "classifier(scale=0.0, inner={})"],
)  # fmt: skip
def test_what_is_wrapped_around_it_keeps_the_memory(around):
    inner = "apg(w=2.0, beta=-0.5)"
    bare = guided(inner, MIXTURE.conditional)
    wrapped = guided(around.format(inner), MIXTURE.conditional)
    z = jax.random.normal(KEY, (2, 2))
    ends = [integrate(d, build("heun()"), DOWN, z, KEY) for d in (bare, wrapped)]
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-9)
    forgetful = integrate(lambda z, g: wrapped(z, g), build("heun()"), DOWN, z, KEY)
    assert np.abs(forgetful - ends[0]).max() > 1e-3


def test_the_correction_of_an_encoder_keeps_the_memory():
    bare = guided("apg(w=2.0, eta=1.0, beta=0.5)")
    moved = corrected(bare, 1.0, 1.0)
    assert isinstance(moved, StatefulDenoiser)
    plain = said(corrected(guided("none()"), 1.0, 1.0))  # by how much x grows at each gamma
    np.testing.assert_allclose(said(moved) / said(bare), plain / 3.0, rtol=1e-12)


@pytest.mark.parametrize("sampler", ["ddim()", "heun()", "dpmpp_2m()", "unipc()"])
def test_in_small_steps_momentum_is_a_larger_weight(sampler):
    """m tends to d / (1 - beta): the flow of Gaussians under cfg with w - 1 that much larger.

    Unconditional variance 1, conditional 1/4, w = 2: `(z / alpha)^2` ends at 1/16 (the exact flow).
    """
    wide, narrow = (Gaussian(np.zeros(2), np.eye(2) * v) for v in (1.0, 0.25))

    def model(z, gamma, cond):
        told = (cond["label"] == 0)[:, None]
        each = [data.denoise(z, gamma, 0.0) for data in (narrow, wide)]
        return jax.tree.map(lambda a, b: jnp.where(told, a, b), *each)

    denoise = guided("apg(w=1.5, eta=1.0, beta=0.5)", model)
    errors = []
    for steps in (200, 400, 800):
        gammas = np.linspace(14.0, -14.0, steps + 1)
        end = integrate(denoise, build(sampler), gammas, jnp.ones((2, 2)), KEY)
        errors.append(abs(float(end[0, 0]) - 0.25))
    assert errors[2] < 0.01
    assert errors[2] < 0.6 * errors[1] < 0.36 * errors[0] * 1.1, errors


@pytest.mark.parametrize("beta", [1.0, -1.0])
def test_momentum_that_grows_is_refused(beta):
    with pytest.raises(ConfigError, match="beta"):
        registry.build("guidance", f"apg(beta={beta})")


@dataclass(frozen=True)
class Constant:
    """A network that predicts 3 with the class and 1 without."""

    def apply(self, variables, z, gamma, cond, keys=None):
        return constant(z, gamma, cond).x


def model():
    return Model(
        network=Constant(), schedule=registry.build("schedules", "linear()", gamma_min=-5.0,
        gamma_max=5.0), decoder=registry.build("decoders", "gaussian()"), prediction="x",
        num_classes=len(MIXTURE.probs),
    )  # fmt: skip


@dataclass(frozen=True)
class Guess:
    """A final step that gives what the denoiser says at the end."""

    nfe: int = 1

    def __call__(self, denoise, z, gamma, decoder):
        return denoise(z, gamma).x


def test_the_final_step_of_a_model_asks_a_denoiser_that_remembers_the_run():
    guidance = registry.build("guidance", "apg(w=2.0, eta=1.0, beta=0.5)")
    method = Method(guidance, Ask(1), DOWN, Guess())
    made = model()
    params = {"network": {}, "schedule": {}}
    z = jnp.zeros((2, 2))
    end = draw(made, params, method, Context(made.null), z, COND, KEY)
    n = len(DOWN)  # calls of the run, and one more
    np.testing.assert_allclose(end, 3.0 + 2.0 * (1.0 - 0.5**n) / 0.5, rtol=1e-12)


@pytest.mark.parametrize("name", ["posterior()", "interpolate()", "interpolate_noise()", "widen()"])
def test_an_edit_that_changes_predictions_refuses_it(name):
    edit = registry.build("edits", name.replace("widen()", "widen(left=1)"))
    for beta in (0.0, 0.5):
        guidance = registry.build("guidance", f"apg(beta={beta})")
        method = Method(guidance, build("ddim()"), DOWN)
        if beta:
            with pytest.raises(ConfigError, match="beta=0"):
                edit.check(model(), method)
        else:
            edit.check(model(), method)
