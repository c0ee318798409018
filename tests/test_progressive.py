"""Mode progressive: rates and errors against closed forms; the curve adds up to the bound."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from gaussian import Gaussian, legendre

from diffusion_jax import registry
from diffusion_jax.cli.modes import progressive as mode
from diffusion_jax.data.base import Split
from diffusion_jax.data.passes import Pass
from diffusion_jax.errors import ConfigError
from diffusion_jax.likelihood import progressive
from diffusion_jax.runtime.sharding import make_mesh

DATA = Gaussian((0.1, -0.2), (0.2, 0.5))
PARAMS = {"network": {}, "schedule": {}}
STEPS = 20
GAMMA = np.linspace(-6.0, 4.0, STEPS + 1)


def truth():
    """Per step: the mean divergence in nats, the rate in bits/dim, the posterior variance."""
    a2 = 1.0 / (1.0 + np.exp(GAMMA))[:, None]
    v, m = np.asarray(DATA.variance), np.asarray(DATA.mean)
    total = a2 * v + 1.0 - a2
    posterior = (v * (1.0 - a2) / total).mean(1)
    kl = 0.5 * np.expm1(np.diff(GAMMA)) * (a2 * v / total).sum(1)[1:]
    end = a2[-1] * (v + m**2) + 1.0 - a2[-1] - 1.0 - np.log(1.0 - a2[-1])
    sent = 0.5 * end.sum() + np.append(np.cumsum(kl[::-1])[::-1], 0.0)
    return kl, sent / (2 * math.log(2.0)), posterior


def test_steps_and_errors_are_exact_on_gaussian_data(float64):
    x, noise, weights = DATA.quadrature(*legendre(1))
    kl, _, posterior = truth()
    for i in (1, 7, STEPS):
        found = progressive.one(DATA.model(), PARAMS, x, {}, noise, jnp.asarray(i), STEPS)
        assert np.sum(weights * found[0]) == pytest.approx(kl[i - 1], rel=1e-10)
        assert np.sum(weights * found[1]) == pytest.approx(posterior[i], rel=1e-10)


@pytest.fixture(scope="module")
def measured():
    rng = np.random.default_rng(0)
    x = np.asarray(DATA.mean) + np.sqrt(DATA.variance) * rng.normal(size=(3000, 2))
    split = Split("gaussian", x.astype(np.float32), np.zeros(3000, np.int32), 256, 0)
    mesh = make_mesh(jax.devices()[:1])
    return progressive.measure(
        DATA.model(), PARAMS, split, Pass(mesh, 3000, quiet=True), steps=STEPS
    )


def test_the_curve_is_the_closed_form(measured):
    found = progressive.summary(measured, GAMMA, levels=2)["curve"]
    _, rate, posterior = truth()
    off = np.abs(np.asarray(found["rate_bits_per_dim"]) - rate)
    np.testing.assert_array_less(off, 4 * np.asarray(found["rate_standard_error"]) + 1e-6)
    # With two levels, a unit of x is one level.
    off = np.abs(np.asarray(found["mse_levels"]) - posterior)
    np.testing.assert_array_less(off, 4 * np.asarray(found["mse_standard_error"]) + 1e-6)
    assert max(found["mse_standard_error"]) < 0.03 * max(posterior)
    np.testing.assert_allclose(found["psnr_db"], -10 * np.log10(found["mse_levels"]))


def test_rate_and_rest_are_the_bound(measured):
    # The decoder's term of Gaussian data: half a nat, and the log of its standard deviation.
    rest = 0.5 * (math.log(2 * math.pi) - 6.0 + 1.0) / math.log(2.0)
    expected = truth()[1][0] + rest
    total = measured.total()
    assert abs(total.mean() - expected) < 4 * total.std() / math.sqrt(len(total))
    np.testing.assert_allclose(
        measured.rate()[:, 0] + measured.reconstruction / (2 * math.log(2.0)), total, rtol=1e-6
    )
    assert np.all(np.diff(measured.rate(), axis=1) <= 0)


def test_the_steps_together_are_the_bound_with_as_many_steps():
    objective = registry.build("objectives", f"discrete(timesteps={STEPS})")
    x, noise, weights = DATA.quadrature((np.arange(STEPS) + 0.5) / STEPS, np.full(STEPS, 1 / STEPS))
    bound = np.sum(weights * np.asarray(objective(DATA.model(), PARAMS, x, {}, noise).diffusion))
    assert truth()[0].sum() == pytest.approx(bound, rel=1e-4)


def test_stops_are_nearest_and_each_once():
    rate = np.array([2.0, 1.4, 1.0, 0.3, 0.0])
    assert progressive.stops(rate, 2.0, (0.0, 0.01, 0.55, 1.0)) == [4, 2, 0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{"encoder": "diffenc_nt()"}, {"schedule": "mulan(latent=4)"}],
    ids=["encoder", "mulan"],
)  # fmt: skip
def test_every_kind_of_model_has_a_curve(tmp_path, changes):
    experiment = tiny.experiment(tmp_path, **changes)
    params = experiment.model.init(jax.random.key(0), experiment.source.shape)
    records = progressive.measure(
        experiment.model,
        params,
        experiment.source.split("test"),
        Pass(make_mesh(jax.devices()[:1]), 13, quiet=True),
        steps=5,
    )
    found = progressive.summary(records, progressive.gammas(experiment.model, params, 5), levels=5)
    curve, total = found["curve"], found["total"]["bits_per_dim"]
    assert len(curve["gamma"]) == 6
    for rate, left in zip(curve["rate_bits_per_dim"], curve["remaining_bits_per_dim"], strict=True):
        assert rate + left == pytest.approx(total, rel=1e-6)
    assert all(a > b for a, b in itertools.pairwise(curve["rate_bits_per_dim"]))


def test_no_steps_are_refused(tmp_path):
    experiment = tiny.experiment(tmp_path)
    experiment.config.progressive.steps = 0
    with pytest.raises(ConfigError, match=r"steps=0"):
        mode.run(experiment)


def test_the_picture_shows_the_measured_latents(tmp_path):
    # At the data's end of a schedule with little noise, every guess of a perfect model is right.
    levels = registry.build("decoders", "categorical()", levels=5)
    model = dataclasses.replace(
        DATA.model("linear(gamma_min=-12.0, gamma_max=4.0)"), decoder=levels
    )
    image = np.array([[0, 4], [2, 2]], np.uint8)
    shown = progressive.pictures(
        model, PARAMS, levels.encode(jnp.asarray(image)), {}, jax.random.key(0), [STEPS, 0], STEPS
    ).reshape(2, 3, 2)
    np.testing.assert_array_equal(shown[:, 1], image)
    np.testing.assert_array_equal(shown[:, 2], image)
    assert not np.array_equal(shown[:, 0], image)
