"""The text tower of a pretrained CLIP: its pieces, its states, and who reads them at the end."""

import html
import json
import unicodedata

import jax
import jax.numpy as jnp
import numpy as np
import pretrained_files
import pytest
from weights import drawn

from diffusion_jax import registry, testing
from diffusion_jax.errors import CheckpointError, ConfigError
from diffusion_jax.networks.guides import clip as guide
from diffusion_jax.networks.layers import text as layers
from diffusion_jax.networks.text_encoders import _bpe, _clip, clip
from diffusion_jax.networks.text_encoders.base import encode, prompts
from diffusion_jax.runtime import safetensors


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return pretrained_files.clip(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def cut(folder):
    return _bpe.read(folder)


def names(cut, text):
    name = {n: s for s, n in cut.numbers.items()}
    return [name[i] for i, _ in cut.pieces(text)]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [("Low", ["low</w>"]),
     ("lower", ["lo", "w", "er</w>"]),  # lo first, so that low</w> is not there to be made
     ("sLOW", ["s", "low</w>"]),
     ("lo", ["l", "o</w>"]),  # the pair that was learnt is not at the end of a word
     ("", []), (" \t\n", []),
     ("it's a 12!?", ["i", "t</w>", "'", "s</w>", "a</w>", "1</w>", "2</w>", "!", "?</w>"]),
     ("x&amp;amp;y", ["x</w>", "&</w>", "y</w>"]),
     ("e\u0301", ["Ã", "©</w>"]), ("\u00c9", ["Ã", "©</w>"]),  # é is C3 A9 in UTF-8
     ("\U0001f600", ["ð", "Ł", "ĺ", "Ģ</w>"])],  # F0 9F 98 80
)  # fmt: skip
def test_words_are_joined_from_bytes_by_rank(cut, text, pieces):
    assert names(cut, text) == pieces


def test_pieces_say_where_they_begin(cut):
    text = "a &lt;e\u0301LOWER\u0130 b"
    at = dict(zip(names(cut, text), (k for _, k in cut.pieces(text)), strict=True))
    want = {"a</w>": 0, "<</w>": 2, "Ã": 6, "lo": 8, "w": 10, "e": 11, "r": 12, "b</w>": 15}
    assert {k: at[k] for k in want} == want
    assert cut.text([i for i, _ in cut.pieces("Low, low!")]) == "low, low!"


@pytest.mark.parametrize("seed", range(3))
def test_texts_are_cleaned_as_a_whole(seed):
    """Piece by piece, so that places are known, and to the same as all at once."""
    rng = np.random.default_rng(seed)
    signs = [*"aBz &;#", "amp", "&lt;", "&#65", "&#x42;", "&eacute", "\u0301", "\u0316", "\u1100",
             "\u1161", "\u11a8", "\u03a3", "\u0130", "\u2126", "\u0344"]  # fmt: skip
    for _ in range(200):
        text = "".join(rng.choice(signs, rng.integers(0, 12)))
        found, at = _bpe._clean(text)
        want = html.unescape(html.unescape(unicodedata.normalize("NFC", text))).lower()
        assert found == want
        assert len(at) == len(found) and at == sorted(at)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("the dog\u2019s \u201cball\u201d", 'the dog\'s "ball"'),
        ("\uff34wo\u3000\uff11\uff01", "two 1!"),
        ("a \ufb01ne \ufb03 \u0133 \u0149", "a fine ffi ij 'n"),
        ("\ufeffa\x00b\x7f \x1fc", "ab c"),
        ("\uff45\u0301", "\u00e9"),  # narrow first, then composed
        ("it&rsquo;s", "it's"),
        ("x\u00b2 \u2122 \u2460", "x\u00b2 \u2122 \u2460"),  # no other form is changed
    ],
)
def test_quotes_widths_and_ligatures_are_made_plain_as_ftfy_does(text, plain):
    found, at = _bpe._clean(text)
    assert found == plain
    assert at == sorted(at) and len(at) == len(found) and (not at or at[-1] < len(text))


def test_a_vocabulary_may_be_one_file(folder, tmp_path, cut):
    merges = [m.split() for m in pretrained_files.MERGES]
    model = {"type": "BPE", "vocab": pretrained_files.clip_vocabulary(), "merges": merges}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": model}))
    assert _bpe.read(tmp_path) == cut


def reference(tensors, ids, act):
    """The states by jax's own attention, norm and GELU, one text at a time."""

    def norm(x, name):
        scaled = jax.nn.standardize(x, epsilon=1e-5) * tensors[f"{name}.weight"]
        return scaled + tensors[f"{name}.bias"]

    def dense(x, name):
        return jnp.einsum("li,oi->lo", x, tensors[f"{name}.weight"]) + tensors[f"{name}.bias"]

    e, n = "embeddings.", len(ids)
    x = tensors[f"{e}token_embedding.weight"][ids] + tensors[f"{e}position_embedding.weight"][:n]
    for i in range(2):
        layer = f"encoder.layers.{i}."
        h = norm(x, f"{layer}layer_norm1")
        q, k, v = (dense(h, f"{layer}self_attn.{s}_proj").reshape(1, n, 2, 4) for s in "qkv")
        mixed = jax.nn.dot_product_attention(q, k, v, is_causal=True)[0].reshape(n, 8)
        x = x + dense(mixed, f"{layer}self_attn.out_proj")
        h = dense(norm(x, f"{layer}layer_norm2"), f"{layer}mlp.fc1")
        h = h * jax.nn.sigmoid(1.702 * h) if act == "quick_gelu" else jax.nn.gelu(h, False)
        x = x + dense(h, f"{layer}mlp.fc2")
    return norm(x, "final_layer_norm")


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_states_are_those_of_the_definition_whatever_follows(act):
    config = pretrained_files.CLIP | {"hidden_act": act}
    tensors = pretrained_files.random(_clip.shapes(config))
    ids = np.asarray([[515, 4, 0, 6, 516, -1, -1], [515, 0, 516, -1, -1, -1, -1]])
    found = _clip.hidden(tensors, config, ids)
    by_jax = jax.jit(reference, static_argnums=2)
    for row, n in ((0, 5), (1, 3)):
        np.testing.assert_allclose(found[row, :n], by_jax(tensors, ids[row, :n], act), atol=2e-5)
        assert not found[row, n:].any()
    longer = np.where(ids < 0, 516, ids)  # as published: padding is the end, again and again
    np.testing.assert_allclose(_clip.hidden(tensors, config, longer)[0, :5], found[0, :5], atol=0)


def test_an_encoder_keeps_its_contract_and_its_states(folder):
    spec = f"clip(path={str(folder)!r}, length=24)"
    testing.check("text_encoders", spec)
    reader = registry.build("text_encoders", spec)
    ids = encode(reader, ["a low red", "", "lower"])
    ids = np.concatenate([ids, 0 * ids[:1]])
    found = reader.frozen(ids)
    assert found.dtype == np.float16 and found.shape == (4, 24, 8) and not found[3].any()
    np.testing.assert_array_equal((found != 0).any(-1), ids > 0)
    start, end = (cut.numbers[s] for cut in [_bpe.read(folder)] for s in (_bpe.START, _bpe.END))
    raw = safetensors.read(folder / "model.safetensors")
    tensors = {k.removeprefix("text_model."): v for k, v in raw.items()}
    empty = _clip.hidden(tensors, pretrained_files.CLIP, np.asarray([[start, end]]))
    np.testing.assert_allclose(found[1, :2], empty[0], atol=2e-3)  # float16
    assert prompts(reader, ["a (low:2) red"]).weight[0].tolist() == [1, 1, 2, *[1] * 21]


@pytest.mark.parametrize("changes", [{"prefix": ""}, {"whole": True}])
def test_towers_alone_and_in_a_whole_are_one(folder, tmp_path, changes):
    one, other = (
        registry.build("text_encoders", f"clip(path={str(p)!r}, length=9)")
        for p in (folder, pretrained_files.clip(tmp_path, **changes))
    )
    ids = encode(one, ["a low red"])
    np.testing.assert_array_equal(one.frozen(ids), other.frozen(ids))


def test_a_run_finds_its_model_from_any_folder(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder.parent)
    kept = registry.build("text_encoders", "clip(path='clip', length=9)").settled(("a",))
    assert (kept.path, len(kept.digest)) == (str(folder), 16)
    monkeypatch.chdir(tmp_path)
    clip._opened.cache_clear()
    assert kept.settled(("b",)) == kept
    assert kept.vocabulary == 3 + 517


def test_a_text_is_read_at_its_end(folder):
    """Of tokens that are states of a causal model, the last knows all; others pool their mean."""
    reader = registry.build("text_encoders", f"clip(path={str(folder)!r}, length=9, depth=0)")
    states = jnp.asarray(reader.frozen(encode(reader, ["a low", "lower", ""])))
    told = jnp.concatenate([states, 0 * states[:1]])
    module = layers.TextTokens(reader.vocabulary, 8, 0, 2, at_end=True)
    shapes = jax.eval_shape(lambda k: module.init(k, told), jax.random.key(0))
    params = drawn(shapes, 0.3)
    seen = jax.jit(module.apply)(params, told)
    np.testing.assert_array_equal(seen.pooled[:3], seen.tokens[jnp.arange(3), jnp.array([3, 4, 1])])
    np.testing.assert_array_equal(seen.pooled[3], params["params"]["none"])
    whole = guide.Reader(reader, 4)
    shapes = jax.eval_shape(lambda k: whole.init(k, {"text": told}), jax.random.key(0))
    read = jax.jit(lambda text: whole.apply(drawn(shapes, 0.3), {"text": text}))
    found, earlier, later = (read(told * jnp.where(jnp.arange(9) == k, 2, 1)[:, None])[0]
                             for k in (9, 1, 3))  # fmt: skip
    np.testing.assert_array_equal(found, earlier)
    assert np.abs(found - later).max() > 1e-3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("config.json", None, r"config\.json: No such file.*; a folder with config\.json, vocab"),
     ("config.json", '{"model_type": "bert"}', "model_type 'bert', not clip or clip_text_model"),
     ("config.json", '{"model_type": "clip"}', "there is no 'text_config'"),
     ("config.json", '{"model_type": "clip_text_model", "hidden_act": "silu"}', "'silu' is not"),
     ("config.json", '{"model_type": "clip_text_model", "hidden_size": 30}', "not divisible by"),
     ("config.json", '{"model_type": "clip_text_model", "vocab_size": 9}', "517 pieces, but"),
     ("config.json", "[]", "a folder with"), ("config.json", "{", "a folder with"),
     ("vocab.json", None, r"vocab\.json: No such file"),
     ("vocab.json", "{}", r"the vocabulary has no '<\|startoftext\|>'"),
     ("merges.txt", "a b c", "merge 'a b c' does not have two pieces"),
     ("merges.txt", "zz y", "the vocabulary has no 'zzy'")],
)  # fmt: skip
def test_what_is_no_clip_is_refused_in_one_line(tmp_path, name, content, message):
    path = pretrained_files.clip(tmp_path)
    if content is None:
        (path / name).unlink()
    else:
        (path / name).write_text(content)
    with pytest.raises(ConfigError, match=message) as e:
        registry.build("text_encoders", f"clip(path={str(path)!r})")
    assert "\n" not in str(e.value)


def test_weights_that_are_missing_or_others_are_named(folder, tmp_path):
    path = pretrained_files.clip(tmp_path)
    spec = f"clip(path={str(path)!r}, length=24)"
    digest = registry.build("text_encoders", spec).settled(("a",)).digest
    clip._opened.cache_clear()
    arrays = safetensors.read(path / "model.safetensors")
    kept = {k: np.array(v) for k, v in arrays.items()}
    gone = "text_model.encoder.layers.1.mlp.fc2.bias"
    for changed, message in (
        ({k: v for k, v in kept.items() if k != gone}, f"there is no tensor {gone}"),
        (kept | {gone: np.zeros(3, np.float32)}, rf"tensor {gone} has shape \(3,\), not \(8,\)"),
    ):
        pretrained_files.written(path / "model.safetensors", changed)
        with pytest.raises(CheckpointError, match=message) as e:
            registry.build("text_encoders", spec)
        assert "\n" not in str(e.value)
    pretrained_files.written(path / "model.safetensors", {k: v + 1 for k, v in kept.items()})
    with pytest.raises(ConfigError, match="not the weights this run was trained with"):
        registry.build("text_encoders", f"clip(path={str(path)!r}, length=24, digest={digest!r})")
    clip._opened.cache_clear()
    pretrained_files.written(path / "model.safetensors", {k: v * np.nan for k, v in kept.items()})
    with pytest.raises(ConfigError, match="its states are not finite"):
        registry.build("text_encoders", spec).frozen(np.asarray([[1, 4, 2]]))
    (path / "model.safetensors").unlink()
    (path / "pytorch_model.bin").write_bytes(b"\x80\x02")
    clip._opened.cache_clear()
    with pytest.raises(CheckpointError, match=r"model\.safetensors: No such file"):
        registry.build("text_encoders", spec)


def test_texts_and_models_that_are_too_long(folder):
    with pytest.raises(ConfigError, match="this model reads at most 24 tokens"):
        registry.build("text_encoders", f"clip(path={str(folder)!r})")
    for length, more in ((8, r"shorten it, or train with clip\(length=12\)"), (24, "shorten it$")):
        reader = registry.build("text_encoders", f"clip(path={str(folder)!r}, length={length})")
        long = "a " * (10 if length == 8 else 30)
        with pytest.raises(ConfigError, match=f"pieces, the model reads {length - 2}: {more}"):
            encode(reader, [long])
