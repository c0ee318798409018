"""The published contract tests: every plug-in passes, and what is broken does not."""

import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_jax import registry, testing
from diffusion_jax.errors import ConfigError

SPECS = {
    "array": "array(values=(5.0, 4.0, 3.0, 2.0, 1.0, 0.0, -1.0, -2.0, -4.0, -6.0, -8.0))",
    "interval": "interval(cfg(), lo=-5.0, hi=4.0)",
    "rescale": "rescale(cfg())",
    "threshold": "threshold(cfg())",
}
KINDS = ("schedules", "samplers", "grids", "plans", "decoders", "proposals", "pyramids", "views")
CASES = [(k, SPECS.get(n, n)) for k in KINDS for n in registry.available(k)
         if n not in ("mulan", "ancestral_diffenc")]  # fmt: skip
CASES += [("guidance", SPECS.get(n, n)) for n in
          ("none", "cfg", "cfgpp", "apg", "interval", "rescale", "threshold")]  # fmt: skip
CASES += [("encoders", "identity")]


@pytest.mark.parametrize(("kind", "spec"), CASES)
def test_the_plugins_of_the_package_keep_their_contracts(kind, spec):
    testing.check(kind, spec)


class Falls:
    def init(self, key):
        return {}

    def gamma(self, params, t):
        return -jnp.asarray(t)


class Apart:
    """A network of one weight."""

    def init(self, key, z, gamma, cond):
        return {"params": {"w": jnp.ones(())}}

    def apply(self, variables, z, gamma, cond, keys=None):
        return variables["params"]["w"] * z * gamma[:, None, None, None]


class Mixes(Apart):
    def apply(self, variables, z, gamma, cond, keys=None):
        return z - z.mean(axis=0) * gamma[:, None, None, None]


def test_a_network_that_keeps_its_contract():
    network = Apart()
    assert testing.check("models", network) is network


@pytest.mark.parametrize(
    ("kind", "plugin", "says"),
    [
        ("schedules", Falls(), "rise with t"),
        ("models", Mixes(), "examples see one another"),
        ("samplers", object(), "has no nfe_per_step"),
        ("grids", lambda lo, hi, n, gamma: np.linspace(lo, hi, n + 1), "from gamma_1"),
        ("plans", lambda gammas: gammas[:-1], "ends"),
    ],
)
def test_what_is_broken_is_named(kind, plugin, says):
    with pytest.raises(AssertionError, match=says):
        testing.check(kind, plugin)


def test_a_kind_without_contract_tests_is_named():
    with pytest.raises(ConfigError, match="there are: schedules"):
        testing.check("modes", "eval")
