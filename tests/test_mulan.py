"""The per-pixel schedule: VDM when new, and a bound made of Gaussian divergences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from weights import moved

from diffusion_jax import registry, rng
from diffusion_jax.errors import ConfigError
from diffusion_jax.model import Model
from diffusion_jax.process.schedules.base import LATENT, endpoints, gamma_and_slope
from diffusion_jax.process.schedules.mulan import _rise
from diffusion_jax.runtime.sharding import make_mesh
from diffusion_jax.sampling import generate
from diffusion_jax.sampling.method import Method, check_method
from diffusion_jax.types import Noise

SHAPE = (4, 4, 2)
CONTEXT = {"gamma_min": -9.0, "gamma_max": 5.0, "levels": 64, "channels": 2, "shape": SHAPE}
STEPS = 20


class Toy:
    """A smooth network that sees gamma and the latent."""

    def init(self, key, z, gamma, cond):
        size = cond["latent"].shape[-1] if cond else 0
        return {"params": {"w": jnp.ones(z.shape[1:]), "latent": jnp.zeros(size)}}

    def apply(self, variables, z, gamma, cond, keys=None):
        p = variables["params"]
        shift = 0.1 * gamma
        if "latent" in cond:
            shift += cond["latent"] @ p["latent"]
        return jnp.tanh(p["w"] * jnp.roll(z, 1, 2) + shift[:, None, None, None]) + 0.2 * z


def build(schedule, prediction="v"):
    return Model(
        network=Toy(),
        schedule=registry.build("schedules", schedule, **CONTEXT),
        decoder=registry.build("decoders", "categorical()", **CONTEXT),
        prediction=prediction,
    )


def mulan(trained=True):
    m = build("mulan(latent=3, features=8)")
    params = jax.jit(lambda key: m.init(key, SHAPE))(jax.random.key(0))
    return m, (moved(params, 0.4) if trained else params)


def batch():
    k_x, k_noise = jax.random.split(jax.random.key(1))
    x = 2.0 * (jax.random.randint(k_x, (3, *SHAPE), 0, 64) + 0.5) / 64 - 1.0
    x = x.astype(jnp.result_type(float))
    return x, rng.draw_noise(k_noise, x)


def test_polynomial_is_the_integral_of_a_square(float64):
    a, b, c = 0.7, -1.3, 0.4
    s = np.linspace(0.0, 1.0, 20001)
    f = np.concatenate([[0.0], np.cumsum(np.diff(s) * ((a * s**2 + b * s + c) ** 2)[:-1])])
    np.testing.assert_allclose(_rise(*map(jnp.asarray, (a, b, c, s))), f / f[-1], atol=1e-4)


@pytest.mark.parametrize("objective", ["continuous()", "discrete(timesteps=20)"])
def test_a_new_model_is_vdm(float64, objective):
    built = registry.build("objectives", objective)
    x, noise = batch()
    m, params = mulan(trained=False)
    found = jax.jit(lambda p: built(m, p, x, {}, noise))(params)
    plain = {"network": params["network"], "schedule": {}}
    line = jax.jit(lambda p: built(build("linear()"), p, x, {}, noise))(plain)
    for a, b in zip(found, line, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_every_pixel_has_its_own_rising_curve_with_exact_ends(float64):
    m, params = mulan()
    x, noise = batch()
    schedule, _, _ = jax.jit(lambda p: m.condition(p, x, {}, noise.latent))(params)
    curve = jax.jit(lambda t: gamma_and_slope(m.schedule, schedule, t))
    for t in (0.0, 0.3, 1.0):
        gamma, slope = curve(jnp.full(3, t))
        assert gamma.shape == x.shape
        assert jnp.all(slope > 0)
        if t in (0.0, 1.0):
            np.testing.assert_array_equal(gamma, -9.0 if t == 0.0 else 5.0)
        else:
            assert gamma.std(axis=0).min() > 1e-3  # depends on the image
            assert gamma.std(axis=(1, 2, 3)).min() > 1e-3  # and on the pixel
            ahead = curve(jnp.full(3, t + 1e-6))[0]
            np.testing.assert_allclose(slope, (ahead - gamma) / 1e-6, rtol=1e-4)
    assert endpoints(m.schedule, params["schedule"]) == (-9.0, 5.0)


def divergence(mean_q, var_q, mean_p, var_p):
    """KL between Gaussians, summed over all but the batch."""
    kl = 0.5 * (var_q / var_p + (mean_q - mean_p) ** 2 / var_p - 1.0 + np.log(var_p / var_q))
    return kl.sum(axis=(1, 2, 3))


def test_bound_equals_the_sum_of_divergences(float64):
    """q(z_s | z_t, x) by Bayes' rule, per pixel; the model's step has x_hat in place of x."""
    m, params = mulan()
    x, noise = batch()
    schedule, cond, kl = jax.jit(lambda p: m.condition(p, x, {}, noise.latent))(params)
    built = registry.build("objectives", f"discrete(timesteps={STEPS})")
    objective = jax.jit(lambda noise: built(m, params, x, {}, noise))
    curve = jax.jit(lambda t: m.schedule.gamma(schedule, t))
    denoise = jax.jit(lambda z, gamma: m.denoiser(params)(z, gamma, cond).x)
    total, ours = 0.0, 0.0
    for i in range(1, STEPS + 1):
        t = jnp.full(3, (i - 0.5) / STEPS)
        ours += objective(noise._replace(t=t)).diffusion / STEPS
        g_t, g_s = (np.asarray(curve(jnp.full(3, k / STEPS))) for k in (i, i - 1))
        a_t, a_s = np.sqrt(1 / (1 + np.exp(g_t))), np.sqrt(1 / (1 + np.exp(g_s)))
        v_t, v_s = 1 - a_t**2, 1 - a_s**2
        step, v_step = a_t / a_s, v_t - (a_t / a_s) ** 2 * v_s  # q(z_t | z_s)
        z = a_t * x + np.sqrt(v_t) * noise.eps
        x_hat = denoise(z, jnp.asarray(g_t))
        precision = 1 / v_s + step**2 / v_step
        mean = lambda d: (a_s * d / v_s + step * z / v_step) / precision
        total += divergence(
            mean(np.asarray(x)), 1 / precision, mean(np.asarray(x_hat)), 1 / precision
        )
    np.testing.assert_allclose(ours, total, rtol=1e-8)
    # The latent's own divergence, against its definition.
    mean, log_std = m.schedule._posterior().apply({"params": params["schedule"]["posterior"]}, x)
    shaped = (np.asarray(a)[:, :, None, None] for a in (mean, np.exp(2 * log_std)))
    np.testing.assert_allclose(kl, divergence(*shaped, 0.0, 1.0), rtol=1e-10)
    terms = objective(noise)
    np.testing.assert_allclose(terms.auxiliary, kl, rtol=1e-12)
    parts = terms.prior + terms.diffusion + terms.reconstruction
    np.testing.assert_allclose(terms.total, parts + kl, rtol=1e-12)


def test_many_steps_tend_to_continuous_time(float64):
    m, params = mulan()
    x, noise = batch()
    limit = registry.build("objectives", "continuous()")(m, params, x, {}, noise).diffusion
    many = registry.build("objectives", "discrete(timesteps=1000000)")(m, params, x, {}, noise)
    np.testing.assert_allclose(many.diffusion, limit, rtol=1e-4)


def test_latent_is_reparameterized_and_needs_keys(float64):
    m, params = mulan()
    x, noise = batch()
    objective = registry.build("objectives", "continuous()")
    grads = jax.jit(jax.grad(lambda p: objective(m, p, x, {}, noise).total.mean()))(params)
    norms = jax.tree.map(jnp.linalg.norm, grads["schedule"])
    assert all(n > 0 for n in jax.tree.leaves(norms))
    with pytest.raises(ValueError, match="keys"):
        objective(m, params, x, {}, noise._replace(latent=None))


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["ancestral()", "ddim()"])
def test_sampling_follows_the_pixels_curves(sampler):
    """A new model samples as VDM does; a trained one finishes at the end of every curve."""
    mesh, built = make_mesh(jax.devices()[:1]), registry.build("samplers", sampler)
    none, grid = registry.build("guidance", "none()"), registry.build("grids", "log_snr()")
    shape = (8, *SHAPE)

    def run(m, params):
        gammas = generate.plan(m, params, grid, 10)
        return generate.compile_sampler(m, Method(none, built, gammas), mesh)(
            params, jax.random.key(0), {}, shape
        )

    m, new = mulan(trained=False)
    line = run(build("linear()"), {"network": new["network"], "schedule": {}})
    assert np.mean(np.asarray(run(m, new)) == np.asarray(line)) > 0.98
    m, trained = mulan()
    assert run(m, trained).shape == shape
    path, cond = generate._paths(
        m, trained, generate.plan(m, trained, grid, 10), {}, jax.random.key(1), 8
    )
    assert path.shape == (11, *shape)
    np.testing.assert_array_equal(path[0], 5.0)
    np.testing.assert_array_equal(path[-1], -9.0)
    assert cond["latent"].shape == (8, 3)


def test_latent_enters_published_networks():
    """The layer for the latent exists only where the schedule has one, and starts at zero."""
    network = registry.build("backbones", "vdm_unet(width=32, depth=1, embed=32)", **CONTEXT)
    z, gamma, latent = jnp.ones((2, *SHAPE)), jnp.zeros(2), jnp.ones((2, 3))
    init = jax.jit(lambda cond: network.init(jax.random.key(0), z, gamma, cond)["params"])
    plain, with_latent = jax.eval_shape(init, {}), init({"latent": latent})
    assert "latent" not in plain["cond"]
    assert with_latent["cond"]["latent"]["kernel"].shape == (3, 128)
    assert not with_latent["cond"]["latent"]["kernel"].any()


def test_given_latent_key_is_not_a_parameter():
    _, params = mulan(trained=False)
    assert LATENT not in params["schedule"]
    assert Noise(jnp.zeros(1), jnp.zeros(1), jnp.zeros(1)).latent is None


def test_plans_that_go_up_are_refused():
    m, _ = mulan(trained=False)
    none, sampler = registry.build("guidance", "none()"), registry.build("samplers", "ddim()")
    check_method(m, Method(none, sampler, np.array([5.0, -3.0, -9.0])))
    with pytest.raises(ConfigError, match="move up"):
        check_method(m, Method(none, sampler, np.array([5.0, -3.0, -1.0, -9.0])))
