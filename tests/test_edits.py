"""Edits on Gaussian images, where what they should give is known in closed form."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closed_form import MIXTURE
from gaussian_edits import (
    KEY,
    KNOWN,
    MASK,
    PAIR,
    Classes,
    Network,
    Squared,
    brush,
    edited,
    mean_error,
)

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError
from diffusion_jax.sampling.edits._fill import keep
from diffusion_jax.sampling.edits._pairs import slerp
from diffusion_jax.sampling.edits.base import Canvas
from diffusion_jax.sampling.inversion import invert

pytestmark = pytest.mark.usefixtures("float64")


def test_replacement_is_biased_whatever_the_number_of_steps(monkeypatch):
    errors = [mean_error(monkeypatch, "replace()", sampler="ancestral()", steps=n)
              for n in (50, 200)]  # fmt: skip
    assert min(errors) > 0.2
    assert errors[1] == pytest.approx(errors[0], rel=0.2)


def test_repaint_errs_as_one_over_its_repeats(monkeypatch):
    error = lambda r: mean_error(
        monkeypatch, f"repaint(resamplings={r})", sampler="ancestral()", steps=50
    )
    one, ten, forty = error(1), error(10), error(40)
    assert ten < one / 3
    assert forty == pytest.approx(ten / 4, rel=0.35)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["dpmpp_2m()", "dpmpp_2m(eta=1.0)"])
def test_exact_measurement_gives_the_posterior(monkeypatch, sampler):
    spec = "posterior(method='exact', noise=0.01)"
    assert mean_error(monkeypatch, spec, sampler=sampler, steps=200) < 0.02
    images = np.full((5000, 1, 2, 1), KNOWN)
    end = edited(spec, PAIR, images, MASK, sampler=sampler, steps=60)
    assert end[:, 0, 1, 0].var() == pytest.approx(1.0 - 0.8**2, abs=0.035)


@dataclass(frozen=True)
class Mixing:
    """An encoder in which every pixel sees the others."""

    mean_coefficient: float = 0.0

    def __call__(self, params, x, gamma, cond, keys):
        return x + x.sum((1, 2, 3), keepdims=True), jnp.zeros_like(x)


@pytest.mark.slow
def test_what_is_under_the_mask_is_never_seen():
    a, b = (np.array([KNOWN, hidden]).reshape(1, 1, 2, 1) for hidden in (0.0, 50.0))
    for spec in ("replace()", "posterior(method='dps')", "outpaint(right=1)"):
        mask = None if "outpaint" in spec else MASK
        ends = [edited(spec, PAIR, x, mask, steps=5, encoder=Mixing()) for x in (a, b)]
        np.testing.assert_array_equal(*ends)


@pytest.mark.slow
@pytest.mark.parametrize("start", [-2.0, 3.0])
@pytest.mark.parametrize("sampler", ["rk4()", "dpmpp_2m(eta=1.0)"])
def test_sdedit_has_the_law_of_its_start(sampler, start):
    """Data N(m, v), source x_0: the flow scales what enters, the SDE draws from its posterior."""
    m, v, x_0 = 0.4, 0.3, -1.0
    end = edited(f"sdedit(start={start})", Network(((v,),), m), np.full((40000, 1, 1, 1), x_0),
                 sampler=sampler, steps=120)  # fmt: skip
    a2, s2 = 1.0 / (1.0 + np.exp(start)), 1.0 / (1.0 + np.exp(-start))
    total = a2 * v + s2
    if sampler == "rk4()":
        mean, var = m + np.sqrt(v * a2 / total) * (x_0 - m), v * s2 / total
    else:
        mean = m + a2 * v / total * (x_0 - m)
        var = v * s2 / total + a2 * v**2 * s2 / total**2
    assert end.mean() == pytest.approx(mean, abs=0.015)
    assert end.var() == pytest.approx(var, abs=0.012)


@pytest.mark.slow
def test_blending_keeps_the_source_and_starts_from_it():
    """With everything masked it is SDEdit; with a start near the data nothing moves."""
    x = np.random.default_rng(0).normal(size=(3, 1, 2, 1))
    every = np.ones((1, 2, 1))
    same = [edited("blend(start=1.0)", PAIR, x, every), edited("sdedit(start=1.0)", PAIR, x)]
    np.testing.assert_allclose(*same, atol=1e-12)
    np.testing.assert_allclose(edited("blend(start=-11.0)", PAIR, x, MASK), x, atol=0.03)
    far = edited("blend(start=8.0)", PAIR, x, MASK)
    np.testing.assert_allclose(far[..., 0, 0], x[..., 0, 0], atol=0.03)
    assert np.abs(far[..., 1, 0] - x[..., 1, 0]).max() > 0.1


@pytest.mark.slow
def test_inversion_finds_the_way_back_at_the_order_of_its_solver():
    x = np.random.default_rng(0).normal(size=(2, 2))
    denoise = MIXTURE.denoise

    def there(solver, steps):
        gammas = np.linspace(-6.0, 4.0, steps + 1)
        return invert(denoise, registry.build("samplers", solver), gammas, jnp.asarray(x))

    true = there("rk4()", 400)
    for solver, order in (("ddim()", 1), ("heun()", 2), ("rk4()", 4)):
        coarse, fine = (np.abs(there(solver, n) - true).max() for n in (40, 80))
        assert np.log2(coarse / fine) == pytest.approx(order, abs=0.45)
    with pytest.raises(ConfigError, match="deterministic"):
        there("ancestral()", 4)
    with pytest.raises(ConfigError, match="ascending"):
        invert(denoise, registry.build("samplers", "heun()"), np.array([1.0, 0.0]), jnp.asarray(x))


def test_interpolation_ends_at_its_inputs_whatever_their_classes():
    x = np.array([[-0.9, 0.6], [1.2, 0.8], [0.3, -0.2], [0.4, -0.4]]).reshape(4, 1, 2, 1)
    end = edited("interpolate(frames=5)", Classes(), x, steps=150, sampler="heun()",
                 prediction="x", classes=3, cond={"label": np.array([0, 2, 1, 3])})  # fmt: skip
    end = end.reshape(2, 5, 1, 2, 1)
    np.testing.assert_allclose(end[:, 0], x[::2], atol=3e-3)
    np.testing.assert_allclose(end[:, -1], x[1::2], atol=3e-3)


def test_interpolation_of_white_data_is_on_the_sphere():
    """For N(0, v I) the flow only scales: frames are the arc between the images themselves."""
    x = np.array([[2.0, 0.0], [0.0, 2.0]]).reshape(2, 1, 2, 1)
    end = edited("interpolate(frames=3)", Network(((0.5, 0.0), (0.0, 0.5))), x, steps=150)
    np.testing.assert_allclose(end[1].ravel(), [2**0.5, 2**0.5], atol=2e-3)


def test_slerp_ends_exactly_and_survives_parallel_vectors():
    a, b = jax.random.normal(KEY, (2, 4, 3, 3, 1))
    between = jax.jit(slerp)
    np.testing.assert_allclose(between(a, b, jnp.zeros(4)), a, atol=1e-12)
    np.testing.assert_allclose(between(a, b, jnp.ones(4)), b, atol=1e-12)
    np.testing.assert_allclose(between(a, 3.0 * a, jnp.full(4, 0.5)), 2.0 * a, atol=1e-12)


def test_noise_is_shared_along_a_line_and_only_there():
    x = np.full((2, 1, 2, 1), 0.7)  # from an image to itself
    end = edited("interpolate_noise(frames=4)", PAIR, x, each=2).reshape(2, 4, 2)
    np.testing.assert_allclose(end, end[:, :1] + np.zeros((2, 4, 2)), atol=1e-9)
    assert np.abs(end[0] - end[1]).min() > 1e-3


def test_with_an_encoder_the_encoded_source_is_noised():
    x, eps = jax.random.normal(KEY, (2, 3, 1, 2, 1))
    tool = brush(PAIR, np.array([1.0, -5.0]), encoder=Squared())
    a = 1.0 / np.sqrt(1.0 + np.e)
    expected = a**3 * x + np.sqrt(1.0 - a**2) * eps
    np.testing.assert_allclose(tool.noised(x, {}, eps), expected, atol=1e-12)
    # The hook holds known pixels at alpha * alpha^2 x (no noise here), at every gamma.
    canvas = Canvas(x, jnp.broadcast_to(MASK, x.shape), {}, {})
    for gamma in (-4.0, 0.0, 4.0):
        with pytest.MonkeyPatch.context() as m:
            m.setattr(jax.random, "normal", lambda key, shape, dtype=float: jnp.zeros(shape, dtype))
            held = keep(tool, x, canvas)(jnp.full_like(x, 9.0), jnp.asarray(gamma), KEY)
        a = 1.0 / np.sqrt(1.0 + np.exp(gamma))
        np.testing.assert_allclose(held[..., 0, 0], a**3 * x[..., 0, 0], atol=1e-12)
        np.testing.assert_array_equal(held[..., 1, 0], 9.0)
