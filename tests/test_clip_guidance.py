"""Guidance by a text, with encoders that know everything: posteriors, modes, and who may ask."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closed_form import MIXTURE, Mixture, build, grid
from guided import batch, same

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError
from diffusion_jax.sampling import integrate
from diffusion_jax.sampling.guidance.base import Context
from diffusion_jax.sampling.guidance.clip_guidance import log_posterior

pytestmark = pytest.mark.usefixtures("float64")
READER = registry.build("text_encoders", "words(known=('a', 'b'))")


class Exact:
    """A CLIP whose logit of caption k is `log p(z | k)`, or (of two) its log-odds.

    Token k + 1 is class k.
    """

    reader = READER

    def __init__(self, mixture, odds=False):
        self.mixture, self.odds = mixture, odds

    def condition(self, text):
        return {"text": jnp.asarray([[int(text) + 1]])}

    def texts(self, cond):
        return jax.nn.one_hot(cond["text"][:, 0] - 1, len(self.mixture.probs))

    def bank(self):
        k = len(self.mixture.probs)
        return jnp.eye(k), jnp.log(jnp.asarray(self.mixture.probs))

    def logits(self, z, gamma, g):
        each = self.mixture.log_joint(z, gamma)
        other = each[:, ::-1] if self.odds else jnp.log(jnp.asarray(self.mixture.probs))
        each -= other
        return each @ g.T if g.ndim == 2 else jnp.einsum("bk,bkn->bn", each, g)


def guide(spec, mixture=MIXTURE, odds=False, reader=READER):
    context = Context(
        mixture.null, open=lambda kind, path: Exact(mixture, odds), reader=reader,
    )  # fmt: skip
    return registry.build("guidance", spec)(mixture.conditional, context)


@pytest.mark.parametrize(("scale", "gamma"), [(1.0, -3.0), (2.5, 0.7)])
def test_a_bank_of_all_classes_is_bayes_rule(scale, gamma):
    """So it is classifier guidance with the exact classifier, and CFG of the same weight."""
    z, cond = batch()
    told = {**cond, "text": cond["label"][:, None] + 1}
    found = guide(f"clip_guidance('DIR', scale={scale}, inner=cfg(w=0.0), form='bank')")
    found = found(z, jnp.asarray(gamma), told)
    context = Context(MIXTURE.null, log_prob=MIXTURE.log_prob)
    for spec in (f"cfg(w={scale})", f"classifier(scale={scale}, inner=cfg(w=0.0))"):
        want = registry.build("guidance", spec)(MIXTURE.conditional, context)
        same(found, want(z, jnp.asarray(gamma), cond))
    named = guide(f"clip_guidance('DIR', '2', {scale}, cfg(w=0.0), 'bank')")(z, gamma, told)
    same(jax.tree.map(lambda a: a[1], named), jax.tree.map(lambda a: a[1], found))


def test_no_caption_pulls_nowhere():
    z, cond = batch()
    told = {**cond, "text": jnp.zeros((3, 1), int)}
    for form in ("bank", "logit"):
        found = guide(f"clip_guidance('DIR', scale=3.0, form={form!r})")(z, jnp.asarray(0.5), told)
        same(found, MIXTURE.conditional(z, jnp.asarray(0.5), cond))


@pytest.mark.parametrize(
    ("scale", "odds", "form", "low", "high"),
    [(1.0, False, "bank", 0.97, 1.01), (1.0, True, "logit", 2.0, 4.0),
     (4.0, True, "logit", 6.0, 12.0)],
)  # fmt: skip
def test_the_posterior_finds_the_mode_and_the_logit_goes_beyond(scale, odds, form, low, high):
    """Two captions, modes at -1 and 1, exact denoiser: the mean at the end of the ODE."""
    two = Mixture(np.array([[-1.0], [1.0]]), np.array([0.5, 0.5]), var=0.05)
    z = jax.scipy.stats.norm.ppf((jnp.arange(64) + 0.5) / 64)[:, None]
    cond = {"label": jnp.full(64, 2), "text": jnp.full((64, 1), 2)}
    denoise = guide(f"clip_guidance('DIR', scale={scale}, form={form!r})", two, odds)
    gammas = grid("log_snr()", 200, (-10.0, 10.0))
    end = integrate(lambda z, g: denoise(z, g, cond), build("heun()"), gammas, z, jax.random.key(0))
    assert low < float(end.mean()) < high
    if form == "bank":
        assert float(end.std()) == pytest.approx(0.05**0.5, abs=0.02)


def test_a_text_that_is_not_in_the_bank_is_one_more():
    rng = np.random.default_rng(0)
    own, among, share = rng.normal(size=4), rng.normal(size=(4, 3)), np.array([0.2, 0.3, 0.5])
    none = jnp.zeros((4, 3), bool)
    found = log_posterior(jnp.asarray(own), jnp.asarray(among), jnp.log(share), none)
    mass = np.concatenate([np.exp(own)[:, None] / 3, np.exp(among) * share], axis=1)
    np.testing.assert_allclose(found, np.log(mass[:, 0] / mass.sum(1)), rtol=1e-12)
    one = none.at[:, 1].set(True)
    found = log_posterior(jnp.asarray(among[:, 1]), jnp.asarray(among), jnp.log(share), one)
    mass = mass[:, 1:]
    np.testing.assert_allclose(found, np.log(mass[:, 1] / mass.sum(1)), rtol=1e-12)


@pytest.mark.parametrize(
    ("spec", "reader", "says"),
    [
        ("clip_guidance('DIR', form='raw')", READER, "allowed: bank, logit, true"),
        ("clip_guidance('DIR', '1', form='true', bank=('0',))", READER, "is for form='bank'"),
        ("clip_guidance('DIR', '', form='bank')", READER, "gives no guidance"),
        ("clip_guidance('DIR')", None, "takes no captions"),
        (
            "clip_guidance('DIR', form='bank')",
            registry.build("text_encoders", "bytes()"),
            r"encodes texts differently.*.words.length=32. with 5 token numbers, not "
            "bytes.length=80. with 259",
        ),
    ],
)
def test_who_asks_for_what_there_is_not(spec, reader, says):
    context = Context(open=lambda kind, path: Exact(MIXTURE), reader=reader)
    with pytest.raises(ConfigError, match=says):
        registry.build("guidance", spec).check(context)
