"""Orders of convergence, against exact flows and exact laws, in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closed_form import ENDS, MIXTURE, Gaussian, build, grid, law

from diffusion_jax.sampling import integrate
from diffusion_jax.types import Pred

pytestmark = pytest.mark.usefixtures("float64")

NORMAL = Gaussian(np.array([0.7, -0.2]), np.array([[0.3, 0.1], [0.1, 0.05]]))
ORDERS = {
    "ddim()": (0.9, 1.3),
    "heun()": (1.9, 2.2),
    "dpmpp_2m()": (1.85, 2.2),
    "dpmpp_2s()": (1.85, 2.2),
    "unipc()": (2.8, 3.3),
    "rk4()": (3.8, 4.3),
}


def start(gamma):
    """Latents at `gamma`: the first two columns normal data, the last two a mixture."""
    return jax.random.normal(jax.random.key(0), (32, 4))


def denoise(z, gamma):
    """Two data sets side by side."""
    halves = NORMAL.denoise(z[:, :2], gamma), MIXTURE.denoise(z[:, 2:], gamma)
    return Pred(*(jnp.concatenate(p, 1) for p in zip(*halves, strict=True)))


def run(sampler, gammas):
    return integrate(denoise, build(sampler), gammas, start(gammas[0]), jax.random.key(1))


@pytest.fixture(scope="module")
def truth():
    """The end of the flow: exact for the normal columns, Runge-Kutta for the mixture."""
    with jax.enable_x64(True):
        gammas = grid("log_snr()", 1000)
        z = run("rk4()", gammas)
        exact = NORMAL.flow(start(gammas[0])[:, :2], gammas[0], gammas[-1])
        np.testing.assert_allclose(z[:, :2], exact, atol=1e-9)
        return np.concatenate([exact, z[:, 2:]], 1)


def uneven(steps):
    """Steps of log-SNR in the ratio 1 : 2 : 1 : 2: what multistep weights are for."""
    ends = np.cumsum(np.resize([1.0, 2.0], steps))
    return ENDS[1] + (ENDS[0] - ENDS[1]) * np.append(0.0, ends) / ends[-1]


PLANS = {
    "log_snr": lambda steps: grid("log_snr()", steps),
    "karras": lambda steps: grid("karras()", steps),
    "uneven": uneven,
}


@pytest.mark.parametrize("spacing", PLANS)
@pytest.mark.parametrize("sampler", ORDERS)
def test_order(truth, sampler, spacing):
    few, many = {"ddim()": (256, 512), "unipc()": (128, 256)}.get(sampler, (64, 128))
    errors = []
    for steps in (few, many):
        off = np.square(run(sampler, PLANS[spacing](steps)) - truth)
        errors.append(np.sqrt([off[:, :2].mean(), off[:, 2:].mean()]))
    lo, hi = ORDERS[sampler]
    order = np.log2(errors[0] / errors[1])
    assert np.all((lo <= order) & (order <= hi)), order


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "lo", "hi"),
    [
        ("ancestral()", 0.85, 1.15),
        ("ddim(eta=0.5)", 0.85, 1.2),
        ("dpmpp_2m(eta=1.0)", 1.8, 2.3),
        ("dpmpp_2m(eta=0.5)", 1.8, 2.3),
        ("dpmpp_sde(eta=1.0)", 1.8, 2.3),
        ("dpmpp_sde(eta=0.5)", 1.8, 2.3),
    ],
)
def test_weak_order(monkeypatch, sampler, lo, hi):
    """Mean and covariance of the end; one axis is enough, and the law is exact."""
    data = Gaussian(np.array([0.7]), np.array([[0.3]]))
    errors = []
    for steps in (32, 64):
        gammas = grid("log_snr()", steps, ends=(-6.0, 4.0))
        (mean, cov), (true_mean, true_cov) = (
            law(monkeypatch, data, sampler, gammas),
            data.noised(gammas[-1]),
        )
        errors.append((abs(mean - true_mean).item(), abs(cov - true_cov).item()))
    order = np.log2(errors[0][1] / errors[1][1])
    assert lo <= order <= hi, (order, errors)
    assert errors[1][0] < 2e-2


@pytest.mark.slow
def test_stochastic_order_needs_one_brownian_path(monkeypatch):
    """With the noise of the middle forgotten at the end, the same method is of order 1."""

    class Forgetful:
        def __init__(self):
            self.inner = build("dpmpp_sde(eta=1.0)")
            self.nfe_per_step, self.init = 2, self.inner.init

        def rows(self, gammas):
            rows = self.inner.rows(gammas)
            both = np.hypot(rows["noise_1"], rows["noise_2"])
            return {**rows, "noise_1": 0.0 * both, "noise_2": both}

        def step(self, *args):
            return self.inner.step(*args)

    data = Gaussian(np.array([0.7]), np.array([[0.3]]))
    errors = []
    for steps in (32, 64):
        gammas = grid("log_snr()", steps, ends=(-6.0, 4.0))
        cov = law(monkeypatch, data, Forgetful(), gammas)[1]
        errors.append(abs(cov - data.noised(gammas[-1])[1]).item())
    assert np.log2(errors[0] / errors[1]) < 1.3
