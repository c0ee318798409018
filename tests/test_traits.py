"""Plug-ins of other people's are taken at their word, as ours are: by what they declare."""

from dataclasses import dataclass, replace

import encoded_gaussian as eg
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian import Gaussian

from diffusion_jax import registry
from diffusion_jax.denoiser import StatefulDenoiser
from diffusion_jax.errors import ConfigError
from diffusion_jax.likelihood.objectives.base import is_shape_invariant
from diffusion_jax.model import Model, require
from diffusion_jax.process.schedules.base import LATENT
from diffusion_jax.sampling.edits.base import Brush
from diffusion_jax.sampling.generate import draw
from diffusion_jax.sampling.guidance.base import Context
from diffusion_jax.sampling.inversion import need_deterministic
from diffusion_jax.sampling.method import Method, check_guidance, check_method, check_sampler
from diffusion_jax.training.time_sampling.base import is_uniform
from diffusion_jax.types import Pred

DOWN, UP = np.array([4.0, 0.0, -4.0]), np.array([4.0, 0.0, 2.0, -4.0])
NONE = registry.build("guidance", "none()")
PLAIN = Gaussian().model()


@dataclass(frozen=True)
class Tilted:
    """A schedule with a latent and one gamma per image; a latent of 0 gives a straight line."""

    latent: int = 2
    per_pixel_gamma: bool = False

    def init(self, key):
        return {}

    def posterior(self, params, x, keys):
        return jnp.zeros((len(x), self.latent)), jnp.zeros(len(x))

    def gamma(self, params, t):
        bend = 0.1 * jnp.tanh(params[LATENT][:, 0]) if LATENT in params else 0.0
        return 8.0 * (t + bend * t * (1.0 - t)) - 4.0


@dataclass(frozen=True)
class Undecided:
    """A sampler that does not declare its noise."""

    nfe_per_step: int = 1


def test_traits_of_our_plugins():
    traits = PLAIN.traits
    assert (traits.latent, traits.per_pixel_gamma, traits.null_class) == (0, False, False)
    assert traits.mean_coefficient == 0.0
    assert not traits.time_dependent_data
    assert not traits.discrete
    schedule = registry.build("schedules", "mulan(latent=3, features=4)", shape=(2, 2, 1))
    encoder = registry.build("encoders", "diffenc_nt()")
    decoder = registry.build("decoders", "categorical(levels=5)")
    traits = replace(
        PLAIN, schedule=schedule, encoder=encoder, decoder=decoder, num_classes=2
    ).traits
    assert (traits.latent, traits.per_pixel_gamma, traits.null_class) == (3, True, True)
    assert traits.mean_coefficient == 1.0
    assert traits.time_dependent_data
    assert traits.discrete


def test_a_refusal_names_who_refuses_what_and_the_way_out():
    require(PLAIN, "a toy", "use another", latent=0, per_pixel_gamma=False)
    with pytest.raises(ConfigError, match=r"a toy .* latent for each image .*; use another"):
        require(replace(PLAIN, schedule=Tilted()), "a toy", "use another", latent=0)
    with pytest.raises(AssertionError):
        require(PLAIN, "a toy", "use another", latnt=0)


def test_a_schedule_from_elsewhere_with_a_latent():
    model = replace(PLAIN, schedule=Tilted())
    assert model.traits.latent == 2
    assert not model.traits.per_pixel_gamma
    sampler = registry.build("samplers", "ddim()")
    check_method(model, Method(NONE, sampler, DOWN))
    with pytest.raises(ConfigError, match="move up"):
        check_method(model, Method(NONE, sampler, UP))
    with pytest.raises(ConfigError, match="latent"):
        registry.build("likelihood", "ode()").check(model)


def test_an_encoder_from_elsewhere():
    """One that says nothing is taken to move the data; the mean correction is asked of it."""
    moves = replace(PLAIN, encoder=eg.Scaled(eg.half, 0.5))
    assert moves.traits.time_dependent_data
    assert moves.traits.mean_coefficient == 0.5
    with pytest.raises(ConfigError, match="DiffEnc"):
        registry.build("likelihood", "ode()").check(moves)
    with pytest.raises(ConfigError, match="noise_share"):
        check_sampler(moves, Undecided())
    check_sampler(PLAIN, Undecided())

    @dataclass(frozen=True)
    class Still(eg.Scaled):
        time_dependent: bool = False

    assert not replace(PLAIN, encoder=Still(eg.identity)).traits.time_dependent_data


def test_inversion_takes_samplers_at_their_word():
    with pytest.raises(ConfigError, match="noise_share"):
        need_deterministic(Undecided())
    with pytest.raises(ConfigError, match="draws noise"):
        need_deterministic(registry.build("samplers", "ancestral()"))
    need_deterministic(registry.build("samplers", "ddim()"))


def test_objectives_and_proposals_declare_what_variance_training_needs():
    assert is_shape_invariant(registry.build("objectives", "continuous()"))
    assert not is_shape_invariant(registry.build("objectives", "discrete()"))
    assert not is_shape_invariant(lambda *args: None)  # says nothing

    class Mine(type(registry.build("time_sampling", "vloss()"))):
        shape_invariant = uniform = True

        def __call__(self, *args):
            raise NotImplementedError

    assert is_shape_invariant(Mine())
    assert is_uniform(Mine())
    assert is_uniform(registry.build("time_sampling", "uniform()"))
    assert not is_uniform(registry.build("time_sampling", "vloss()"))


@dataclass(frozen=True)
class Constant:
    """A network that predicts 0, whatever else there is in the condition."""

    def apply(self, variables, z, gamma, cond, keys=None):
        return 0.0 * z


def toy(schedule):
    decoder = registry.build("decoders", "gaussian()")
    return Model(Constant(), schedule, decoder, "x")


@dataclass(frozen=True)
class Last:
    """A final step that gives gamma at the end of the plan, one for each example."""

    nfe: int = 0

    def __call__(self, denoise, z, gamma, decoder):
        return jnp.broadcast_to(gamma, z.shape) + 0.0 * z


def test_one_gamma_per_image_runs_along_its_own_plan():
    """With x = 0 DDIM keeps z / sigma, so z ends as its start times sigma_end / sigma_start."""
    params = {"network": {}, "schedule": {}}
    z, key = jnp.ones((3, 2, 2, 1)), jax.random.key(0)
    sampler = registry.build("samplers", "ddim()")
    method = Method(
        NONE, sampler, np.linspace(4.0, -4.0, 9), registry.build("final_steps", "identity()")
    )
    bent = draw(toy(Tilted()), params, method, Context(), z, {}, key)
    line = draw(
        toy(registry.build("schedules", "linear()", gamma_min=-4.0, gamma_max=4.0)),
        params, method, Context(), z, {}, key,
    )  # fmt: skip
    np.testing.assert_allclose(bent, line, rtol=1e-4)  # the ends are the same for every latent
    ends = draw(toy(Tilted()), params, replace(method, final=Last()), Context(), z, {}, key)
    np.testing.assert_allclose(ends, -4.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("none()", "Unguided()"),
        ("cfg(w=2)", "CFG(w=2.0, negative='')"),
        ("interval(rescale(cfg(w=3.0)), lo=-5.0, hi=4.0)",
         "Interval(inner=Rescale(inner=CFG(w=3.0, negative=''), phi=0.7), lo=-5.0, hi=4.0)"),
        ("classifier(scale=2.0, inner=cfgpp())",
         "Classifier(scale=2.0, checkpoint='', inner=CFGpp(lam=0.6))"),
    ],
)  # fmt: skip
def test_guidance_prints_its_settings(spec, text):
    built = registry.build("guidance", spec)
    assert repr(built) == text
    assert built == registry.build("guidance", spec)


@pytest.mark.parametrize("name", registry.available("guidance"))
def test_every_guidance_prints(name):
    given = {"checkpoint": "'DIR'", "text": "'three'", "inner": "cfg(w=3.0)",
             "parts": "((0, 1.0),)"}  # fmt: skip
    needs = {
        "clip_denoised": ["inner"], "discriminator": ["checkpoint"], "interval": ["inner"],
        "rescale": ["inner"], "clip_guidance": ["checkpoint"], "threshold": ["inner"],
        "compose": ["parts"],
    }  # fmt: skip
    arguments = ", ".join(f"{k}={given[k]}" for k in needs.get(name, []))
    text = repr(registry.build("guidance", f"{name}({arguments})"))
    assert " at 0x" not in text
    assert ("CFG(w=3.0, negative='')" in text) == ("inner" in needs.get(name, []))


@dataclass(frozen=True)
class NeedsOther:
    """Guidance of somebody else's, which says what it needs."""

    stateful: bool = False

    def check(self, context):
        if context.other is None:
            raise ConfigError("mine: there is no second model")

    def __call__(self, denoiser, context):
        raise AssertionError("built before it was checked")


@pytest.mark.parametrize("around", ["{}", "interval", "clip_denoised", "rescale", "threshold"])
def test_needs_are_known_before_anything_is_built(around):
    guidance = NeedsOther()
    if around != "{}":
        guidance = replace(registry.build("guidance", f"{around}(none())"), inner=guidance)
    with pytest.raises(ConfigError, match="no second model"):
        check_guidance(PLAIN, guidance)


def test_a_plain_function_is_guidance():
    def same(denoiser, context):
        return denoiser

    check_guidance(PLAIN, same)
    inside = replace(registry.build("guidance", "clip_denoised(none())"), inner=same)
    check_guidance(PLAIN, inside)
    pred = inside(lambda z, gamma, cond: Pred(3.0 * z, z), Context())(jnp.ones(1), 0.0, {})
    assert pred.x[0] == 1.0


def test_state_that_was_not_declared_is_found_when_an_edit_changes_predictions():
    def momentum(denoiser, context):
        return StatefulDenoiser(jnp.zeros_like, lambda state, *args: (denoiser(*args), state))

    method = Method(momentum, registry.build("samplers", "ddim()"), DOWN)
    brush = Brush(PLAIN, {}, method, Context())
    assert isinstance(brush.guidance()(lambda *args: None, Context()), StatefulDenoiser)
    with pytest.raises(ConfigError, match="state"):
        brush.with_wrap(lambda d: d).guidance()(lambda *args: None, Context())
