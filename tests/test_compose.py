"""Several conditions at once, on Gaussians whose product is known."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closed_form import MIXTURE, from_x

from diffusion_jax import registry
from diffusion_jax.denoiser import with_condition
from diffusion_jax.errors import ConfigError
from diffusion_jax.sampling import integrate
from diffusion_jax.sampling.guidance.base import Context
from diffusion_jax.types import alpha, expand, sigma


def components(*laws):
    """A denoiser of `(mean, variance)` by the number in its text, 0 for none, and its context."""
    means, variances = (jnp.asarray(v) for v in zip(*laws, strict=True))

    def denoise(z, gamma, cond):
        k = cond["text"][:, 0]
        m, v, g = means[k][:, None], variances[k][:, None], expand(gamma, z)
        a, s = alpha(g), sigma(g)
        return from_x(m + a * v * (z - a * m) / (a**2 * v + s**2), z, gamma)

    encode = {f"part {k}": {"text": np.full((1, 1), k)} for k in range(len(laws))}

    def null(cond):
        return {**cond, "text": jnp.zeros_like(cond["text"])}

    return denoise, Context(null=null, encode=encode.__getitem__)


def ends(spec, laws, corrector="none()", n=4000, steps=100):
    """Mean and variance of what `spec` draws."""
    denoise, context = components(*laws)
    guided = registry.build("guidance", spec)(denoise, context)
    cond = {"text": jnp.ones((n, 1), jnp.int32)}
    correct = registry.build("correctors", corrector)
    gammas = np.linspace(10.0, -10.0, steps + 1)

    @jax.jit
    def run(key):
        z = jax.random.normal(key, (n, 1))
        return integrate(with_condition(guided, cond), registry.build("samplers", "heun()"),
                         gammas, z, key, correct=correct)  # fmt: skip

    x = np.asarray(run(jax.random.key(0)))
    return x.mean(), x.var()


AND = "compose(parts=(('part 1', 1.0), ('part 2', 1.0)), base=0.0)"


def test_parts_of_one_spread_multiply_exactly():
    """Means 1 and 0, all of variance 1/4, against nothing: the product has their sum."""
    mean, var = ends(AND, ((0.0, 0.25), (1.0, 0.25), (-0.5, 0.25)))
    assert mean == pytest.approx(0.5, abs=0.03) and var == pytest.approx(0.25, rel=0.07)


def test_parts_of_other_spreads_multiply_with_the_corrector_only():
    laws = ((0.0, 1.0), (1.0, 0.25), (-0.5, 0.09))
    precision = 1 / 0.25 + 1 / 0.09 - 1
    truth = (1 / 0.25 - 0.5 / 0.09) / precision, 1 / precision
    plain = ends(AND, laws)
    assert plain[0] == pytest.approx(0.114, abs=0.01)
    assert plain[1] == pytest.approx(0.0225, rel=0.07)
    mean, var = ends(AND, laws, "langevin(r=0.25, repeats=8)")
    assert mean == pytest.approx(truth[0], abs=0.02) and var == pytest.approx(truth[1], rel=0.12)


def both(one, other, context=None):
    """What two guidances predict of the same latents."""
    denoise, own = components((0.0, 1.0), (1.0, 0.25), (-0.5, 0.09))
    z, gamma = jnp.linspace(-2, 2, 6)[:, None], jnp.linspace(-3, 3, 6)
    cond = {"text": jnp.full((6, 1), 1)}
    return [registry.build("guidance", s)(denoise, context or own)(z, gamma, cond)
            for s in (one, other)]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "same"),
    [("compose(parts=(('part 1', 2.5),), base=0.0)", "cfg(w=2.5)"),
     ("compose(parts=(('part 1', 1.0), ('part 1', 1.0)), base=0.0)", "cfg(w=2.0)"),
     ("compose(parts=(('part 1', 1.0),))", "cfg(w=2.0)"),
     ("compose(parts=(('part 2', -0.5), ('part 2', 0.5)), base=1.0)", "none()")],
)  # fmt: skip
def test_one_part_is_classifier_free_guidance(spec, same):
    for a, b in zip(*both(spec, same), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_classes_are_parts_too():
    context = Context(null=MIXTURE.null)
    z, gamma = jnp.ones((3, 2)), jnp.zeros(3)
    build = functools.partial(registry.build, "guidance")
    told = {"label": jnp.asarray([0, 1, 2])}
    one = build("compose(parts=((1, 2.0),), base=0.0)")(MIXTURE.conditional, context)
    two = build("cfg(w=2.0)")(MIXTURE.conditional, context)
    same = {"label": jnp.ones(3, jnp.int32)}
    np.testing.assert_allclose(one(z, gamma, told).x, two(z, gamma, same).x, rtol=1e-5)
    with pytest.raises(ConfigError, match="there is no class 3; there are 3"):
        build("compose(parts=((3, 1.0),))").check(context)


@pytest.mark.parametrize(
    "spec", ["cfg(w=2.0, negative='part 2')", "compose(parts=(('part 2', 1.0),), base=0.5)"]
)
@pytest.mark.parametrize("weighted", ["image", "other", "both"])
def test_weights_of_words_may_be_in_some_texts_only(spec, weighted):
    """A text without brackets is one whose words count once."""
    denoise, context = components((0.0, 1.0), (1.0, 0.25), (-0.5, 0.5))

    def told(spec, image, other):
        """What is drawn if the words of the image's text, and of the other one, count so often."""
        counts = lambda n: {} if n is None else {"text_weight": np.full((1, 1), n)}
        own = dataclasses.replace(
            context, encode=lambda text: {**context.encode(text), **counts(other)}
        )
        asked = lambda z, g, cond: jax.tree.map(
            lambda a: a * cond.get("text_weight", jnp.ones((len(z), 1))), denoise(z, g, cond)
        )
        cond = {"text": jnp.ones((3, 1), jnp.int32)}
        cond |= {k: jnp.repeat(a, 3, 0) for k, a in counts(image).items()}
        z, gamma = jnp.asarray([[0.5], [-1.0], [2.0]]), jnp.asarray([-1.0, 0.0, 2.0])
        return registry.build("guidance", spec)(asked, own)(z, gamma, cond).x

    image, other = (2.0 if weighted in (who, "both") else None for who in ("image", "other"))
    found = told(spec, image, other)
    np.testing.assert_allclose(found, told(spec, image or 1.0, other or 1.0), rtol=1e-6)
    assert np.abs(found - told(spec, None, None)).max() > 0.1


@pytest.mark.parametrize(
    "spec", ["cfg(w=2.0, negative='part 2')", "compose(parts=(('part 2', 1.0),), base=0.5)"]
)
def test_images_without_even_the_null_text_are_named(spec):
    denoise, context = components((0.0, 1.0), (1.0, 0.25), (-0.5, 0.5))
    context = dataclasses.replace(context, null=lambda cond: cond)  # as a model's, without a text
    with pytest.raises(ConfigError, match="the images have no text: set captions"):
        registry.build("guidance", spec)(denoise, context)(jnp.ones((1, 1)), jnp.zeros(1), {})


@pytest.mark.parametrize(
    ("spec", "message"),
    [("compose(parts=())", "must be pairs of a text, or a class, and its weight"),
     ("compose(parts=('a red three', 1.0))", "must be pairs"),
     ("compose(parts=(('a', 'b'),))", "must be pairs"),
     ("compose(parts=(('a', 1.0),))", "compose.*'a'.*was trained without text")],
)  # fmt: skip
def test_parts_that_are_none(spec, message):
    with pytest.raises(ConfigError, match=message) as e:
        registry.build("guidance", spec).check(Context(null=MIXTURE.null))
    assert "\n" not in str(e.value)
