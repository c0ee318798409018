"""A CLIP of noisy images and their captions: what is true, and what batches do not change."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from weights import moved

from diffusion_jax import registry
from diffusion_jax.data import captions as captions_lib
from diffusion_jax.data.datasets import _grammar as grammar
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import clip_model, other_runs
from diffusion_jax.networks.guides import _pair, clip
from diffusion_jax.networks.text_encoders.base import encode
from diffusion_jax.testing import networks

SHAPE = (4, 4, 1)
TEXTS = ("a red three", "a seven", "top left: a digit", "a red digit")


@pytest.fixture(scope="module")
def made():
    text = registry.build("text_encoders", "bytes(length=24, width=8, depth=0, heads=2)")
    built = registry.build(
        "guides", "clip(width=8, mults=(1,), blocks=1, size=6)", text=text, gamma_min=-6.0,
        gamma_max=4.0,
    )  # fmt: skip
    return built, moved(jax.jit(lambda k: built.init(k, SHAPE))(jax.random.key(0)), 0.2)


def told(built, order=(0, 1, 2, 3)):
    order = jnp.asarray(order)
    ids = jnp.asarray(encode(built.text, TEXTS))[order]
    return {"label": 0 * order, "text": ids, "caption": order, "captions": order[:, None]}


@functools.partial(jax.jit, static_argnums=0)
def lost(built, params, z, gamma, told):
    return built.loss(params, z, gamma, told, None)


def images(n=4):
    return jax.random.normal(jax.random.key(1), (n, *SHAPE)), jnp.linspace(-5.0, 3.0, n)


def test_contract(made):
    built, _ = made
    networks.guide(built, {k: v for k, v in told(built).items() if k != "label"})


@functools.partial(jax.jit, static_argnums=0)
def vectors(built, params, z, gamma, text):
    f, g = clip.unit(built.embed_image(params, z, gamma)), clip.unit(built.embed_text(params, text))
    return f, g, built.logits(params, f, g, gamma)


def test_the_loss_is_the_mean_over_pairs_in_any_order(made):
    built, params = made
    z, gamma = images()
    found = lost(built, params, z, gamma, told(built))
    f, _, logits = map(np.asarray, vectors(built, params, z, gamma, told(built)["text"]))
    np.testing.assert_allclose(np.linalg.norm(f, axis=1), 1.0, rtol=1e-5)
    sign = 2.0 * np.eye(4) - 1.0
    np.testing.assert_allclose(found["loss"], np.log1p(np.exp(-sign * logits)).mean(1), rtol=1e-4)
    others = np.where(np.eye(4, dtype=bool), -np.inf, logits).max(1)
    np.testing.assert_array_equal(found["retrieval"], np.diag(logits) > others)
    order = np.array([2, 0, 3, 1])
    again = lost(built, params, z[order], gamma[order], told(built, order))
    for k, v in found.items():
        np.testing.assert_allclose(again[k], v[order], rtol=1e-4, atol=1e-6)


def test_a_bank_makes_the_loss_of_an_image_its_own(made):
    built, params = made
    z, gamma = images()
    asked = told(built)
    bank = {k: asked[k] for k in ("text", "caption")}
    whole = lost(built, params, z, gamma, {**asked, "bank": bank})
    plain = lost(built, params, z, gamma, asked)
    alike = np.array([1, 1, 1, 1])  # its neighbours are itself
    same = {k: v[alike] for k, v in asked.items()}
    one = lost(built, params, z[alike], gamma[alike], {**same, "bank": bank})
    for k, v in whole.items():
        np.testing.assert_allclose(v, plain[k], rtol=1e-4)
        np.testing.assert_allclose(one[k], v[alike], rtol=1e-4)


def test_who_has_no_caption_is_left_out(made):
    built, params = made
    z, gamma = images()
    asked = told(built)
    gone = {**asked, "caption": asked["caption"].at[3].set(-1),
            "captions": asked["captions"].at[3].set(-1)}  # fmt: skip
    found = lost(built, params, z, gamma, gone)
    logits = np.asarray(vectors(built, params, z, gamma, asked["text"])[2])[:3, :3]
    pairs = np.log1p(np.exp(-(2.0 * np.eye(3) - 1.0) * logits))
    np.testing.assert_allclose(found["loss"], [*pairs.mean(1), 0.0], rtol=1e-4)


def test_scale_is_at_most_100_and_both_know_gamma(made):
    built, params = made
    scale, offset = built.network.apply(
        {"params": params["network"]}, jnp.asarray([-5.0, 3.0]), method="line"
    )
    assert scale[0] != scale[1]
    assert offset[0] != offset[1]
    slope = {**params["network"]["slope"], "bias": jnp.asarray([50.0, 0.0])}
    large = {**params["network"], "slope": slope}
    scale, _ = built.network.apply({"params": large}, jnp.zeros(1), method="line")
    np.testing.assert_allclose(scale, 100.0, rtol=1e-5)


@pytest.mark.parametrize("objects", [1, (1, 2)])
def test_truth_of_scenes_against_their_attributes(objects):
    """A caption is true of a scene with as many objects, each of which is what it says of it."""
    split = registry.build("data", f"scenes(objects={objects}, size=60)").split("train")
    rows = split.take(np.arange(60))
    which = np.arange(60) % 4
    rows["text"] = rows["caption"][..., None]
    found = captions_lib.conditions(
        {k: jnp.asarray(v) for k, v in rows.items()}, jnp.asarray(which)
    )
    true = np.asarray(clip.truth(found, found))
    said = [split.captions.table[k] for k in rows["caption"][np.arange(60), which]]

    def agrees(image, text):
        told = grammar.parse(text)
        shown = [v for v in image if v != -1]
        return len(told) == len(shown) and all(
            t in (-1, v) for t, v in zip(told, shown, strict=True)
        )

    want = [[agrees(a, t) for t in said] for a in split.captions.attributes.tolist()]
    np.testing.assert_array_equal(true, want)
    assert true.diagonal().all()
    assert true.sum() > 60


def test_truth_without_attributes_is_who_has_the_caption():
    table = captions_lib.captions_of([("a", "b"), ("b", "c"), ("d", "")])
    told = {"captions": jnp.asarray(table.index)}
    bank = {"caption": jnp.asarray([0, 1, 2, 3, -1])}
    true = [[1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 0]]
    np.testing.assert_array_equal(clip.truth(told, bank), true)


def test_weights_of_words_are_read_from_the_prompt(made):
    built, params = made
    z, gamma = images()
    plain = built.log_prob(params, z, gamma, {"text": "a red three"})
    ids = jnp.tile(encode(built.text, ["a red three"]), (4, 1))
    np.testing.assert_allclose(plain, built.log_prob(params, z, gamma, {"text": ids}), rtol=1e-5)


@pytest.mark.parametrize(
    ("holds", "text", "what"),
    [("clip", None, "a clip of a list of captions"), ("denoiser", object(), "a denoiser")],
)
def test_what_has_no_vectors_of_captions_is_named(monkeypatch, holds, text, what):
    other = SimpleNamespace(task=SimpleNamespace(holds=holds), text=text)
    monkeypatch.setattr(other_runs, "opened", lambda *args: other)
    with pytest.raises(ConfigError, match=rf"DIR holds {what}; embeddings need a CLIP"):
        clip_model.opened("DIR")


def test_two_lists_of_captions_are_refused(made):
    with pytest.raises(ConfigError, match="with text the data's captions are used"):
        registry.build("guides", "clip(captions=(('x', (0,)),))", text=made[0].text)


def test_a_bank_has_the_vectors_of_its_captions(made, monkeypatch):
    """Whatever the number of those that are read at once."""
    monkeypatch.setattr(_pair, "_AT_ONCE", 3)
    built, params = made
    text = told(built)["text"]
    bank = {"text": text, "share": jnp.asarray([0.4, 0.3, 0.2, 0.1])}
    g, share = jax.jit(lambda p: built.opened(p).bank())({**params, "bank": bank})
    np.testing.assert_allclose(g, built.texts(params, {"text": text}), atol=1e-6)
    np.testing.assert_allclose(jnp.exp(share), bank["share"], rtol=1e-6)


def test_a_vector_of_zeros_has_a_gradient():
    pull = jax.grad(lambda v: clip.unit(v)[0, 0])(jnp.zeros((1, 3)))
    assert jnp.isfinite(pull).all()


def test_a_run_hands_its_guide_the_captions_of_its_data(tmp_path):
    settings = {"data": "scenes(objects=1, size=30)", "conditional": False, "guidance": "none()",
                "text": "bytes(length=40, width=8, depth=1, heads=2)"}  # fmt: skip
    task = "guide(clip(width=8, mults=(1,), blocks=1, size=6))"
    run = tiny.experiment(tmp_path, **settings, task=task)
    assert isinstance(run.task.network(run), clip.Clip) and run.task.network(run).text == run.text
    settings |= {"data": "class_captions(digits())", "task": "guide(classifier(width=8))"}
    deaf = tiny.experiment(tmp_path, **settings)
    with pytest.raises(
        ConfigError, match=r"text='bytes.*but classifier does not read text: use clip\(\)"
    ):
        deaf.task.network(deaf)
