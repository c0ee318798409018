"""Every sampler found in the folder keeps the contract; how the samplers relate to one another."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closed_form import MIXTURE, ConsistentGaussian, Gaussian, build, from_x, grid, law

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError
from diffusion_jax.sampling import integrate, path

# A sampler that corrects the mean for an encoder is tested with one, in test_encoders.py.
SAMPLERS = tuple(
    name
    for name in registry.available("samplers")
    if getattr(registry.build("samplers", name), "mean_coefficient", 0.0) == 0.0
)
DOWN = np.array([5.0, 2.0, 0.5, -1.0, -2.5, -4.0, -6.0])
CLIMB = np.array([5.0, 2.0, 0.5, 3.0, 0.5, -1.0, -6.0])
Z = np.asarray(jax.random.normal(jax.random.key(3), (4, 2)), np.float64)


def run(sampler, gammas, z=Z, key=1, denoise=MIXTURE.denoise, **hooks):
    sampler = build(sampler) if isinstance(sampler, str) else sampler
    return integrate(denoise, sampler, gammas, jnp.asarray(z), jax.random.key(key), **hooks)


def same(a, b, tol=1e-12):
    np.testing.assert_allclose(a, b, rtol=tol, atol=tol)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("gammas", [DOWN, CLIMB], ids=["down", "climb"])
def test_rows_are_finite_host_float64(name, gammas):
    rows = build(name).rows(gammas)
    np.testing.assert_array_equal(rows["gamma"], gammas[:-1])
    for leaf in jax.tree.leaves(rows):
        assert isinstance(leaf, np.ndarray)
        assert leaf.dtype == np.float64
        assert leaf.shape == (len(gammas) - 1,)
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("gammas", [DOWN, CLIMB], ids=["down", "climb"])
def test_calls_of_the_network(name, gammas):
    """Counted as they run, and as they are traced: once for a plan of any length."""
    sampler, ran, traced = build(name), [], []

    def denoise(z, gamma):
        traced.append(1)
        jax.debug.callback(lambda: ran.append(1))
        return MIXTURE.denoise(z, gamma)

    jax.block_until_ready(run(sampler, gammas, denoise=denoise))
    jax.effects_barrier()
    assert len(traced) == sampler.nfe_per_step
    assert len(ran) == sampler.nfe_per_step * int(np.sum(np.diff(gammas) < 0))


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.usefixtures("float64")
def test_a_plan_per_pixel(name):
    """Schedules with one gamma per pixel: equal plans for all pixels are one plan for all."""
    wide = np.broadcast_to(DOWN[:, None, None], (len(DOWN), *Z.shape))

    def denoise(z, gamma):
        assert gamma.shape == z.shape
        return MIXTURE.denoise(z, gamma[0, 0])

    same(run(name, wide, denoise=denoise), run(name, DOWN))


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.usefixtures("float64")
def test_traced_plans_and_single_precision(name):
    traced = jax.jit(lambda gammas, key: run(name, gammas, key=key))
    down = run(name, DOWN)
    assert down.dtype == jnp.float64
    same(traced(jnp.asarray(DOWN), 1), down, tol=1e-10)
    same(traced(jnp.asarray(CLIMB), 1), run(name, CLIMB), tol=1e-10)
    single = run(name, DOWN, z=Z.astype(np.float32))
    assert single.dtype == jnp.float32
    stochastic = np.abs(traced(jnp.asarray(DOWN), 2) - down).max() > 0.0
    if not stochastic:  # the noise differs between precisions
        np.testing.assert_allclose(single, down, atol=1e-4)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.usefixtures("float64")
def test_no_step_no_move(name):
    """A plan may stay where it is."""
    same(run(name, np.array([1.0, 1.0]), z=Z), Z, tol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.usefixtures("float64")
def test_many_steps_give_the_data(monkeypatch, name):
    to_end = getattr(build(name), "to_end", False)
    data = (ConsistentGaussian if to_end else Gaussian)(np.array([0.7]), np.array([[0.3]]))
    gammas = grid("log_snr()", 40, ends=(-6.0, 4.0))
    mean, cov = law(monkeypatch, data, name, gammas)
    true_mean, true_cov = data.noised(gammas[-1])
    np.testing.assert_allclose(mean, true_mean, atol=0.03)
    np.testing.assert_allclose(cov, true_cov, rtol=0.12)


@pytest.mark.parametrize("name", SAMPLERS)
def test_memory_restarts_after_an_upward_move(name):
    """What follows an upward move has the coefficients of a fresh run."""
    sampler = build(name)
    fresh = sampler.rows(CLIMB[3:])
    for a, b in zip(jax.tree.leaves(sampler.rows(CLIMB)), jax.tree.leaves(fresh), strict=True):
        np.testing.assert_allclose(a[3:], b, rtol=1e-12)


def test_the_loop_clears_memory_after_an_upward_move():
    @dataclass(frozen=True)
    class Counter:
        """Adds to z the number of steps since the memory was new."""

        nfe_per_step: int = 0

        def rows(self, gammas):
            return {"gamma": gammas[:-1]}

        def init(self, z):
            return jnp.zeros((), z.dtype)

        def step(self, denoise, row, z, memory, key):
            return z + memory, memory + 1.0

    seen = []
    keep = lambda z, gamma, key: (jax.debug.callback(seen.append, z[0, 0]), z * 0.0)[1]
    jax.block_until_ready(run(Counter(), CLIMB, z=np.zeros((1, 1)), constrain=keep))
    jax.effects_barrier()
    after_steps = [float(v) for v, up in zip(seen, np.diff(CLIMB) > 0, strict=True) if not up]
    assert after_steps == [0.0, 1.0, 0.0, 1.0, 2.0]


@pytest.mark.usefixtures("float64")
def test_ddim_with_full_noise_is_ancestral():
    same(run("ddim(eta=1.0)", DOWN), run("ancestral()", DOWN))


@pytest.mark.parametrize("name", ["dpmpp_2m()", "unipc()"])
@pytest.mark.usefixtures("float64")
def test_multistep_methods_start_as_ddim(name):
    same(run(name, DOWN[:2]), run("ddim()", DOWN[:2]))
    assert np.abs(run(name, DOWN) - run("ddim()", DOWN)).max() > 1e-3


@pytest.mark.usefixtures("float64")
def test_stochastic_solvers_start_as_ancestral():
    same(run("dpmpp_2m(eta=1.0)", DOWN[:2]), run("ancestral()", DOWN[:2]))


@pytest.mark.usefixtures("float64")
def test_without_noise_the_stochastic_midpoint_is_2s():
    same(run("dpmpp_sde(eta=0.0)", DOWN), run("dpmpp_2s()", DOWN))


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "dpmpp_sde"])
@pytest.mark.usefixtures("float64")
def test_exact_for_one_image(monkeypatch, name, eta):
    """If the data are one point, exponential integrators are exact in any number of steps."""
    data = Gaussian(np.array([0.7]), np.zeros((1, 1)))
    mean, cov = law(monkeypatch, data, f"{name}(eta={eta})", CLIMB)
    true_mean, true_cov = data.noised(CLIMB[-1])
    same(mean, true_mean)
    same(cov, true_cov)


@pytest.mark.usefixtures("float64")
def test_closed_form_denoisers_are_the_score():
    """The oracle of these tests, against automatic differentiation of the density."""
    gamma = jnp.asarray(-0.7)
    score = jax.grad(lambda z: jax.nn.logsumexp(MIXTURE.log_joint(z, gamma), -1).sum())(Z)
    pred = MIXTURE.denoise(Z, gamma)
    same(pred.eps, -score * jax.nn.sigmoid(gamma) ** 0.5)
    same(from_x(pred.x, Z, gamma).eps, pred.eps)


@pytest.mark.parametrize("bad", ["ddim(eta=1.5)", "dpmpp_2m(eta=-1.0)", "dpmpp_sde(eta=-0.1)"])
def test_settings_are_checked(bad):
    with pytest.raises(ConfigError, match="eta"):
        build(bad)


def test_a_plan_is_a_vector():
    with pytest.raises(ValueError, match="at least two"):
        run("ddim()", np.array([1.0]))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["ddim", "ancestral"])
def test_a_path_holds_every_latent_on_the_way(name):
    """Without noise the first k steps of a long plan are a plan of k steps."""
    sampler = registry.build("samplers", f"{name}()")
    gammas = np.linspace(4.0, -4.0, 6)
    args = jnp.asarray(Z), jax.random.key(1)
    found = path(MIXTURE.denoise, sampler, gammas, *args)
    assert found.shape == (6, *Z.shape)
    same(found[0], Z)
    same(found[-1], integrate(MIXTURE.denoise, sampler, gammas, *args))
    if name == "ddim":
        for k in (1, 3):
            same(found[k], integrate(MIXTURE.denoise, sampler, gammas[: k + 1], *args))
