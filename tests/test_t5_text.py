"""The encoder of a pretrained T5: the likeliest pieces, its states, and the files they are in."""

import base64
import json

import jax
import jax.numpy as jnp
import numpy as np
import pretrained_files
import pytest

from diffusion_jax import registry, testing
from diffusion_jax.errors import CheckpointError, ConfigError
from diffusion_jax.networks.text_encoders import _t5, _unigram, t5
from diffusion_jax.networks.text_encoders.base import encode, prompts
from diffusion_jax.runtime import safetensors


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return pretrained_files.t5(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def cut(folder):
    return _unigram.read(folder)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [("ab", ["▁a", "b"]),  # 1 + 2 nats; the longer ▁ab costs 3.5
     ("abc", ["▁a", "b", "c"]),  # 5.5; ▁ab c costs 6, ▁a bc 6.5
     ("  a\t b  ", ["▁a", "▁b"]),
     ("Ａ \ufb02u", ["▁a", "▁", "<unk>", "l", "u"]),  # by rules: a flu
     ("b?!a", ["▁b", "<unk>"]),  # a has no piece inside a word; a run without pieces is one
     ("", []), (" \t ", [])],
)  # fmt: skip
def test_a_text_is_cut_into_its_likeliest_pieces(cut, text, pieces):
    found = [cut.names[i] for i, _ in cut.pieces(text)]
    assert found == pieces


def test_pieces_say_where_they_begin(cut):
    assert [k for _, k in cut.pieces("  A  \ufb02u, red")] == [2, 5, 5, 5, 6, 7, 9]
    assert cut.text([i for i, _ in cut.pieces("a  red three, top left ")]) == (
        "a red three, top left"
    )


def likeliest(costs, text):
    """All ways to cut, one by one."""
    ways = [(0.0, (), text)]
    done = []
    while ways:
        cost, parts, rest = ways.pop()
        if not rest:
            done.append((cost, parts))
        for n in range(1, len(rest) + 1):
            if rest[:n] in costs:
                ways.append((cost + costs[rest[:n]], (*parts, rest[:n]), rest[n:]))
    return min(done)


def test_the_likeliest_of_all_ways_is_found():
    rng = np.random.default_rng(0)
    names = ["▁", *"abc", "ab", "bc", "ca", "▁a", "▁ab", "abc", "bca", "▁bc", "cab"]
    costs = dict(zip(names, rng.uniform(0.5, 6.0, len(names)).tolist(), strict=True))
    made = _unigram.Unigram(("<unk>", *names), costs, 0, b"")
    for _ in range(50):
        text = "".join(rng.choice([*"abc "], 8))
        words = text.split()
        if words:
            found = [made.names[i] for i, _ in made.pieces(text)]
            cost, _ = likeliest(costs, "▁" + "▁".join(words))
            assert "".join(found) == "▁" + "▁".join(words)
            assert sum(costs[p] for p in found) == pytest.approx(cost)


def test_both_kinds_of_files_are_one_vocabulary(tmp_path, cut):
    vocab = [[k, float(v)] for k, v in pretrained_files.PIECES.items()]
    rules = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(pretrained_files.RULES)
             .decode()}  # fmt: skip
    told = {"normalizer": {"type": "Sequence", "normalizers": [{"type": "Strip"}, rules]},
            "added_tokens": [{"content": n, "special": True} for n, _ in vocab[:3]],
            "model": {"type": "Unigram", "unk_id": 2, "vocab": vocab}}  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(told))
    assert _unigram.read(tmp_path) == cut


def test_distances_are_exact_and_then_logarithmic():
    """Bucket 8 + k of 16 begins at 8 * 16^(k/8), up to 128."""
    found = _t5.buckets(300, 32, 128)
    first = [*range(8), *np.ceil(8 * 16 ** (np.arange(8) / 8)).astype(int)]
    want = np.searchsorted(first, np.arange(300), side="right") - 1
    np.testing.assert_array_equal(found[:, 0], want)  # keys behind
    np.testing.assert_array_equal(found[0, 1:], 16 + want[1:])
    assert (np.diag(found) == 0).all() and found[7, 4] == found[100, 97] == 3


def reference(tensors, c, ids):
    """The states by jax's own attention and GELU, one text without padding."""
    n = len(ids)
    table = tensors["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
    bias = table[_t5.buckets(n, 8, 20)].transpose(2, 0, 1)[None]

    def norm(x, name):
        scale = jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6)
        return x * scale * tensors[f"{name}.weight"]

    x = tensors["shared.weight"][ids]
    for i in range(2):
        layer = f"encoder.block.{i}.layer."
        h = norm(x, f"{layer}0.layer_norm")
        q, k, v = ((h @ tensors[f"{layer}0.SelfAttention.{s}.weight"].T).reshape(1, n, 2, 3)
                   for s in "qkv")  # fmt: skip
        mixed = jax.nn.dot_product_attention(q, k, v, bias=bias, scale=1.0).reshape(n, 6)
        x = x + mixed @ tensors[f"{layer}0.SelfAttention.o.weight"].T
        h, part = norm(x, f"{layer}1.layer_norm"), f"{layer}1.DenseReluDense."
        if c["feed_forward_proj"] == "relu":
            h = jax.nn.relu(h @ tensors[f"{part}wi.weight"].T)
        else:
            a, b = (h @ tensors[f"{part}wi_{k}.weight"].T for k in (0, 1))
            h = jax.nn.gelu(a, approximate=True) * b
        x = x + h @ tensors[f"{part}wo.weight"].T
    return norm(x, "encoder.final_layer_norm")


@pytest.mark.parametrize("forward", ["relu", "gated-gelu"])
def test_states_are_those_of_the_definition_whatever_the_padding(forward):
    config = pretrained_files.T5 | {"feed_forward_proj": forward}
    tensors = pretrained_files.random(_t5.shapes(config))
    ids = np.asarray([[4, 5, 6, 9, 1, 0, 0], [9, 1, 0, 0, 0, 0, 0]])
    found = _t5.hidden(tensors, config, ids)
    for row, n in ((0, 5), (1, 2)):
        by_jax = jax.jit(lambda t, ids: reference(t, config, ids))(
            tensors, jnp.asarray(ids[row, :n])
        )
        np.testing.assert_allclose(found[row, :n], by_jax, atol=2e-5)
        assert not found[row, n:].any()
    longer = _t5.hidden(tensors, config, np.pad(ids, ((0, 0), (0, 9))))
    np.testing.assert_allclose(longer[:, :7], found, atol=1e-6)


def test_an_encoder_keeps_its_contract_and_begins_without_a_start(folder):
    spec = f"t5(path={str(folder)!r}, length=24)"
    testing.check("text_encoders", spec)
    reader = registry.build("text_encoders", spec)
    ids = encode(reader, ["a red three", "", "blue"])
    ids = np.concatenate([ids, 0 * ids[:1]])
    found = reader.frozen(ids)
    assert found.dtype == np.float16 and found.shape == (4, 24, 8)
    there = ids > 0
    there[:, 0] = False
    np.testing.assert_array_equal((found != 0).any(-1), there)
    tensors = safetensors.read(folder / "model.safetensors")
    theirs = np.asarray([[cut_number(folder, p) for p in ("▁a", "▁red", "▁three", "</s>")]])
    want = _t5.hidden(tensors, pretrained_files.T5, theirs)[0]
    np.testing.assert_allclose(found[0, 1:5], want, atol=2e-3)  # float16
    assert prompts(reader, ["a (red:2) three"]).weight[0].tolist() == [1, 1, 2, *[1] * 21]


def cut_number(folder, piece):
    return _unigram.read(folder).names.index(piece)


def test_residuals_beyond_float16_are_none_to_us(tmp_path):
    """Half-precision weights whose residual stream is above 65,504: the norm brings it back."""
    path = pretrained_files.t5(tmp_path, scale=40.0, kind="F16")
    arrays = {k: v.astype(np.float64) for k, v in
              safetensors.read(path / "model.safetensors").items()}  # fmt: skip
    last = "encoder.final_layer_norm.weight"
    raw = _t5.hidden(arrays | {last: np.ones(8)}, pretrained_files.T5, np.asarray([[9, 1]]))
    ids = np.asarray([[1, 12, 2]])
    found = registry.build("text_encoders", f"t5(path={str(path)!r})").frozen(ids)
    np.testing.assert_allclose(found[0, 1:], raw[0] * arrays[last], rtol=2e-3, atol=1e-2)
    with np.errstate(all="ignore"):
        half = {k: v.astype(np.float16) for k, v in arrays.items()}
        assert not np.isfinite(_t5.hidden(half, pretrained_files.T5, np.asarray([[9, 1]]))).all()


def test_weights_in_parts_or_under_another_name_are_the_same(folder, tmp_path):
    arrays = safetensors.read(folder / "model.safetensors")
    path = pretrained_files.t5(tmp_path, embedding="encoder.embed_tokens.weight")
    spec = "t5(path={!r}, length=9)".format
    one = registry.build("text_encoders", spec(str(folder)))
    ids = encode(one, ["a red three"])
    names = sorted(arrays)
    renamed = {k if k != "shared.weight" else "encoder.embed_tokens.weight": arrays[k]
               for k in names}  # fmt: skip
    pretrained_files.written(path / "model.safetensors", renamed)
    other = registry.build("text_encoders", spec(str(path)))
    np.testing.assert_array_equal(one.frozen(ids), other.frozen(ids))
    (path / "model.safetensors").unlink()
    index = {k: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, k in enumerate(names)}
    for file in set(index.values()):
        pretrained_files.written(path / file, {k: arrays[k] for k in names if index[k] == file})
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    t5._opened.cache_clear()
    parts = registry.build("text_encoders", spec(str(path)))
    np.testing.assert_array_equal(one.frozen(ids), parts.frozen(ids))
    assert parts.settled(("a",)).digest != one.settled(("a",)).digest
    for content, message in (
        ("{}", r"index\.json"),
        ('{"weight_map": {"a": "../b"}}', "in its own folder"),
    ):
        (path / "model.safetensors.index.json").write_text(content)
        t5._opened.cache_clear()
        with pytest.raises(CheckpointError, match=message):
            registry.build("text_encoders", spec(str(path)))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("config.json", b'{"model_type": "umt5"}', "model_type 'umt5', not t5"),
     ("config.json", b'{"model_type": "t5", "feed_forward_proj": "gated-silu"}', "'gated-silu' is"),
     ("config.json", b'{"model_type": "t5", "vocab_size": 9}', "18 pieces, but vectors for 9"),
     ("spiece.model", None, r"spiece\.model: No such file"),
     ("spiece.model", b"\xff" * 9, r"spiece\.model cannot be read"),
     ("spiece.model", b"", "not a unigram model"),
     ("spiece.model", pretrained_files.spiece()[:-2], "it is truncated"),
     ("spiece.model", pretrained_files.spiece(kind=2), "not a unigram model"),
     ("spiece.model", pretrained_files.spiece(f3=0), "treats spaces differently"),
     ("spiece.model", pretrained_files.spiece({"<s>": 0.0} | pretrained_files.PIECES),
      "first piece is not <pad>"),
     ("tokenizer.json", b'{"model": {"type": "BPE"}}', "it is BPE, not a unigram model")],
)  # fmt: skip
def test_what_is_no_t5_is_refused_in_one_line(tmp_path, name, content, message):
    path = pretrained_files.t5(tmp_path)
    if name == "tokenizer.json":
        (path / "spiece.model").unlink()
    if content is None:
        (path / name).unlink()
    else:
        (path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message) as e:
        registry.build("text_encoders", f"t5(path={str(path)!r})")
    assert "\n" not in str(e.value)


def test_other_weights_than_those_of_training_are_refused(folder):
    with pytest.raises(ConfigError, match=r"t5.*not the weights this run was trained with"):
        registry.build("text_encoders", f"t5(path={str(folder)!r}, digest='{'0' * 16}')")
