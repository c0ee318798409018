"""The density of a flow map: change of variables against closed forms, mass, and what is no map."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command import main
from scipy import stats
from test_distill import student, teacher  # noqa: F401
from test_distill_lessons import MEAN, VARIANCE, flow
from test_flow_map import exact, mapped  # noqa: F401
from test_likelihood import PARAMS, discrete

from diffusion_jax import registry
from diffusion_jax.data.base import Split
from diffusion_jax.data.passes import Pass
from diffusion_jax.likelihood import density
from diffusion_jax.likelihood.estimators._maps import determinant, log_density, there_and_back
from diffusion_jax.runtime.sharding import make_mesh

PLAN = jnp.array([-6.0, 1.0, 4.0])


def gaussian(z, gamma, end):
    return flow(z, *(jnp.broadcast_to(g, z.shape[:1]) for g in (gamma, end)))


def test_gaussian_data_exactly(float64):
    """The map of Gaussian data is affine, so that the density is a Gaussian's."""
    a, b = (1.0 / (1.0 + np.exp(np.array([-6.0, 4.0])))) ** 0.5
    s_0, s_1 = (np.sqrt(k**2 * VARIANCE + 1.0 - k**2) for k in (a, b))
    mean, std = a * MEAN - s_0 / s_1 * b * MEAN, s_0 / s_1
    z = jnp.asarray(mean + std * np.random.default_rng(0).normal(size=(20, 2)))
    found = log_density(gaussian, z, PLAN.astype(float))
    np.testing.assert_allclose(found, stats.norm.logpdf(z, mean, std).sum(1), atol=1e-12)
    back, sign, condition = there_and_back(gaussian, z, PLAN.astype(float))
    np.testing.assert_allclose(back, z, atol=1e-12)
    assert (sign == 1).all() and (condition < 20).all()


def test_determinants_are_lapacks(float64):
    """Pivots, signs, and a condition between that of the 2-norm and d times it."""
    a = np.random.default_rng(1).normal(size=(40, 5, 5))
    a[:10, 0, 0] = 0.0
    found = jax.jit(determinant)(jnp.asarray(a))
    sign, log = np.linalg.slogdet(a)
    np.testing.assert_allclose(found.log, log, atol=1e-10)
    np.testing.assert_array_equal(found.sign, sign)
    worst = np.linalg.cond(a)
    assert (found.condition >= worst).all() and (found.condition <= 5.0 * worst).all()


def twisted(z, gamma, end):
    """A bijection of the plane that is no affine map."""
    x, y = z[:, 0], z[:, 1]
    return jnp.stack([x + y + jnp.sin(3.0 * y), y + 0.3 * jnp.cos(y)], 1)


def folded(z, gamma, end):
    """No bijection: three values go to one where it turns back."""
    return z**3 - 2.0 * z


TURNS = 2.0 * (2.0 / 3.0) ** 1.5
THREEFOLD = (1.0 + 2.0 * (1.0 - 2.0 * stats.norm.sf(TURNS))) ** 2


@pytest.mark.parametrize(("jump", "mass"), [(twisted, 1.0), (folded, THREEFOLD)])
def test_the_mass_is_how_often_noise_is_met(float64, jump, mass):
    """1 for a bijection; a fold's is the mean number of data for one noise, here 5.6."""
    line = np.linspace(-9.0, 9.0, 901)
    z = jnp.asarray(np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2))
    found = jnp.exp(log_density(jump, z, jnp.array([0.0, 1.0]))).sum() * 0.02**2
    np.testing.assert_allclose(found, mass, rtol=1e-3)


def measured(network, spec="jumps(steps=2, draws=2)"):
    _, model = discrete(f"linear(gamma_min={-6.0}, gamma_max={4.0})")
    model = dataclasses.replace(model, network=network, prediction="x", cond_scalars=("to",))
    images = np.random.default_rng(0).integers(0, 5, (6, 2)).astype(np.uint8)
    split = Split("few", images, np.zeros(6, np.int32), 5, 0)
    plugin = registry.build("likelihood", spec)
    plugin.check(model)
    how = Pass(make_mesh(jax.devices()[:1]), 6, quiet=True)
    found = density.measure(model, plugin, PARAMS, split, how)
    return density.summary(found), plugin.verdict(found.certificate)


class Network:
    """Says the data of which a jump lands where a map says."""

    def __init__(self, jump):
        self.jump = jump

    def apply(self, variables, z, gamma, cond, keys=None):
        return exact(z, gamma, cond, self.jump).x


def test_a_map_and_its_way_back_are_a_likelihood_and_others_are_none(float64):
    figure, verdict = measured(Network(flow))
    assert verdict["holds"] and verdict["way_back_misses_by_at_most"] < 1e-9
    assert "solver" not in figure and np.isfinite(figure["bits_per_dim"])

    def lost(z, gamma, end):
        """Right on the way up; on the way down all end at the mean."""
        there = flow(z, gamma, end)
        return jnp.where((end > gamma)[:, None], there, there.mean())

    other, verdict = measured(Network(lost))
    assert other["bits_per_dim"] == figure["bits_per_dim"]
    assert not verdict["holds"] and verdict["images_that_it_does_not_find_again"] > 0

    def unknown(z, gamma, end):
        return flow(z, gamma, end).at[0].set(jnp.nan)

    assert not measured(Network(unknown))[1]["holds"]

    def flat(z, gamma, end):
        """The map forgets the second value on the way up: its Jacobians are singular."""
        there = flow(z, gamma, end)
        return jnp.where((end > gamma)[:, None], there * jnp.array([1.0, 0.0]), there)

    assert not measured(Network(flat))[1]["holds"]

    def mirrored(z, gamma, end):
        return flow(z, gamma, end) * jnp.array([1.0, -1.0])

    assert measured(Network(mirrored))[1]["negative_determinants"] > 0


@pytest.mark.slow
def test_from_the_command_line(mapped, teacher):  # noqa: F811
    """The map of a few steps of training is none; its teacher is not told where a jump ends."""
    words = ["--mode=eval", "--config.eval.likelihood=jumps(steps=2)", "--config.eval.limit=8"]
    done = main(*words, f"--workdir={mapped.workdir}")
    assert done.returncode == 0, done.stderr
    found = json.loads(next((mapped.workdir / "eval").glob("*jumps_2*.json")).read_text())
    holds = found["certificate"]["holds"]
    assert ("NO LIKELIHOOD" in done.stdout) == (not holds)
    assert re.search(r"inversion error: median .* grey levels", done.stdout)
    done = main(*words, f"--workdir={teacher.workdir}")
    assert done.returncode == 2 and "does not receive the end of a jump" in done.stderr
    done = main("--mode=eval", f"--workdir={mapped.workdir}")
    assert done.returncode == 2 and "has no likelihood" in done.stderr
