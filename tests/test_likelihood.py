"""The probability-flow likelihood against densities that are known, and the bounds made of it."""

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closed_form import MIXTURE
from gaussian import Gaussian
from scipy import stats

from diffusion_jax import registry
from diffusion_jax.data.base import Split
from diffusion_jax.data.passes import Pass
from diffusion_jax.likelihood import density
from diffusion_jax.likelihood.estimators import _flow
from diffusion_jax.likelihood.estimators.base import Bounds, Density
from diffusion_jax.model import Model
from diffusion_jax.runtime.sharding import make_mesh

DATA = Gaussian((0.3, -0.5, 0.1), (0.4, 1.7, 0.05))
ENDS = (-6.0, 4.0)
PARAMS = {"network": {}, "schedule": {}}


def ode(text="ode()"):
    return registry.build("likelihood", text)


def pushed(data, gamma_0, gamma_1):
    """Mean and s.d. of `z_0` when the flow of Gaussian data starts from N(0, I) at `gamma_1`.

    That flow is affine: `z_0 - alpha_0 m = (s_0 / s_1) (z_1 - alpha_1 m)`, s the s.d. of z.
    """
    m, v = np.asarray(data.mean), np.asarray(data.variance)
    a2 = [1.0 / (1.0 + math.exp(g)) for g in (gamma_0, gamma_1)]
    s_0, s_1 = (np.sqrt(a * v + 1.0 - a) for a in a2)
    return math.sqrt(a2[0]) * m - s_0 / s_1 * math.sqrt(a2[1]) * m, s_0 / s_1


def flow(data, z, steps, method="rk4", divergence=_flow.exact):
    denoiser = data.model().denoiser({"network": {}})
    run = functools.partial(
        _flow.log_density, lambda z, g: denoiser(z, g, {}), gamma_0=ENDS[0], gamma_1=ENDS[1],
        steps=steps, method=_flow.METHODS[method], divergence=divergence,
    )  # fmt: skip
    return np.asarray(jax.jit(run)(jnp.asarray(z)))


def test_gaussian_density_to_1e_6_nats(float64):
    mean, std = pushed(DATA, *ENDS)
    z = mean + std * np.random.default_rng(0).normal(size=(50, 3))
    truth = stats.norm.logpdf(z, mean, std).sum(1)
    np.testing.assert_allclose(flow(DATA, z, 160), truth, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("method", "order"), [("rk4", 4), ("heun", 2)])
def test_the_solver_has_its_order(float64, method, order):
    mean, std = pushed(DATA, *ENDS)
    z = mean + std * np.random.default_rng(0).normal(size=(50, 3))
    truth = stats.norm.logpdf(z, mean, std).sum(1)
    errors = [np.abs(flow(DATA, z, n, method) - truth).mean() for n in (32, 64, 128)]
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.3)
    assert _flow.METHODS[method].order == order


def test_mixture_density_to_1e_5_nats(float64):
    ends = (-4.0, 30.0)  # at the noisy end nothing of the data is left: N(0, I) is right
    rng = np.random.default_rng(0)
    kind = rng.choice(3, size=60, p=MIXTURE.probs)
    var = (MIXTURE.var + math.exp(ends[0])) / (1.0 + math.exp(ends[0]))
    scale = 1.0 / math.sqrt(1.0 + math.exp(ends[0]))
    z = scale * MIXTURE.means[kind] + math.sqrt(var) * rng.normal(size=(60, 2))
    parts = stats.norm.logpdf(z[:, None], scale * MIXTURE.means, math.sqrt(var)).sum(-1)
    truth = np.log((MIXTURE.probs * np.exp(parts)).sum(1))
    run = jax.jit(lambda z: _flow.log_density(MIXTURE.denoise, z, *ends, 400, _flow.METHODS["rk4"]))
    np.testing.assert_allclose(run(jnp.asarray(z)), truth, atol=1e-5, rtol=0)


def test_hutchinson_is_unbiased_and_follows_the_exact_trace(float64):
    # A mixture: the Jacobian has entries off its diagonal, or any probe would be exact.
    z = jnp.asarray(np.random.default_rng(1).normal(size=(1, 2)) * 0.5)
    run = functools.partial(
        _flow.log_density, MIXTURE.denoise, gamma_0=-4.0, gamma_1=8.0, steps=40,
        method=_flow.METHODS["rk4"],
    )  # fmt: skip
    n = 400
    signs = jax.random.rademacher(jax.random.key(0), (1, n, 2), float)
    found = run(jnp.tile(z, (n, 1)), divergence=_flow.hutchinson(signs))
    exact = run(z)[0]
    error = np.std(found, ddof=1) / math.sqrt(n)
    assert error > 1e-3, "the probes do not matter: this test would not see a wrong one"
    assert abs(np.mean(found) - exact) < 3 * error
    # All corners of the square together are the exact trace: v.Jv averaged over signs.
    corners = jnp.asarray(list(itertools.product((-1.0, 1.0), repeat=2)))[:, None]
    mean = run(z, divergence=_flow.hutchinson(corners))[0]
    assert mean == pytest.approx(float(exact), abs=1e-10)


def test_the_exact_trace_does_not_depend_on_how_it_is_batched(monkeypatch):
    z = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)))
    matrix = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3)))

    def drift(z):
        return jnp.sin(z) @ matrix

    truth = jnp.cos(z) @ jnp.diag(matrix)
    for elements in (1, 10, 2**20):
        monkeypatch.setitem(_flow._ELEMENTS, "cpu", elements)
        np.testing.assert_allclose(_flow.exact(drift, z)[1], truth, rtol=1e-5)


def discrete(schedule="linear(gamma_min=-3.0, gamma_max=4.0)", levels=5):
    """A perfect model of Gaussian data in two dimensions, asked for levels: P(x) is known."""
    data = Gaussian((0.1, -0.2), (0.3, 0.2))
    decoder = registry.build("decoders", "categorical()", levels=levels)
    return data, dataclasses.replace(data.model(schedule), decoder=decoder)


def probability(data, model, image, decoder):
    """`P(x)` by quadrature over `y = z_0 / alpha_0`: of the bins, or of the model's decoder."""
    gamma_0 = -3.0
    mean, std = pushed(data, gamma_0, 4.0)
    a_0 = 1.0 / math.sqrt(1.0 + math.exp(gamma_0))
    width = 2.0 / model.decoder.levels
    centre = width * (np.asarray(image) + 0.5) - 1.0
    if not decoder:
        edges = [stats.norm.cdf(centre + s * width / 2, mean / a_0, std / a_0) for s in (-1, 1)]
        return np.prod(edges[1] - edges[0])
    y = np.linspace(-8, 8, 20001)[:, None]
    logits = [-0.5 * math.exp(-gamma_0) * (y - c) ** 2 for c in np.asarray(model.decoder.centres())]
    chosen = np.exp(-0.5 * math.exp(-gamma_0) * (y - centre) ** 2) / np.exp(logits).sum(0)
    return np.prod(np.trapezoid(chosen * stats.norm.pdf(y, mean / a_0, std / a_0), y, axis=0))


@pytest.mark.parametrize("way", ["uniform", "truncated_normal", "decoder"])
def test_weights_average_to_the_probability_and_the_bound_rises_to_it(float64, way):
    data, model = discrete()
    image = np.array([2, 1])
    n = 1200  # the same image again and again: independent draws
    images = np.tile(image, (n, 1)).astype(np.uint8)
    split = Split("one", images, np.zeros(n, np.int32), 5, 0)
    measure = ode(f"ode(dequantization={way!r}, k=8, draws=1, steps=20)")
    measure.check(model)
    records = density.measure(
        model, measure, PARAMS, split, Pass(make_mesh(jax.devices()[:1]), n, quiet=True)
    )
    truth = probability(data, model, image, decoder=way == "decoder")
    weights = np.exp(records.density + records.correction).ravel()
    error = weights.std() / math.sqrt(weights.size)
    assert abs(weights.mean() - truth) < 4 * error < 0.02 * truth
    # The bound falls short of the truth by about var(w) / 2K: positive, and halved when K doubles.
    gap = {k: records.bits(k).mean() + math.log2(truth) / 2 for k in (1, 2, 4, 8)}
    assert gap[1] > gap[2] > gap[4] > gap[8] > -4 * error / truth
    assert gap[8] < 0.25 * gap[1]


def test_k_equal_weights_are_worth_one():
    log_w = np.full((3, 2, 6), -5.0)
    records = density.LogWeights(log_w, np.zeros_like(log_w), np.zeros(3), dims=1)
    for k in (1, 2, 3, 6):
        np.testing.assert_allclose(records.bits(k), 5.0 / math.log(2.0))


def test_monte_carlo_error_is_the_spread_between_runs(float64):
    _, model = discrete()
    images = np.random.default_rng(0).integers(0, 5, (16, 2)).astype(np.uint8)
    # Forty runs in one: the same images under other numbers, which is other noise.
    split = Split("few", np.tile(images, (40, 1)), np.zeros(640, np.int32), 5, 0)
    found = density.measure(
        model, ode("ode(steps=4, trace='hutchinson', draws=4)"), PARAMS, split,
        Pass(make_mesh(jax.devices()[:1]), 640, quiet=True),
    )  # fmt: skip
    runs = [
        density.summary(
            dataclasses.replace(found, density=d, correction=c, coarse=found.coarse[:1]), 4
        )
        for d, c in zip(np.split(found.density, 40), np.split(found.correction, 40), strict=True)
    ]
    claimed = math.sqrt(np.mean([r["monte_carlo_se"] ** 2 for r in runs]))
    assert np.std([r["bits_per_dim"] for r in runs], ddof=1) == pytest.approx(claimed, rel=0.35)


@pytest.mark.slow
def test_figures_do_not_depend_on_batches_or_devices_and_probes_are_shared():
    _, model = discrete()
    images = np.random.default_rng(0).integers(0, 5, (11, 2)).astype(np.uint8)
    split = Split("few", images, np.zeros(11, np.int32), 5, 0)
    measure = ode("ode(steps=8, trace='hutchinson', k=2)")
    found = [
        density.measure(
            model, measure, PARAMS, split, Pass(make_mesh(jax.devices()[:devices]), b, quiet=True)
        )
        for devices, b in ((1, 11), (1, 4), (8, 8))
    ]
    for other in found[1:]:
        np.testing.assert_allclose(other.density, found[0].density, rtol=1e-5)
        np.testing.assert_allclose(other.coarse, found[0].coarse, rtol=1e-5)


@pytest.mark.slow
def test_the_probes_are_those_of_the_image_for_all_k(monkeypatch):
    # With the dequantisation fixed, samples of one image differ by their probes alone.
    data = Gaussian((0.0, 0.0), (0.3, 0.3))
    seen = []
    monkeypatch.setattr(
        _flow, "hutchinson", lambda probes: seen.append(np.asarray(probes)) or _flow.exact
    )
    measure = ode("ode(steps=2, trace='hutchinson', k=4, probes=3)")
    keys = jax.random.split(jax.random.key(0), 2)
    model = data.model()
    with jax.disable_jit():
        measure(model, PARAMS, jnp.zeros((2, 2)), {}, keys)
    assert len(seen) == 4 and seen[0].shape == (3, 2, 2)
    assert all(np.array_equal(seen[0], other) for other in seen[1:])
    assert set(np.unique(seen[0])) == {-1.0, 1.0}


@pytest.mark.slow
def test_forty_steps_are_enough_for_a_network():
    model = Model(
        network=registry.build(
            "backbones", "vdm_unet(width=16, depth=1, embed=8)",
            levels=5, channels=1, num_classes=3, gamma_min=-5.0, gamma_max=4.0,
        ),
        schedule=registry.build("schedules", "linear(gamma_min=-5.0, gamma_max=4.0)"),
        decoder=registry.build("decoders", "categorical()", levels=5),
        prediction="eps",
        num_classes=3,
    )  # fmt: skip
    params = model.init(jax.random.key(0), (4, 4, 1))
    images = np.random.default_rng(0).integers(0, 5, (2, 4, 4, 1)).astype(np.uint8)
    split = Split("few", images, np.arange(2, dtype=np.int32), 5, 3)
    measure = ode("ode(steps=80, draws=1, trace='exact')")
    found = density.measure(
        model, measure, params, split, Pass(make_mesh(jax.devices()[:1]), 2, quiet=True)
    )
    solver = density.summary(found, 4)["solver"]
    assert 0.0 < solver["half_the_steps_changes_an_image_by_at_most"] < 1e-3
    assert solver["half_the_steps_changes_by"] < 1e-3


@pytest.mark.parametrize("name", registry.available("likelihood"))
def test_every_likelihood_is_of_one_kind(name):
    built = ode(f"{name}()")
    assert isinstance(built, Bounds) != isinstance(built, Density)


def test_the_bound_has_the_steps_it_is_asked_for():
    assert list(ode("elbo()").objectives((3, 50))) == ["infinity", "3", "50"]
