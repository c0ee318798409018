"""Encoders: what reduces to what, exact derivatives, valid bounds, and sampling's correction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from encoded_gaussian import ENDS, ENTROPY, V, alpha2, bound, half, identity, model
from weights import drawn, moved

from diffusion_jax import config as config_lib, registry
from diffusion_jax.cli.modes import sample as sample_mode
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment
from diffusion_jax.model import Model
from diffusion_jax.networks.layers.encoder_unet import layout
from diffusion_jax.process.parameterization import to_pred
from diffusion_jax.sampling import integrate
from diffusion_jax.sampling.encoder_corrections import corrected, for_sampler
from diffusion_jax.types import Noise, diffuse

CONTEXT = {"gamma_min": -13.3, "gamma_max": 5.0, "levels": 256, "channels": 1}
SHAPE = (8, 8, 1)


class Toy:
    """A smooth network, so that small steps are small; compiles at once."""

    def init(self, key, z, gamma, cond):
        return {"params": {"w": jnp.ones(z.shape[1:])}}

    def apply(self, variables, z, gamma, cond, keys=None):
        g = gamma[:, None, None, None]
        return jnp.tanh(variables["params"]["w"] * jnp.roll(z, 1, 2) + 0.1 * g) + 0.2 * z


def small(encoder, schedule="linear()"):
    return Model(
        network=Toy(),
        schedule=registry.build("schedules", schedule, **CONTEXT),
        decoder=registry.build("decoders", "categorical()", **CONTEXT),
        prediction="v",
        encoder=registry.build("encoders", encoder, **CONTEXT),
    )


def batch(dropout=False):
    keys = jax.random.split(jax.random.key(1), 4)
    x = jax.random.randint(keys[0], (3, *SHAPE), 0, 256)
    eps, eps_0 = (jax.random.normal(k, x.shape) for k in keys[1:3])
    masks = jax.random.split(keys[3], 3) if dropout else None
    return (2.0 * x.astype(eps.dtype) + 1.0) / 256 - 1.0, Noise(
        jnp.asarray([0.1, 0.5, 0.9]), eps, eps_0, masks
    )


def terms(m, params, objective="continuous()"):
    x, noise = batch()
    built = registry.build("objectives", objective)
    return jax.jit(lambda p: built(m, p, x, {}, noise))(params)


@pytest.mark.parametrize("objective", ["continuous()", "discrete(timesteps=10)"])
def test_identity_is_vdm(float64, objective):
    """Against VDM's formulas written out, and with nothing added to the weights."""
    m = small("identity()")
    params = m.init(jax.random.key(0), SHAPE)
    assert set(params) == {"network", "schedule"}
    params = moved(params, 0.1)
    x, noise = batch()
    t = jnp.ceil(10 * noise.t) / 10 if "10" in objective else noise.t
    gamma = -13.3 + 18.3 * t
    pred = m.denoiser(params)(diffuse(x, gamma, noise.eps), gamma, {})
    weight = 5.0 * jnp.expm1(1.83) if "10" in objective else 0.5 * 18.3
    expected = weight * jnp.square(noise.eps - pred.eps).sum(axis=(1, 2, 3))
    found = terms(m, params, objective)
    np.testing.assert_allclose(found.diffusion, expected, rtol=1e-11)
    a2, s2 = jax.nn.sigmoid(-5.0), jax.nn.sigmoid(5.0)
    prior = 0.5 * (a2 * x**2 + s2 - jnp.log(s2) - 1.0).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(found.prior, prior, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["continuous()", "discrete(timesteps=10)"])
def test_a_fresh_encoder_is_the_one_without_parameters(float64, objective):
    m = small("diffenc(width=32, blocks=1)")
    params = m.init(jax.random.key(0), SHAPE)
    params = {
        **moved({k: params[k] for k in ("network", "schedule")}, 0.1),
        "encoder": params["encoder"],
    }
    plain = terms(small("diffenc_nt()"), params, objective)
    for a, b in zip(terms(m, params, objective), plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("encoder", ["identity()", "diffenc_nt()", "diffenc(width=32, blocks=1)"])
def test_derivative_is_exact(float64, encoder):
    m = small(encoder)
    params = moved(jax.jit(lambda key: m.init(key, SHAPE))(jax.random.key(0)), 0.1)
    x, noise = batch(dropout=True)  # one mask for all, or the difference quotient explodes
    gamma, h = jnp.asarray([-9.0, -1.0, 3.0]), 1e-6
    value = jax.jit(lambda g: m.encode(params, x, g, {}, noise.dropout))
    shift = jax.jit(lambda g: m.shift(params, x, g, {}, noise.dropout))
    x_t, dx = value(gamma)
    difference = (value(gamma + h)[0] - value(gamma - h)[0]) / (2 * h)
    np.testing.assert_allclose(dx, difference, rtol=1e-5, atol=1e-5 * (np.abs(dx).max() + 1e-9))
    np.testing.assert_allclose(x + shift(gamma), x_t, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["identity()", "diffenc_nt()", "diffenc(width=32, blocks=1)"])
def test_many_steps_tend_to_continuous_time(float64, encoder):
    m = small(encoder)
    params = moved(jax.jit(lambda key: m.init(key, SHAPE))(jax.random.key(0)), 0.1)
    limit = terms(m, params).diffusion
    errors = [
        np.abs(terms(m, params, f"discrete(timesteps={n})").diffusion / limit - 1).max()
        for n in (10_000, 1_000_000)
    ]
    assert errors[1] < 1e-3
    assert errors[1] < errors[0] / 30


@pytest.mark.parametrize("f", [identity, alpha2, half])
def test_the_best_network_gives_the_same_bound_whatever_c(float64, f):
    """c is a parameterization: each c has its own best network, and the same bound.

    It is tight for VDM. With an encoder even the best network leaves a gap: the forward steps
    depend on x, so that a path tells more about x than its last point does.
    """
    values = [bound(model(f, c), {"schedule": {}, "network": {}}) for c in (0.0, 1.0, 2.0)]
    np.testing.assert_allclose(values, values[0], rtol=1e-9)
    assert 0.0 < values[0] - ENTROPY < (1e-3 if f is identity else 0.1)


@pytest.mark.parametrize("f", [alpha2, half])
@pytest.mark.parametrize("objective", ["continuous()", "discrete(timesteps=50)"])
@pytest.mark.parametrize("wrong", [0.0, 0.5, 3.0])
def test_a_wrong_correction_leaves_a_bound(float64, f, objective, wrong):
    loose = bound(model(f, wrong, network_c=1.0), {"schedule": {}, "network": {}}, objective)
    assert loose > ENTROPY + 0.01


def final_variance(m, sampler, steps):
    """Variance of z_0 by the sampler, exactly: every step is linear."""
    params = {"network": {}, "schedule": {}}
    plain = m.denoiser(params)
    denoise = for_sampler(lambda z, g: plain(z, g, {}), m.encoder.mean_coefficient, sampler)
    gammas = np.linspace(ENDS["gamma_max"], ENDS["gamma_min"], steps + 1)
    rows = jax.tree.map(jnp.asarray, sampler.rows(gammas))
    z = jnp.asarray([0.0, 1.0]).reshape(2, 1, 1, 1)

    def move(variance, row):
        key = jax.random.key(0)
        out, _ = sampler.step(denoise, row, z, (), key)
        noise = row["noise"] if sampler.noise_share else 0.0
        drawn = jax.random.normal(key, z.shape, z.dtype) * noise
        gain = (out - drawn)[1, 0, 0, 0]  # the map is linear, so this is its slope
        return gain**2 * variance + noise**2, None

    f1 = m.encoder.f(jnp.asarray(ENDS["gamma_max"]))
    start = jax.nn.sigmoid(-10.0) * f1**2 * V + jax.nn.sigmoid(10.0)
    return float(jax.lax.scan(move, start, rows)[0])


@pytest.mark.parametrize(
    "sampler", ["ancestral()", "ancestral_diffenc()", "ddim()", "ddim(eta=0.5)"]
)
def test_samplers_reach_the_data_distribution(float64, sampler):
    """With the correction every sampler converges, at first order, to the true marginal."""
    m, built = model(alpha2, 1.0), registry.build("samplers", sampler)
    f0 = jax.nn.sigmoid(10.0)
    true = float(jax.nn.sigmoid(10.0) * f0**2 * V + jax.nn.sigmoid(-10.0))
    errors = [abs(final_variance(m, built, n) - true) for n in (1000, 2000)]
    assert errors[1] < 0.01 * true
    assert errors[1] < 0.6 * errors[0]


def test_ancestral_needs_no_assumption_about_the_encoder(float64):
    """For y = x/2 the model's own r is wrong, and ancestral sampling right all the same."""
    m = model(half, 1.0)
    f0 = 1.0 - 0.5 * jax.nn.sigmoid(-10.0)
    true = float(jax.nn.sigmoid(10.0) * f0**2 * V + jax.nn.sigmoid(-10.0))
    for sampler in ("ancestral()", "ancestral_diffenc()"):
        found = final_variance(m, registry.build("samplers", sampler), 4000)
        np.testing.assert_allclose(found, true, rtol=5e-3)


def test_published_and_corrected_ancestral_agree_in_small_steps(float64):
    """Path by path, with the same noise: the two means differ at second order per step."""
    m = small("diffenc_nt()")
    params = moved(m.init(jax.random.key(0), SHAPE), 0.1)
    plain = m.denoiser(params)
    z = jax.random.normal(jax.random.key(3), (2, *SHAPE))

    def run(name, steps):
        sampler = registry.build("samplers", name)
        gammas = np.linspace(5.0, 4.0, steps + 1)
        denoise = for_sampler(lambda z, g: plain(z, g, {}), 1.0, sampler)
        return integrate(denoise, sampler, gammas, z, jax.random.key(5))

    gaps = [jnp.abs(run("ancestral()", n) - run("ancestral_diffenc()", n)).max() for n in (4, 64)]
    assert gaps[1] < gaps[0] / 8
    assert gaps[1] < 2e-2


def test_correction_keeps_z(float64):
    z, gamma = jax.random.normal(jax.random.key(0), (2, 4, 4, 1)), jnp.asarray([-3.0, 2.0])
    pred = corrected(lambda z, g: to_pred("x", 0.3 * z, z, g), 1.0, 0.3)(z, gamma)
    np.testing.assert_allclose(diffuse(pred.x, gamma, pred.eps), z, rtol=1e-12)


def test_unfit_samplers_are_refused():
    def denoise(z, gamma):
        raise AssertionError

    own, plain = (registry.build("samplers", s) for s in ("ancestral_diffenc()", "ancestral()"))
    assert for_sampler(denoise, 0.0, plain) is denoise
    assert for_sampler(denoise, 1.0, own) is denoise
    with pytest.raises(ConfigError, match="this model's encoder needs 0"):
        for_sampler(denoise, 0.0, own)
    with pytest.raises(ConfigError, match="noise_share"):
        for_sampler(denoise, 1.0, object())


def test_layouts_and_refusals():
    assert layout("unet", 2, 32) == (2, 1)
    assert layout("unet_mult_res", 4, 32) == (2, 2)
    assert layout("unet_mult_res", 8, 32) == (2, 4)
    assert layout("unet_mult_res", 4, 28) == (2, 2)
    for bad in ("diffenc(kind='x')", "diffenc(blocks=0)"):
        with pytest.raises(ConfigError):
            registry.build("encoders", bad)
    with pytest.raises(ConfigError, match="cannot be halved"):
        registry.build("encoders", "diffenc()").init(jax.random.key(0), (10, 10, 3))


def test_the_trained_encoder_does_not_hear_what_is_for_the_score_network():
    """An embedding, a guidance weight, the end of a step: it has no weights for them."""
    encoder = registry.build(
        "encoders", "diffenc(width=4, blocks=1, dropout=0.0)", num_classes=3, **CONTEXT
    )
    init = jax.eval_shape(lambda: encoder.init(jax.random.key(0), (2, 2, 1)))
    params, x, gamma = drawn(init, 0.3), jnp.ones((2, 2, 2, 1)), jnp.zeros(2)
    shift = jax.jit(lambda cond: encoder.shift(params, x, gamma, cond, None))
    plain, more = {"label": jnp.array([0, 2])}, {k: jnp.ones(2) for k in ("w", "to")}
    more |= {"embedding": jnp.ones((2, 5)), "text_pooled": jnp.ones((2, 4))}
    found = shift({**plain, **more})
    np.testing.assert_array_equal(found, shift(plain))
    assert float(jnp.abs(found[0] - found[1]).max()) > 1e-3  # the class it hears


def test_encoders_that_cannot_be_are_refused_before_training(tmp_path):
    c = config_lib.base()
    c.data, c.network = "digits()", "vdm_unet(width=32, depth=1)"
    c.encoder, c.schedule = "diffenc(width=32, blocks=1)", "mulan(latent=2, features=4)"
    with pytest.raises(ConfigError, match="one gamma per pixel"):
        _ = Experiment(c, tmp_path).model
    c.encoder, c.schedule, c.sampler = "identity()", "linear()", "ancestral_diffenc()"
    with pytest.raises(ConfigError, match="corrects the mean by 1"):
        sample_mode.check(Experiment(c, tmp_path))
    c.encoder = "diffenc_nt()"
    sample_mode.check(Experiment(c, tmp_path))
