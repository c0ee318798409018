"""Every guidance found in the folder keeps the contract; identities between the methods."""

import importlib
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closed_form import MIXTURE, build
from guided import SHIFTED, batch, consistent, guide, same

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError
from diffusion_jax.process.parameterization import from_pred, to_pred
from diffusion_jax.sampling import integrate
from diffusion_jax.sampling.guidance.base import Context
from diffusion_jax.types import Pred

pytestmark = pytest.mark.usefixtures("float64")
KEY = jax.random.key(0)
GAMMAS = [-9.0, -1.0, 0.7, 4.0]


def spec_of(name):
    """A plug-in with the arguments it cannot do without; with a text, of a yes-or-no form."""
    takes = inspect.signature(
        importlib.import_module(f"diffusion_jax.sampling.guidance.{name}").make
    )
    needed = {
        "inner": "cfg(w=3.0)",
        "checkpoint": "'DIR'",
        "text": "'three'",
        "form": "'true'",
        "parts": "((0, 1.0),)",
    }
    given = [p.name for p in takes.parameters.values()
             if p.default is p.empty or p.name in ("text", "form")]  # fmt: skip
    return f"{name}({', '.join(f'{k}={needed[k]}' for k in given)})"


SPECS = [spec_of(name) for name in registry.available("guidance")]


@pytest.mark.parametrize("spec", SPECS)
def test_contract(spec):
    """Shapes; one gamma or one per example; examples do not see one another; under jit."""
    denoise = guide(spec)
    z, cond = batch()
    for gamma in jnp.array(GAMMAS[1:3]):
        pred = denoise(z, gamma, cond)
        assert isinstance(pred, Pred)
        assert pred.x.shape == pred.eps.shape == z.shape
        assert pred.x.dtype == pred.eps.dtype == z.dtype
        same(denoise(z, jnp.full(3, gamma), cond), pred)
        same(jax.jit(denoise)(z, gamma, cond), pred)
        alone = [denoise(z[i : i + 1], gamma, {"label": cond["label"][i : i + 1]}) for i in (0, 1)]
        same(jax.tree.map(lambda *p: jnp.concatenate(p), *alone), Pred(*(p[:2] for p in pred)))
    mixed = denoise(z, jnp.array(GAMMAS[:3]), cond)
    for i, gamma in enumerate(GAMMAS[:3]):
        row = denoise(z, jnp.asarray(gamma), cond)
        same(Pred(*(p[i] for p in mixed)), Pred(*(p[i] for p in row)))


@pytest.mark.parametrize("spec", SPECS)
def test_images_and_single_precision(spec):
    """Four axes as in images, float32 in and out, finite at both ends."""
    z, cond = batch()
    image = jnp.stack([z] * 6, axis=1).reshape(3, 2, 3, 2).astype(jnp.float32)

    def flat(f):
        def denoise(z, gamma, cond):
            pixels = z.reshape(z.shape[0], 6, 2)
            label = {"label": jnp.repeat(cond["label"], 6)}
            g = jnp.repeat(gamma, 6) if jnp.ndim(gamma) else gamma
            out = f(pixels.reshape(-1, 2), g, label)
            return jax.tree.map(lambda p: p.reshape(z.shape).astype(z.dtype), out)

        return denoise

    def log_prob(z, gamma, cond):
        return -jnp.square(z).sum((1, 2, 3))

    context = Context(MIXTURE.null, flat(SHIFTED.conditional), log_prob, lambda *which: log_prob)
    denoise = guide(spec, context, flat(MIXTURE.conditional))
    for gamma in (jnp.float32(-13.3), jnp.float32(5.0), jnp.full(3, 5.0, jnp.float32)):
        pred = denoise(image, gamma, cond)
        assert pred.x.shape == image.shape
        assert pred.x.dtype == pred.eps.dtype == jnp.float32
        assert all(jnp.isfinite(p).all() for p in pred)


@pytest.mark.parametrize("spec", SPECS)
def test_nothing_is_called_while_building(spec):
    def never(*args):
        raise AssertionError("called")

    guide(spec, Context(MIXTURE.null, never, never, lambda *which: never), never)


@pytest.mark.parametrize("spec", SPECS)
def test_runs_in_a_sampler(spec):
    z, cond = batch()
    denoise = guide(spec)
    end = integrate(
        lambda z, gamma: denoise(z, gamma, cond), build("ddim()"), np.linspace(4, -9, 5), z, KEY
    )
    assert jnp.isfinite(end).all()


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("cfg()", "no null class"),
        ("cfgpp()", "no null class"),
        ("apg()", "no null class"),
        ("interval(cfg(w=2.0))", "no null class"),
        ("autoguidance()", "second model"),
        ("classifier()", "log_prob"),
        ("discriminator('DIR')", "cannot be opened"),
        ("clip_guidance('DIR', 'three')", "cannot be opened"),
        ("classifier(checkpoint='DIR')", "cannot be opened"),
    ],
)
def test_what_a_method_needs_is_asked_for(spec, says):
    with pytest.raises(ConfigError, match=says):
        guide(spec, Context())


@pytest.mark.parametrize(
    "bad",
    [
        "interval(none(), lo=1.0, hi=1.0)",
        "rescale(none(), phi=1.5)",
        "threshold(none(), p=99.5)",
        "clip_denoised(none(), lo=1.0, hi=-1.0)",
        "apg(r=0.0)",
    ],
)
def test_settings_are_checked(bad):
    with pytest.raises(ConfigError):
        guide(bad)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_cfg_is_the_same_in_every_parameterization(gamma):
    """A network that predicts eps, x or v, its outputs mixed before they are translated."""
    z, cond = batch()
    gamma = jnp.asarray(gamma)
    pred = guide("cfg(w=2.5)")(z, gamma, cond)
    consistent(pred, z, gamma)
    for kind in ("eps", "v", "x"):
        outputs = [
            from_pred(kind, MIXTURE.conditional(z, gamma, c), gamma)
            for c in (MIXTURE.null(cond), cond)
        ]
        mixed = (1 - 2.5) * outputs[0] + 2.5 * outputs[1]
        same(to_pred(kind, mixed, z, gamma), pred, tol=1e-8)


def calls(spec, gamma):
    """Sizes of the batches the network is called with, as it runs."""
    sizes = []

    def denoiser(z, gamma, cond):
        jax.debug.callback(lambda n=z.shape[0]: sizes.append(n))
        return MIXTURE.conditional(z, gamma, cond)

    jax.block_until_ready(jax.jit(guide(spec, denoiser=denoiser))(batch()[0], gamma, batch()[1]))
    jax.effects_barrier()
    return sizes


def test_weights_0_and_1():
    z, cond = batch()
    gamma = jnp.asarray(0.5)
    same(guide("cfg(w=1.0)")(z, gamma, cond), MIXTURE.conditional(z, gamma, cond), tol=0)
    same(guide("cfg(w=0.0)")(z, gamma, cond), MIXTURE.denoise(z, gamma))
    same(guide("cfg(w=1e-14)")(z, gamma, cond), MIXTURE.denoise(z, gamma))
    assert calls("cfg(w=1.0)", gamma) == calls("cfg(w=0.0)", gamma) == [3]
    assert calls("cfg(w=1.5)", gamma) == calls("cfgpp()", gamma) == calls("apg()", gamma) == [6]


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_an_exact_classifier_is_cfg(gamma, scale):
    """Bayes: the unconditional score plus s times the classifier's is CFG with w = s."""
    z, cond = batch()
    gamma = jnp.asarray(gamma)
    unconditional = lambda z, gamma, cond: MIXTURE.denoise(z, gamma)
    found = guide(f"classifier(scale={scale})", denoiser=unconditional)(z, gamma, cond)
    same(found, guide(f"cfg(w={scale})")(z, gamma, cond))
    consistent(found, z, gamma)
    nested = guide(f"classifier(scale={scale}, inner=cfg(w=0.0))")(z, gamma, cond)
    same(nested, found)


def test_interval_edges_and_calls():
    spec = "interval(cfg(w=3.0), lo=-1.0, hi=0.7)"
    z, cond = batch()
    inside, outside = guide("cfg(w=3.0)"), MIXTURE.conditional
    for gamma, expected, sizes in [
        (-1.0, outside, [3]),
        (-0.999, inside, [6]),
        (0.7, inside, [6]),
        (0.701, outside, [3]),
    ]:
        same(guide(spec)(z, jnp.asarray(gamma), cond), expected(z, jnp.asarray(gamma), cond))
        assert calls(spec, jnp.asarray(gamma)) == sizes
    everywhere = guide("interval(cfg(w=3.0))")(z, jnp.asarray(9.0), cond)
    same(everywhere, inside(z, jnp.asarray(9.0), cond))


def test_rescale():
    z, cond = batch()
    gamma = jnp.asarray(0.5)
    plain, strong = MIXTURE.conditional(z, gamma, cond), guide("cfg(w=4.0)")(z, gamma, cond)
    same(guide("rescale(cfg(w=4.0), phi=0.0)")(z, gamma, cond), strong, tol=0)
    full = guide("rescale(cfg(w=4.0), phi=1.0)")(z, gamma, cond)
    half = guide("rescale(cfg(w=4.0), phi=0.5)")(z, gamma, cond)
    same(full.x.std(1), plain.x.std(1))
    same(half.x, 0.5 * (full.x + strong.x))
    consistent(full, z, gamma)
    same(guide("rescale(none(), phi=1.0)")(z, gamma, cond), plain)


def test_rescale_leaves_a_prediction_without_contrast_alone():
    """Rounding is no contrast, and gradients through it are finite."""

    def flat(z, gamma, cond):
        return to_pred("x", jnp.full_like(z, 0.3) + 1e-9 * z, z, gamma)

    denoise = registry.build("guidance", "rescale(none(), phi=1.0)")(flat, Context())
    z, gamma = jax.random.normal(jax.random.key(0), (2, 8, 8, 1)), jnp.asarray(1.0)
    same(denoise(z, gamma, {}).x, flat(z, gamma, {}).x)
    grad = jax.grad(lambda z: jnp.sum(denoise(0.0 * z, gamma, {}).x))(z)
    assert jnp.all(jnp.isfinite(grad))


def test_apg():
    z, cond = batch()
    gamma = jnp.asarray(0.5)
    given = MIXTURE.conditional(z, gamma, cond)
    same(guide("apg(w=3.0, eta=1.0)")(z, gamma, cond), guide("cfg(w=3.0)")(z, gamma, cond))
    same(guide("apg(w=1.0, r=0.1)")(z, gamma, cond), given)
    orthogonal = guide("apg(w=3.0)")(z, gamma, cond)
    same(jnp.sum((orthogonal.x - given.x) * given.x, 1), jnp.zeros(3))
    consistent(orthogonal, z, gamma)
    short = guide("apg(w=3.0, eta=1.0, r=0.01)")(z, gamma, cond).x - given.x
    same(jnp.linalg.norm(short, axis=1), jnp.full(3, 2.0 * 0.01))


def test_autoguidance():
    z, cond = batch()
    gamma = jnp.asarray(0.5)
    at = lambda w: guide(f"autoguidance(w={w})")(z, gamma, cond)
    same(at(0.0), SHIFTED.conditional(z, gamma, cond))
    same(at(1.0), MIXTURE.conditional(z, gamma, cond), tol=0)
    same(jax.tree.map(lambda a, b: 0.5 * (a + b), at(0.0), at(2.0)), at(1.0))
    consistent(at(2.0), z, gamma)


@pytest.mark.parametrize(
    ("named", "given"),
    [
        ("autoguidance(w=3.0, checkpoint='DIR')", "autoguidance(w=3.0)"),
        ("classifier(scale=2.0, checkpoint='DIR')", "classifier(scale=2.0)"),
        ("discriminator('DIR', scale=2.0)", "classifier(scale=2.0)"),
        ("clip_guidance('DIR', 'three', scale=2.0, form='true')", "classifier(scale=2.0)"),
    ],
)
def test_a_named_checkpoint_is_what_is_followed(named, given):
    z, cond = batch()
    gamma = jnp.asarray(0.7)
    same(guide(named)(z, gamma, cond), guide(given)(z, gamma, cond))
    plain = MIXTURE.conditional(z, gamma, cond)
    assert jnp.abs(guide(named)(z, gamma, cond).x - plain.x).max() > 1e-3
