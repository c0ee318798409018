"""The plan of least bound: against all plans there are, and in the limit of many steps."""

import itertools
import json

import numpy as np
import pytest
from closed_form import ENDS, grid

from diffusion_jax.errors import ConfigError
from diffusion_jax.sampling.grids import dp


def cost(gammas, error):
    """The diffusion term of a rising or falling grid, in the unit of `error`, m at its gammas."""
    order = np.argsort(gammas)
    g, m = np.asarray(gammas)[order], np.asarray(error)[order]
    return float(0.5 * np.sum(np.expm1(np.diff(g)) * m[1:]))


@pytest.mark.parametrize("steps", [1, 2, 4, 9])
def test_it_is_the_best_of_all(steps):
    rng = np.random.default_rng(0)
    gammas = np.sort(rng.uniform(-6.0, 4.0, 10))
    error = rng.uniform(0.1, 1.0, 10)
    table = dict(zip(gammas, error, strict=True))

    def total(plan):
        return cost(np.asarray(plan), np.asarray([table[g] for g in plan]))

    inner = itertools.combinations(gammas[1:-1], steps - 1)
    least = min(total([gammas[0], *some, gammas[-1]]) for some in inner)
    found = dp.best(gammas, error, steps)
    assert len(found) == steps + 1 and np.all(np.diff(found) < 0)
    np.testing.assert_allclose(total(found), least)


def normal(gammas):
    """m of standard normal data: the posterior variance of the noise, alpha squared."""
    return 1.0 / (1.0 + np.exp(gammas))


@pytest.mark.parametrize("steps", [4, 16, 64])
def test_it_beats_the_other_grids_and_tends_to_the_integral(steps):
    """1/2 of the integral of m is the bound of infinitely many steps: less is impossible."""
    plans = {spec: grid(spec, steps) for spec in ("dp()", "log_snr()", "karras()", "quadratic()")}
    costs = {spec: cost(plan, normal(plan)) for spec, plan in plans.items()}
    assert min(costs, key=costs.get) == "dp()"
    whole = 0.5 * (np.logaddexp(0.0, -ENDS[0]) - np.logaddexp(0.0, -ENDS[1]))
    assert costs["dp()"] > whole
    if steps == 64:
        assert costs["dp()"] < 1.2 * whole


def test_it_reads_what_inspect_writes(tmp_path):
    """Only the shape of the loss matters, so that bits and nats give one plan."""
    gamma = np.linspace(*ENDS, 200)
    path = tmp_path / "inspect.json"
    curve = {"gamma": gamma.tolist(), "mean": (7.0 * normal(gamma)).tolist()}
    path.write_text(json.dumps({"loss_by_gamma": curve}))
    found = grid(f"dp(curve={str(path)!r})", 8)
    np.testing.assert_allclose(found, grid("dp()", 8), atol=0.1)
    path.write_text("{}")
    with pytest.raises(ConfigError, match="the JSON that --mode=inspect writes"):
        grid(f"dp(curve={str(path)!r})", 8)
    with pytest.raises(ConfigError, match="nodes=4 must be larger than the number of steps, 8"):
        grid("dp(nodes=4)", 8)
