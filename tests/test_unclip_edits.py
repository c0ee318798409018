"""Edits of what a CLIP sees, on normal images whose mean is a linear function of it."""

import dataclasses
from contextlib import nullcontext
from types import SimpleNamespace

import gaussian_edits
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_clip import clip
from linear_gaussian import MAP, NOISE, Exact

from diffusion_jax import config, registry
from diffusion_jax.data import vectors
from diffusion_jax.data.vectors import Scale
from diffusion_jax.errors import ConfigError, SpecError
from diffusion_jax.experiment.embeddings import Embedder
from diffusion_jax.experiment.sampling import edit_scores
from diffusion_jax.sampling.edits import base as edits
from diffusion_jax.sampling.edits.base import Inputs, sees
from diffusion_jax.types import alpha, sigma

pytestmark = pytest.mark.usefixtures("float64")

EMBEDDER = Embedder(clip((1, 2, 1), 5, 3), Scale((0.3, -0.2, 0.1), (1.0, 0.7, 1.5)))
X = np.asarray([[0.3, -0.4], [0.5, 0.9], [-0.8, 0.1], [0.2, 0.2]]).reshape(4, 1, 2, 1)
TOLD = EMBEDDER.of_raw(np.random.default_rng(0).normal(size=(4, 3)))


def inputs(x=X, told=TOLD, each=1, mask=None):
    return Inputs(x, mask, {"embedding": told}, each, EMBEDDER)


def edited(spec, given, sampler="heun()", steps=60):
    edit = registry.build("edits", spec)
    layout = edit.lay_out(given)
    tool = gaussian_edits.brush(Exact(vector=False), edit.plan(gaussian_edits.grid(steps)), sampler)
    edit.check(tool.model, tool.method)
    canvas = jax.tree.map(jnp.asarray, layout.canvas)
    made = jax.jit(lambda c, k: edit.paint(dataclasses.replace(tool), c, k))(
        canvas, gaussian_edits.KEY
    )
    return np.asarray(made).reshape(-1, 2), layout


def mean(told):
    return told[:, :-1].astype(float) @ MAP.T


def latent(x, m):
    """At the end of the flow of N(m, NOISE), which keeps what is standard normal in it."""
    a, s = (float(f(jnp.asarray(gaussian_edits.ENDS[1]))) for f in (alpha, sigma))
    return a * m + np.sqrt(a**2 * NOISE + s**2) * (x - m) / np.sqrt(NOISE)


def image(z, m):
    a, s = (float(f(jnp.asarray(gaussian_edits.ENDS[1]))) for f in (alpha, sigma))
    return m + np.sqrt(NOISE) * (z - a * m) / np.sqrt(a**2 * NOISE + s**2)


@pytest.mark.parametrize("theta", [0.0, 0.35, 1.0])
def test_a_difference_of_texts_turns_what_is_told_and_keeps_the_latent(theta):
    x, layout = edited(f"textdiff('ab', 'cd', theta={theta})", inputs())
    raw = EMBEDDER.raw(TOLD)
    old, new = vectors.unit(EMBEDDER.texts(["ab", "cd"]))
    way = np.broadcast_to(new - old, raw.shape)
    turned = EMBEDDER.raw(layout.canvas.extra["vector"])
    inside = np.abs(EMBEDDER.scale.standard(turned)) < 2.9  # others are clipped
    size = np.linalg.norm(raw, axis=1, keepdims=True)
    off = np.abs(turned - size * vectors.slerp(raw, way, theta)) / np.asarray(EMBEDDER.scale.std)
    assert inside.mean() > 0.6 and off[inside].max() < 0.048
    told = layout.canvas.extra["vector"]
    wanted = image(latent(X.reshape(-1, 2), mean(TOLD)), mean(told))
    np.testing.assert_allclose(x, wanted, atol=2e-3)
    if theta == 0.0:
        np.testing.assert_array_equal(told, TOLD)
        np.testing.assert_allclose(x, X.reshape(-1, 2), atol=2e-3)


def test_a_way_between_images_ends_at_them_and_takes_the_latents_along():
    x, layout = edited("between(frames=5)", inputs())
    told, weight = layout.canvas.extra["vector"], np.tile(np.linspace(0, 1, 5), 2)
    np.testing.assert_array_equal(told[::5], TOLD[::2])
    np.testing.assert_array_equal(told[4::5], TOLD[1::2])
    np.testing.assert_allclose(x[::5], X[::2].reshape(-1, 2), atol=2e-3)
    np.testing.assert_allclose(x[4::5], X[1::2].reshape(-1, 2), atol=2e-3)
    ends = [latent(X[i::2].reshape(-1, 2), mean(TOLD[i::2])).repeat(5, 0) for i in (0, 1)]
    u = [e / np.linalg.norm(e, axis=1, keepdims=True) for e in ends]
    angle = np.arccos((u[0] * u[1]).sum(1))
    share = [np.sin((1 - weight) * angle), np.sin(weight * angle)] / np.sin(angle)
    z = share[0][:, None] * ends[0] + share[1][:, None] * ends[1]
    np.testing.assert_allclose(x, image(z, mean(told)), atol=2e-3)


def test_frames_that_begin_at_one_latent_differ_by_what_they_are_told_alone():
    x, layout = edited("between(frames=4, latent='one')", inputs(each=2))
    rest = (x - mean(layout.canvas.extra["vector"])).reshape(4, 4, 2)
    np.testing.assert_allclose(rest, rest[:, :1] + np.zeros(rest.shape), atol=5e-3)
    assert np.abs(rest[0, 0] - rest[1, 0]).max() > 0.01  # another line, another latent


def test_variations_have_the_law_of_what_is_told():
    n = 20000
    x, layout = edited("vary(eta=1.0)", inputs(X[:1], TOLD[:1], each=n), "dpmpp_2m()", 40)
    m = mean(TOLD[:1])[0]
    assert layout.columns == n
    np.testing.assert_allclose(x.mean(0), m, atol=4 * np.sqrt(NOISE / n) + 0.002)
    np.testing.assert_allclose(x.var(0), NOISE, rtol=4 * np.sqrt(2 / n) + 0.01)
    far, _ = edited("vary(eta=0.3)", inputs(X[:1], TOLD[:1], each=2000), "ddim()", 40)
    assert np.abs(far - X[0].ravel()).mean() < np.abs(x - X[0].ravel()).mean()


@pytest.mark.parametrize(("sampler", "order"), [("ddim()", 1), ("heun()", 2)])
def test_without_noise_the_image_comes_back_at_the_order_of_the_sampler(sampler, order):
    off = [np.abs(edited("vary(eta=0.0, solver='rk4()')", inputs(), sampler, n)[0]
                  - X.reshape(-1, 2)).max() for n in (30, 60)]  # fmt: skip
    assert np.log2(off[0] / off[1]) == pytest.approx(order, abs=0.5)


def opposite():
    embedder = Embedder(EMBEDDER.clip, Scale((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
    told = embedder.of_raw(np.asarray([[0.5, 0.4, 0.3], [-0.5, -0.4, -0.3]]))
    return Inputs(X[:2], None, {"embedding": told}, 1, embedder)


def begin(spec, given, sampler):
    edit = registry.build("edits", spec)
    edit.lay_out(given)
    tool = gaussian_edits.brush(Exact(vector=False), edit.plan(gaussian_edits.grid(4)), sampler)
    edit.check(tool.model, tool.method)


@pytest.mark.parametrize(
    ("spec", "given", "sampler", "says"),
    [("vary()", Inputs(X, None, {}, 1), "ddim()", "vary changes the CLIP embedding .*decoder"),
     ("between()", Inputs(X, None, {}, 1), "ddim()", "between changes the CLIP embedding"),
     ("textdiff('a', 'b')", Inputs(X, None, {}, 1), "ddim()", "textdiff changes the CLIP"),
     ("vary()", inputs(mask=np.ones((4, 1, 2, 1))), "ddim()", "vary takes no mask"),
     ("vary(eta=0.0)", inputs(each=2), "ddim()", "results would be equal"),
     ("vary()", inputs(), "heun()", r"Heun has no eta.*ddim\(\) or dpmpp_2m\(\)"),
     ("vary(eta=0.0)", inputs(), "ancestral()", "draws noise"),
     ("between()", inputs(each=2), "ddim()", "latent='one'"),
     ("between()", inputs(X[:3], TOLD[:3]), "ddim()", "pairs of images, but there are 3"),
     ("between(frames=2)", opposite(), "ddim()", "between: two vectors .* opposite"),
     ("textdiff('a', 'b')", inputs(each=2), "ddim()", "results would be equal"),
     ("textdiff('a', 'b')", inputs(), "ancestral()", "draws noise"),
     ("textdiff('a', 'aa')", inputs(), "ddim()", "sees no difference between 'a' and 'aa'")],
)  # fmt: skip
def test_mistakes_are_one_line(spec, given, sampler, says):
    if "'aa'" in spec:
        one = dataclasses.replace(EMBEDDER.clip, texts=lambda strings: np.ones((len(strings), 3)))
        given = given._replace(embedder=dataclasses.replace(EMBEDDER, clip=one))
    with pytest.raises(ConfigError, match=says) as e:
        begin(spec, given, sampler)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("spec", "says"),
    [("textdiff('a', 'a')", "both 'a'; give two texts"), ("textdiff()", "give two texts"),
     ("textdiff('a', 'b', theta=1.5)", "theta=1.5 must be a number from 0 to 1"),
     ("vary(eta=-0.1)", "eta=-0.1 must be"), ("between(latent='two')", "allowed: both, one"),
     ("vary(solver='ancestral()')", "draws noise")],
)  # fmt: skip
def test_arguments_that_cannot_be(spec, says):
    with pytest.raises((ConfigError, SpecError), match=says):
        registry.build("edits", spec)


def test_edits_that_paint_a_part_are_not_told_what_was_there():
    specs = ["vary()", "between()", "textdiff('a', 'b')", "sdedit()", "interpolate()", "replace()",
             "repaint()", "posterior()", "outpaint(left=1)", "widen(left=1)", "extend(left=1)",
             "blend()"]  # fmt: skip
    known = [sees(registry.build("edits", s)) for s in specs]
    assert known == [True] * 5 + [False] * 7


class Bright:
    """Whether the first pixel is what the text says, `"3"`, and the second, `"? 4"`."""

    names = ("first", "second")

    def right(self, images, texts):
        said = [[float(w) if w != "?" else np.nan for w in t.split()] for t in texts]
        said = np.asarray([(*row, np.nan)[:2] for row in said])
        return np.where(np.isnan(said), np.nan, said == images.reshape(-1, 2))


def judged(given, aim="", extra=None, columns=1, drawn=None, each=1):
    layout = edits.Layout(edits.Canvas(given, given, {}, extra or {}), columns)
    texts = tuple(f"{a:g} {b:g}" for a, b in given.reshape(-1, 2))
    if extra:
        texts = tuple(texts[i] for i in (0, columns - 1))
    run = SimpleNamespace(config=config.base(), data=None)
    run.config.edit.judge = "bright()"
    asked = Inputs(given, None, {}, each, None, texts)
    with pytest.MonkeyPatch.context() as m:
        m.setattr(registry, "build", lambda kind, spec, **context: Bright())
        return edit_scores.scores(run, SimpleNamespace(aim=aim), asked, layout, drawn)


def test_what_has_changed_and_what_is_kept_are_two_numbers():
    before = np.asarray([[1, 1], [1, 2], [3, 1], [1, 1]]).reshape(4, 1, 2, 1)
    after = np.asarray([[3, 1], [1, 2], [3, 5], [3, 6]]).reshape(4, 1, 2, 1)
    found = judged(before, aim="3", drawn=after)
    assert {k: v["value"] for k, v in found["sources"].items()} == dict.fromkeys(
        ("first", "second", "all"), 1.0
    )
    # The third shows it already: kept is asked of it, not changed.
    assert found["changed"]["first"]["value"] == pytest.approx(2 / 3)
    assert found["changed"]["first"]["images"] == 3 and "second" not in found["changed"]
    assert found["kept"]["second"]["value"] == pytest.approx(2 / 4)
    assert found["kept"]["first"] == {"value": 1.0, "standard_error": 0.0, "images": 1}
    found = judged(before, drawn=after)  # without a text to go to
    assert "changed" not in found and found["kept"]["first"]["value"] == pytest.approx(2 / 4)
    assert [line.split(":")[0] for line in edit_scores.lines(found)] == ["sources", "kept"]


def test_frames_are_held_against_both_ends():
    frames = np.asarray([[1, 1], [1, 1], [2, 2]]).reshape(3, 1, 2, 1)
    extra = {"weight": np.asarray([0.0, 0.5, 1.0])}
    found = judged(frames, extra=extra, columns=3, drawn=frames)["frames"]
    assert [f["first"]["value"] for f in found] == [1.0, 1.0, 0.0]
    assert [f["second"]["value"] for f in found] == [0.0, 0.0, 1.0]


def test_a_judge_of_images_without_captions():
    run = SimpleNamespace(config=config.base(), data=None)
    run.config.edit.judge, run.config.edit.image = "scenes()", "mine.png"
    with pytest.raises(ConfigError, match=r"edit.judge='scenes\(\)'.*mine.png has none: use"):
        edit_scores.check(run, SimpleNamespace(), inputs())


@pytest.mark.parametrize(
    ("aim", "captions", "size", "message"),
    [("a (red:2) three", ("a digit",), 16, None), ("", ("a digit",), 16, None),
     ("a red cat", ("a digit",), 16, "not a caption of these scenes"),
     ("a three", ("a digit", "a cat"), 16, "not a caption of these scenes"),
     ("a three", ("a digit",), 8, r"images are \(8, 8, 3\)")],
)  # fmt: skip
def test_a_judge_refuses_texts_and_images_before_anything_is_drawn(aim, captions, size, message):
    run = SimpleNamespace(config=config.base(), data=None)
    run.config.edit.judge = "scenes()"
    images = np.zeros((len(captions), size, size, 3), np.uint8)
    asked = Inputs(images, None, {}, 1, None, captions)
    refused = nullcontext() if message is None else pytest.raises(ConfigError, match=message)
    with refused:
        edit_scores.check(run, SimpleNamespace(aim=aim), asked)
