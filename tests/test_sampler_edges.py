"""Plans that end without noise or lead nowhere; denoisers of other types, and of sigma."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closed_form import MIXTURE, Gaussian, build

from diffusion_jax import registry
from diffusion_jax.denoiser import StatefulDenoiser
from diffusion_jax.errors import ConfigError
from diffusion_jax.model import Model
from diffusion_jax.sampling import integrate, integrate_sigmas, path
from diffusion_jax.sampling.inversion import invert
from diffusion_jax.types import Pred

SAMPLERS = registry.available("samplers")
PLAIN = [n for n in SAMPLERS if not getattr(build(n), "mean_coefficient", 0.0)]
DOWN = np.array([5.0, 1.0, -2.0, -5.0])
Z = jax.random.normal(jax.random.key(3), (4, 2))
KEY = jax.random.key(1)


def run(sampler, gammas, denoise=MIXTURE.denoise, z=Z, **hooks):
    return integrate(denoise, build(sampler), gammas, z, KEY, **hooks)


@pytest.mark.parametrize("name", PLAIN)
def test_the_last_step_to_sigma_0_is_the_prediction(name):
    clean = path(MIXTURE.denoise, build(name), np.append(DOWN, -np.inf), Z, KEY)
    assert clean.shape == (5, *Z.shape)
    np.testing.assert_allclose(clean[4], MIXTURE.denoise(clean[3], DOWN[-1]).x, rtol=1e-5)


def test_one_step_to_sigma_0_with_hooks():
    """Hooks run on the last step as on any other."""
    seen = []

    def constrain(z, gamma, key):
        seen.append("constrain")
        return z + jnp.where(jnp.isneginf(gamma), 1.0, 0.0)

    def correct(denoise, z, gamma, key):
        seen.append("correct")
        return z

    gammas = np.array([1.0, -np.inf])
    end = run("heun()", gammas, constrain=constrain, correct=correct)
    np.testing.assert_allclose(end, MIXTURE.denoise(Z, 1.0).x + 1.0, rtol=1e-5)
    assert seen == ["correct", "constrain"]


def test_a_plan_per_pixel_may_end_at_sigma_0():
    gammas = np.broadcast_to(np.append(DOWN, -np.inf)[:, None, None], (5, *Z.shape))

    def denoise(z, gamma):
        return MIXTURE.denoise(z, gamma if gamma.ndim == 0 else gamma[0, 0])

    wide, narrow = run("ddim()", gammas, denoise), run("ddim()", np.append(DOWN, -np.inf))
    np.testing.assert_allclose(wide, narrow, rtol=1e-4)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_last_step_much_longer_than_the_others_does_not_extrapolate(eta):
    """Almost sigma 0: it may add no more than the discretisation of the steps before."""
    data = Gaussian(np.array([1.0]), np.array([[0.25]]))
    z = jax.random.normal(jax.random.key(0), (40_000, 1))
    plan = np.linspace(9.0, -9.0, 31)
    for gammas in (plan, np.append(plan, -60.0), np.append(plan, -np.inf)):
        end = run(f"dpmpp_2m(eta={eta})", gammas, data.denoise, z)
        assert float(end.std()) == pytest.approx(0.5, abs=0.015)


BAD_PLANS = {
    "ascending": (np.array([-3.0, 0.0, 3.0]), "reverse them"),
    "nan": (np.array([3.0, np.nan, -3.0]), "must be finite"),
    "infinite start": (np.array([np.inf, 0.0, -3.0]), "must be finite"),
    "sigma 0 on the way": (np.array([3.0, -np.inf, 0.0, -3.0]), "only the last may be -inf"),
    "one value": (np.array([3.0]), "at least two"),
    "no value": (np.array([]), "at least two"),
    "a number": (np.array(3.0), "at least two"),
    "other shape": (np.zeros((3, 7)), "at least two"),
    "rises at a pixel": (np.stack([np.ones((4, 2)), np.full((4, 2), 2.0)]), "rise"),
}


@pytest.mark.parametrize(("gammas", "says"), BAD_PLANS.values(), ids=BAD_PLANS)
@pytest.mark.parametrize("solve", [integrate, path])
def test_a_plan_that_leads_nowhere_is_refused(solve, gammas, says):
    with pytest.raises(ConfigError, match=says):
        solve(MIXTURE.denoise, build("ddim()"), gammas, Z, KEY)


def test_a_sampler_that_has_no_step_to_sigma_0_says_so():
    with pytest.raises(ConfigError, match="no step to sigma 0"):
        run("ancestral_diffenc()", np.append(DOWN, -np.inf))


def test_an_inversion_has_finite_gammas():
    with pytest.raises(ConfigError, match="finite"):
        invert(MIXTURE.denoise, build("heun()"), np.array([-np.inf, 0.0]), Z)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("stateful", [False, True])
def test_a_denoiser_may_compute_in_bfloat16(name, stateful):
    """Latents stay in float32, and the end is that of the same predictions in float32."""

    def half(z, gamma):
        pred = MIXTURE.denoise(z, gamma)
        return Pred(*(a.astype(jnp.bfloat16) for a in pred))

    def rounded(z, gamma):
        return Pred(*(a.astype(jnp.float32) for a in half(z, gamma)))

    state = StatefulDenoiser(jnp.zeros_like, lambda s, z, gamma: (half(z, gamma), s + 1.0))
    climb = np.array([5.0, 1.0, 3.0, -1.0])
    end = run(name, climb, state if stateful else half)
    assert end.dtype == jnp.float32
    np.testing.assert_allclose(end, run(name, climb, rounded), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda z, gamma: z, "returned .*; it must return Pred"),
        (lambda z, gamma: Pred(z.mean(), z), r"x of shape \(\) for z of \(4, 2\)"),
        (lambda z, gamma: Pred(z, z[:, :1]), r"eps of shape \(4, 1\) for z of \(4, 2\)"),
    ],
)
def test_a_denoiser_whose_output_does_not_fit_is_refused(wrong, says):
    with pytest.raises(ConfigError, match=says):
        run("ddim()", DOWN, wrong)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.int32])
def test_latents_of_little_precision_are_refused(dtype):
    with pytest.raises(ConfigError, match="float32 or float64"):
        run("ddim()", DOWN, z=Z.astype(dtype))


def karras_heun(model, x, sigmas):
    """Algorithm 1 of Karras et al. (2022) without churn, as it is printed there."""
    for t, s in itertools.pairwise(sigmas):
        d = (x - model(x, jnp.full(len(x), t))) / t
        after = x + (s - t) * d
        if s > 0.0:
            d = 0.5 * (d + (after - model(after, jnp.full(len(x), s))) / s)
            after = x + (s - t) * d
        x = after
    return x


@pytest.mark.usefixtures("float64")
def test_sigmas_as_in_karras_et_al():
    def model(x, sigma):
        """The best denoiser of N(0.7, 0.09)."""
        assert sigma.shape == (3,)
        return 0.7 + 0.09 / (0.09 + sigma[:, None] ** 2) * (x - 0.7)

    sigmas = np.append(np.geomspace(80.0, 0.02, 12), 0.0)
    x = 80.0 * jax.random.normal(jax.random.key(0), (3, 2))
    found = integrate_sigmas(model, build("heun()"), sigmas, x, KEY)
    np.testing.assert_allclose(found, karras_heun(model, x, sigmas), rtol=1e-9)
    found = integrate_sigmas(model, build("heun()"), sigmas[:6], x, KEY)
    np.testing.assert_allclose(found, karras_heun(model, x, sigmas[:6]), rtol=1e-9)
    with pytest.raises(ConfigError, match="reverse them"):
        integrate_sigmas(model, build("heun()"), sigmas[:3][::-1], x, KEY)
    with pytest.raises(ConfigError, match="negative"):
        integrate_sigmas(model, build("heun()"), -sigmas, x, KEY)


def test_what_is_no_sampler_is_refused():
    class Half:
        nfe_per_step = 1

    with pytest.raises(ConfigError, match="Half has no rows, init, step"):
        integrate(MIXTURE.denoise, Half(), DOWN, Z, KEY)


def test_a_network_whose_output_broadcasts_is_refused():
    class Mean:
        def apply(self, variables, z, gamma, cond, keys=None):
            return z.mean(axis=1, keepdims=True)

    model = Model(Mean(), registry.build("schedules", "linear()"), None, "eps")
    with pytest.raises(ConfigError, match=r"Mean returned shape \(4, 1\) for z of shape \(4, 2\)"):
        model.denoiser({"network": {}})(Z, 0.0, {})


def test_a_seed_is_no_key():
    with pytest.raises(ConfigError, match=r"key=3 is not a PRNG key: use jax.random.key\(3\)"):
        integrate(lambda z, gamma: Pred(z, z), build("ddim()"), np.linspace(4.0, -4.0, 3),
                  jnp.zeros((2, 1)), 3)  # fmt: skip
