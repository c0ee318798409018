"""Other people's models on Gaussian data: exact in their own terms, so exact in ours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian import Gaussian, legendre

import diffusion_jax as dj
from diffusion_jax import adapt, registry
from diffusion_jax.errors import ConfigError
from diffusion_jax.process.parameterization import network_input, to_pred
from diffusion_jax.sampling import integrate
from diffusion_jax.types import Pred, alpha, diffuse, sigma

pytestmark = pytest.mark.usefixtures("float64")
DATA = Gaussian()
ENDS = (-6.0, 4.0)
MEAN, VARIANCE = (np.asarray(a) for a in (DATA.mean, DATA.variance))


def noise(x_t, signal, std):
    """E[eps | x_t] where `x_t = signal x + std eps`."""
    a, s = signal[:, None], std[:, None]
    return s * (x_t - a * MEAN) / (a**2 * VARIANCE + s**2)


def denoiser(x, level):
    """EDM's, in its terms."""
    s2 = level[:, None] ** 2
    return (VARIANCE * x + s2 * MEAN) / (VARIANCE + s2)


def flow(x_t, t, cosine=False):
    """The derivative of the path by its time, given where it is."""
    if cosine:
        angle = 0.5 * jnp.pi * t
        a, s = jnp.cos(angle), jnp.sin(angle)
        da, ds = -0.5 * jnp.pi * s, 0.5 * jnp.pi * a
    else:
        a, s, da, ds = 1 - t, t, -jnp.ones_like(t), jnp.ones_like(t)
    eps = noise(x_t, a, s)
    x = (x_t - s[:, None] * eps) / a[:, None]
    return da[:, None] * x + ds[:, None] * eps


def sde_score(kind):
    def scales(t):
        area = 0.1 * t + 0.5 * (20.0 - 0.1) * t**2
        return {
            "ve": (jnp.ones_like(t), 0.01 * 5000.0**t),
            "vp": (jnp.exp(-0.5 * area), jnp.sqrt(-jnp.expm1(-area))),
            "subvp": (jnp.exp(-0.5 * area), -jnp.expm1(-area)),
        }[kind]

    def f(x_t, t):
        a, s = scales(t)
        return -noise(x_t, a, s) / s[:, None]

    return f


# A linear beta schedule of many steps, so that nothing is lost between two of them.
TIMES = np.linspace(1e-4, 1.0, 200_001)
CUMPROD = np.exp(-(0.1 * TIMES + 9.95 * TIMES**2))


def at_step(z, step):
    a2 = jnp.interp(step, jnp.arange(len(CUMPROD)), jnp.asarray(CUMPROD))
    return noise(z, jnp.sqrt(a2), jnp.sqrt(1 - a2))


THEIRS = {
    "edm": lambda: adapt.edm(denoiser),
    "rectified": lambda: adapt.velocity(flow),
    "rectified, noise first": lambda: adapt.velocity(
        lambda x, t: -flow(x, 1 - t), noise_first=True
    ),
    "cosine": lambda: adapt.velocity(lambda x, t: flow(x, t, True), path="cosine"),
    "discrete steps": lambda: adapt.eps(at_step, CUMPROD),
    "ve": lambda: adapt.score(sde_score("ve"), sde="ve"),
    "vp": lambda: adapt.score(sde_score("vp"), sde="vp"),
    "subvp": lambda: adapt.score(sde_score("subvp"), sde="subvp"),
}
every = pytest.mark.parametrize("name", THEIRS)


def bound(model):
    params = model.init(jax.random.key(0), (2,))
    x, noise, w = DATA.quadrature(*legendre(100))
    terms = registry.build("objectives", "continuous()")(model, params, x, {}, noise)
    return float(np.sum(w * terms.total))


@every
def test_the_bound_is_ours(name):
    model = THEIRS[name]().model(decoder="gaussian()", gamma_min=ENDS[0], gamma_max=ENDS[1])
    assert bound(model) == pytest.approx(DATA.best_bound(*ENDS), abs=1e-6)


@every
def test_samples_are_ours(name):
    z = jax.random.normal(jax.random.key(1), (5, 2), jnp.float64)
    sampler = registry.build("samplers", "dpmpp_2m()")
    gammas = np.linspace(ENDS[1], ENDS[0], 9)
    ours = DATA.model().denoiser({"network": {}})
    found, expected = (
        integrate(d, sampler, gammas, z, jax.random.key(2))
        for d in (THEIRS[name](), lambda z, g: ours(z, g, {}))
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_function_of_another_framework_works_in_the_sampler():
    def foreign(x, level):
        """On the host, as a function of torch would be."""
        s2 = np.asarray(level)[:, None] ** 2
        return np.asarray((VARIANCE * np.asarray(x) + s2 * MEAN) / (VARIANCE + s2))

    def f(x, level):
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return jax.pure_callback(foreign, shape, x, level, vmap_method="broadcast_all")

    z = jax.random.normal(jax.random.key(1), (5, 2), jnp.float64)
    sampler = registry.build("samplers", "ddim()")
    found, expected = (
        integrate(dj.adapt.edm(g), sampler, [4.0, 1.0, -2.0], z, jax.random.key(2))
        for g in (f, denoiser)
    )
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize(("prediction", "scale"), [("velocity", 1.0), ("edm", None)])
def test_what_our_networks_may_predict_is_what_they_predict(prediction, scale):
    """By their own definitions: the velocity of the straight path; EDM's c_skip, c_out and c_in."""
    x, eps = jax.random.normal(jax.random.key(0), (2, 4, 2), jnp.float64)
    gamma = jnp.asarray([-9.0, -2.0, 0.5, 4.0])
    z = diffuse(x, gamma, eps)
    if prediction == "velocity":
        pred = to_pred(prediction, eps - x, z, gamma)
        assert network_input(prediction, z, gamma) is z
    else:
        level, d = jnp.exp(0.5 * gamma)[:, None], 0.5
        noisy = x + level * eps
        f = (x - d**2 / (level**2 + d**2) * noisy) * jnp.sqrt(level**2 + d**2) / (level * d)
        pred = to_pred(prediction, f, z, gamma)
        seen = noisy / jnp.sqrt(level**2 + d**2)
        np.testing.assert_allclose(network_input(prediction, z, gamma), seen, rtol=1e-12)
    np.testing.assert_allclose(pred.x, x, rtol=1e-9)
    np.testing.assert_allclose(pred.eps, eps, rtol=1e-9)


def test_a_network_of_edm_sees_what_edm_gives_it():
    """With the exact raw output, the model is the exact one."""

    class Raw:
        def init(self, key, z, gamma, cond):
            return {"params": {}}

        def apply(self, variables, seen, gamma, cond, keys=None):
            level, d = jnp.exp(0.5 * gamma), 0.5
            norm = jnp.sqrt(level**2 + d**2)[:, None]
            noisy = seen * norm
            skip = d**2 / norm**2
            return (denoiser(noisy, level) - skip * noisy) * norm / (level[:, None] * d)

    model = DATA.model()
    model = dj.Model(Raw(), model.schedule, model.decoder, "edm")
    assert bound(model) == pytest.approx(DATA.best_bound(*ENDS), abs=1e-9)


def test_the_range_is_kept():
    adapted = adapt.edm(denoiser, sigma_min=0.05, sigma_max=10.0)
    assert adapted.gamma_min == pytest.approx(2 * np.log(0.05))
    z = jnp.zeros((1, 2))
    assert isinstance(adapted(z, 0.0), Pred)
    with pytest.raises(ConfigError, match=r"gamma from -5\.99 to 4\.61, not -8\.00 to -8"):
        adapted(z, -8.0)
    with pytest.raises(ConfigError, match="choose gammas, or gamma_min and gamma_max, within"):
        adapted.model(gamma_min=-13.3)
    assert bool(jnp.isnan(jax.jit(adapted)(z, -8.0).x).all())
    # What suits 256 levels is beyond it: the default is what it knows.
    assert adapted.model().schedule.gamma_min == pytest.approx(adapted.gamma_min)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: adapt.velocity(flow, path="straight"), "allowed: rectified, cosine"),
        (lambda: adapt.score(flow, sde="vpsde"), "allowed: ve, vp, subvp"),
        (lambda: adapt.eps(at_step, [0.1, 0.5]), "must decrease from below 1"),
    ],
)
def test_what_does_not_exist(make, said):
    with pytest.raises(ConfigError, match=said):
        make()


def test_whole_steps_only():
    seen = []

    def f(z, step):
        seen.append(step)
        return z

    adapted = adapt.eps(f, [0.99, 0.7, 0.3, 0.01], integer=True)
    gamma = float(np.log((1 - 0.7) / 0.7)) + 0.1
    adapted(jnp.zeros((2, 1)), gamma)
    assert seen[0].dtype == jnp.int32 and seen[0].tolist() == [1, 1]


def test_the_range_of_a_flow_follows_from_its_times():
    adapted = adapt.velocity(flow, t_min=0.02, t_max=0.9)
    ends = [2 * np.log(t / (1 - t)) for t in (0.02, 0.9)]
    np.testing.assert_allclose([adapted.gamma_min, adapted.gamma_max], ends, rtol=1e-12)


@pytest.mark.parametrize(
    ("adapter", "kwargs"),
    [(adapt.velocity, {}), (adapt.eps, {"alphas_cumprod": [0.99, 0.5, 0.01]}), (adapt.score, {})],
)
def test_every_adapter_passes_the_condition_on(adapter, kwargs):
    labels = []

    def f(x, time, cond):
        labels.append(cond["label"])
        return x

    cond = {"label": jnp.asarray([2, 3])}
    adapter(f, conditional=True, **kwargs)(jnp.ones((2, 1)), 0.0, cond)
    assert [label.tolist() for label in labels] == [[2, 3]]


def test_a_condition_goes_through():
    adapted = adapt.edm(lambda x, level, cond: x * cond["label"][:, None], conditional=True)
    z = jnp.ones((2, 1))
    x = adapted(z, 0.0, {"label": jnp.asarray([2, 3])}).x
    np.testing.assert_allclose(x[:, 0] * alpha(0.0), [2.0, 3.0], rtol=1e-12)
    assert float(sigma(0.0)) > 0
