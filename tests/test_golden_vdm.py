"""Term by term against the published VDM code (numbers it produced, weights and noise supplied)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_cases import nested

from diffusion_jax import registry
from diffusion_jax.model import Model
from diffusion_jax.networks.published import vdm
from diffusion_jax.process.schedules.base import endpoints, gamma_and_slope
from diffusion_jax.sampling.samplers.base import Sampler
from diffusion_jax.types import Noise, sigma

CASES = [("T0", "continuous()"), ("T10", "discrete(timesteps=10)")]


def load(golden, name):
    case = dict(np.load(golden / f"vdm_official_scalar_{name}.npz"))
    params = vdm.weights(nested(case, "param/"))
    settings = vdm.settings(params)
    context = {"gamma_min": -13.3, "gamma_max": 5.0, "levels": 256, "channels": 3}
    model = Model(
        network=registry.build("backbones", settings["network"], **context),
        schedule=registry.build("schedules", settings["schedule"], **context),
        decoder=registry.build("decoders", settings["decoder"], **context),
        prediction=settings["prediction"],
    )
    return case, model, params


def terms_and_step(case, model, params, objective, dtype):
    cast = lambda a: jnp.asarray(a, dtype)
    params = jax.tree.map(cast, params)
    cond = {"scalar": cast(case["in/conditioning"])}
    noise = Noise(cast(case["out/t"]), cast(case["in/eps"]), cast(case["in/eps_0"]))
    x = model.decoder.encode(jnp.asarray(case["in/images"]))
    terms = jax.jit(lambda p: registry.build("objectives", objective)(model, p, x, cond, noise))(
        params
    )
    i, steps = case["in/sampler_i_T"]
    times = jnp.asarray([(steps - i) / steps, (steps - i - 1) / steps], dtype)
    gammas = np.asarray(model.schedule.gamma(params["schedule"], times), np.float64)
    sampler: Sampler = registry.build("samplers", "ancestral()")
    row = jax.tree.map(lambda a: cast(a[0]), sampler.rows(gammas))
    z = cast(case["in/z_t_sampler"])
    eps = model.denoiser(params)(z, row["gamma"], cond).eps
    mean = row["z"] * z - row["eps"] * eps
    return terms, mean, mean + row["noise"] * cast(case["in/eps_sampler"])


@pytest.mark.parametrize(("name", "objective"), CASES)
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_every_term_matches(golden, name, objective, precision):
    case, model, params = load(golden, name)
    loss_tol, net_tol = (1e-9, 1e-9) if precision == "float64" else (1e-4, 1e-3)
    with jax.enable_x64(precision == "float64"):
        terms, mean, z_s = terms_and_step(case, model, params, objective, precision)
        gamma, slope = gamma_and_slope(
            model.schedule, params["schedule"], jnp.asarray(case["out/t"])
        )
        ends = [sigma(g) ** 2 for g in endpoints(model.schedule, params["schedule"])]
    for ours, theirs in [
        (terms.reconstruction, "loss_recon"),
        (terms.prior, "loss_klz"),
        (terms.diffusion, "loss_diff"),
        (gamma, "gamma_t"),
        (slope, "dgamma_dt"),
        (ends[0], "var_0"),
        (ends[1], "var_1"),
    ]:
        np.testing.assert_allclose(np.ravel(ours), np.ravel(case[f"out/{theirs}"]), rtol=loss_tol)
    scale = np.abs(case["out/sampler_mu"]).max()
    np.testing.assert_allclose(mean, case["out/sampler_mu"], atol=net_tol * scale, rtol=net_tol)
    np.testing.assert_allclose(z_s, case["out/sampler_z_s"], atol=net_tol * scale, rtol=net_tol)


def test_attention_and_label_paths_are_exercised(golden):
    """The comparison above would not notice a network that ignores its condition."""
    case, model, params = load(golden, "T0")
    x = model.decoder.encode(jnp.asarray(case["in/images"]))
    predict = lambda scalar: model.denoiser(params)(x, jnp.zeros(5), {"scalar": scalar}).eps
    assert jnp.abs(predict(jnp.ones(5)) - predict(jnp.zeros(5))).max() > 1e-3


def test_reading_a_published_checkpoint(golden):
    found = vdm.read(golden / "vdm_checkpoint.flax")
    _, _, params = load(golden, "T0")
    assert found.step == 1234
    same = jax.tree.map(lambda a, b: np.allclose(a, b, rtol=1e-6), found.ema_params, params)
    assert all(jax.tree.leaves(same))
    scaled = jax.tree.map(
        lambda a, b: np.allclose(a, 1.01 * b, rtol=1e-5), found.params, found.ema_params
    )
    assert all(jax.tree.leaves(scaled))


@pytest.mark.slow
def test_scanned_and_unrolled_networks_agree(golden, float64):
    """One checkpoint, two ways to run it: same function, so same gradient too."""
    case, model, params = load(golden, "T10")
    x = model.decoder.encode(jnp.asarray(case["in/images"])).astype(jnp.float64)

    def value(model, p):
        return jnp.square(model.denoiser(p)(x, jnp.zeros(5), {}).eps).sum()

    plain = jax.jit(jax.value_and_grad(lambda p: value(model, p)))(params)
    for option in ({"scan": True}, {"remat": True}, {"scan": True, "remat": True}):
        other = dataclasses.replace(model, network=model.network.clone(**option))
        found = jax.jit(jax.value_and_grad(lambda p, m=other: value(m, p)))(params)
        for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(found), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * np.abs(a).max() + 1e-14)
