"""The published contract tests: every plug-in passes, and what is broken does not."""

import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_jax import registry, testing
from diffusion_jax.data.base import Source, Split
from diffusion_jax.errors import ConfigError
from diffusion_jax.evaluation.features.base import Features
from diffusion_jax.types import Terms

SPECS = {
    "array": "array(values=(5.0, 4.0, 3.0, 2.0, 1.0, 0.0, -1.0, -2.0, -4.0, -6.0, -8.0))",
    "interval": "interval(cfg(), lo=-5.0, hi=4.0)",
    "rescale": "rescale(cfg())",
    "threshold": "threshold(cfg())",
    "chain": "chain(flip(), permute())",
    "hidden": "hidden(flip())",
}
KINDS = (
    "schedules",
    "samplers",
    "grids",
    "plans",
    "decoders",
    "time_sampling",
    "pyramids",
    "views",
    "distillation",
)
CASES = [(k, SPECS.get(n, n)) for k in KINDS for n in registry.available(k)
         if n not in ("mulan", "ancestral_diffenc")]  # fmt: skip
CASES += [("guidance", SPECS.get(n, n)) for n in
          ("none", "cfg", "cfgpp", "apg", "interval", "rescale", "threshold")]  # fmt: skip
SMALL = "width=8, mults=(1,), blocks=1"
CASES += [(k, SPECS.get(n, n)) for k in ("final_steps", "correctors", "augment", "weightings")
          for n in registry.available(k) if n not in ("permute", "rotate")]  # fmt: skip
CASES += [("guides", f"{n}({SMALL})") for n in ("classifier", "clip")]
CASES += [("edits", n) for n in ("replace", "sdedit", "outpaint(left=2)", "interpolate_noise")]
CASES += [
    ("encoders", "identity"),
    ("objectives", "discrete(timesteps=5)"),
    ("objectives", "weighted()"),
    ("likelihood", "ode(steps=4, trace='hutchinson', k=2)"),
    ("likelihood", "jumps(steps=2, draws=1)"),
    ("features", "pixels()"),
    ("judges", "scenes()"),
    ("judges", "names()"),
    ("data", "digits()"),
    ("loggers", "files"),
    ("tasks", f"guide(classifier({SMALL}))"),
]


def test_every_kind_has_a_contract():
    assert set(testing.CONTRACTS) == set(registry.FOLDERS) - {"modes"}


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


class Told:
    """An augmentation that says it did nothing."""

    size = 1

    def __call__(self, keys, images):
        return images[:, ::-1], jnp.zeros((len(images), 1))


class Rising:
    monotone, of_gamma = True, True

    def __call__(self, gamma, slope):
        return jnp.exp(-gamma)


class Steep(Rising):
    monotone = False

    def __call__(self, gamma, slope):
        return 1.0 / slope


class Twice:
    nfe = 2

    def __call__(self, denoise, z, gamma, decoder):
        return denoise(z, gamma).x


class Bound:
    """Not per example."""

    def __call__(self, model, params, x, cond, noise):
        return Terms(*[jnp.full(len(x), jnp.abs(x).mean())] * 3)


class Sink:
    def open(self, workdir, config):
        return self

    def write_scalars(self, step, scalars):
        assert np.isfinite(list(scalars.values())).all(), "it takes finite numbers only"


class Idea:
    holds, figure = "idea", "beauty"


def pushed(denoise, z, gamma, key):
    return z + 1.0


def unstable(split):
    unstable.calls += 1
    images = np.full((4, 4, 4, 1), unstable.calls, np.uint8)
    return Split(f"u/{split}", images, np.zeros(4, np.int32), 256, 0)


unstable.calls = 0
CHANGING = Source("u", (4, 4, 1), 256, 0, unstable)
MEANS = Features("means", 3, lambda params, images: images.mean((0, 1, 2))[None], "0" * 64)


def test_a_network_that_keeps_its_contract():
    network = Apart()
    assert testing.check("backbones", network) is network


@pytest.mark.parametrize(
    ("kind", "plugin", "says"),
    [
        ("schedules", Falls(), "rise with t"),
        ("backbones", Mixes(), "an example depends on the others"),
        ("samplers", object(), "has no nfe_per_step"),
        ("grids", lambda lo, hi, n, gamma: np.linspace(lo, hi, n + 1), "from gamma_1"),
        ("plans", lambda gammas: gammas[:-1], "ends"),
        ("augment", Told(), "a changed image has a zero vector"),
        ("weightings", Rising(), "declares monotone"),
        ("weightings", Steep(), "declares of_gamma"),
        ("final_steps", Twice(), "declares nfe=2, but made 1 calls"),
        ("correctors", pushed, "the mean of a Gaussian moved"),
        ("objectives", Bound(), "an example depends on the others"),
        ("loggers", Sink(), "finite numbers only"),
        ("tasks", Idea(), "figure='beauty'; allowed: bits_per_dim"),
        ("data", 3, "returned int, not a Source"),
        ("data", CHANGING, "train changes when it is read again"),
        ("features", MEANS, r"returned \(1, 3\), not \(4, 3\)"),
    ],
)
def test_what_is_broken_is_named(kind, plugin, says):
    with pytest.raises(AssertionError, match=says):
        testing.check(kind, plugin)


def test_a_kind_without_contract_tests_is_named():
    with pytest.raises(ConfigError, match="there are: schedules"):
        testing.check("modes", "eval")
