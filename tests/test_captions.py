"""Captions in data sets: who has which, what a run keeps of them, and what is refused."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest

from diffusion_jax import registry, testing
from diffusion_jax.data.captions import captions_of
from diffusion_jax.data.datasets import _grammar as grammar, class_captions, scenes
from diffusion_jax.data.description import as_lines, changed, describe
from diffusion_jax.errors import DataError


def built(spec, **known):
    return registry.build("data", spec, **known)


def test_every_caption_of_the_grammar_is_read_back():
    options = (range(-1, 6), range(-1, 10), range(-1, 4), range(grammar.FORMS))
    for *values, form in itertools.product(*options):
        assert grammar.parse(grammar.say(values, 1, form)) == values
    two = [0, 3, 1, 5, -1, 2]
    assert grammar.parse(grammar.say(two)) == two
    with pytest.raises(ValueError, match="not a caption"):
        grammar.parse("a red cat")


@pytest.mark.parametrize("objects", [1, 2, (1, 2)])
def test_what_a_caption_of_a_scene_says_is_in_the_picture(objects):
    source = built(f"scenes(objects={objects}, size=300)")
    split = source.split("train")
    digits = built("digits()").split("train").images.reshape(-1, 64)
    real = {row.tobytes() for row in digits}
    for image, text in zip(split.images, split.captions.strings(), strict=True):
        said = np.reshape(grammar.parse(text), (-1, 3))
        lit = {p for p in range(4) if quarter(image, p).any()}
        assert lit == set(said[:, 2].tolist())
        for colour, _, place in said.tolist():
            channels = quarter(image, place).reshape(64, 3)
            assert tuple(int(c) for c in channels.any(0)) == grammar.MASKS[colour]
            assert channels.max(1).tobytes() in real


def quarter(image, place):
    h = image.shape[0] // 2
    return image[place // 2 * h : place // 2 * h + h, place % 2 * h : place % 2 * h + h]


def test_digits_of_scenes_are_of_their_label_and_split():
    found = built("scenes(objects=1, size=200)").split("test")
    digits = built("digits()").split("test")
    of = {a.tobytes(): int(k) for a, k in zip(digits.images[..., 0], digits.labels, strict=True)}
    for image, (_, digit, place) in zip(found.images, found.captions.attributes, strict=True):
        assert of[quarter(image, place).max(-1).tobytes()] == digit


def test_other_wordings_say_a_part_of_the_first():
    c = built("scenes(objects=1, size=200)").split("train").captions
    for row in c.index:
        whole, *others = ([np.asarray(grammar.parse(c.table[i]))] for i in row)
        assert all(((o == -1) | (o == whole[0])).all() for (o,) in others)
    assert (
        built("scenes(objects=1, said=0.0, size=9)").split("train").captions.index[:, 1].max() > 0
    )


def test_pairs_kept_for_tests_are_in_no_training_scene():
    seen = {p: set(map(tuple, np.reshape(built(f"scenes(pairs='{p}', size=3000)").split("train")
            .captions.attributes, (-1, 3))[:, :2].tolist())) - {(-1, -1)}
            for p in ("seen", "unseen", "all")}  # fmt: skip
    assert len(seen["unseen"]) == 10 and len(seen["seen"]) == 50
    assert seen["all"] == seen["seen"] | seen["unseen"]
    assert len({d for _, d in seen["unseen"]}) == 10
    assert all(scenes.is_unseen(*pair) for pair in seen["unseen"])


@pytest.mark.parametrize(
    ("objects", "pairs", "bits"),
    [(1, "all", math.log2(240)), (1, "seen", math.log2(200)),
     (2, "all", math.log2(6 * 60 * 60)), ((1, 2), "unseen", 1 + math.log2(40 * 600) / 2)],
)  # fmt: skip
def test_the_entropy_of_captions_is_known(objects, pairs, bits):
    c = built(f"scenes(objects={objects}, pairs={pairs!r}, size=2)").split("train").captions
    assert c.entropy() == pytest.approx(bits, abs=1e-9)
    if (objects, pairs) == (1, "all"):
        parts = np.diff([c.entropy(range(k)) for k in range(4)])
        np.testing.assert_allclose(parts, np.log2([6, 10, 4]), atol=1e-9)


def test_scenes_are_a_function_of_split_and_arguments():
    one, two = (built("scenes(size=50)").split("train") for _ in range(2))
    assert one.fingerprint() == two.fingerprint()
    assert one.fingerprint() != built("scenes(size=51)").split("train").fingerprint()
    testing.check("data", "scenes(size=50)")


def test_captions_count_in_the_fingerprint_and_in_what_a_run_keeps():
    source = built("class_captions(digits())")
    split = source.split("valid")
    other = dataclasses.replace(split, captions=captions_of(["a digit"] * len(split)))
    assert split.fingerprint() != other.fingerprint()
    before, now = describe(source, split), describe(source, other)
    assert "captions" in changed(before, now)
    assert any("10 different captions" in line for line in as_lines(before))
    bare = dataclasses.replace(split, captions=None)
    assert bare.fingerprint() == built("digits()").split("valid").fingerprint()


def test_captions_that_tell_sides_are_not_of_turned_images():
    turned, whole = (built(f"rotated(scenes(size=40), turns={n})") for n in (1, 0))
    assert not turned.captioned and turned.split("train").captions is None
    assert "dropped" in turned.notes[-1] and not whole.notes
    plain = built("scenes(size=40)").split("train").captions.strings()
    assert whole.split("train").captions.strings() == plain
    assert built("rotated(class_captions(digits()))").split("test").captions is not None


def test_names_of_classes_as_captions():
    split = built("class_captions(digits())").split("test")
    assert split.captions.strings()[:3] == [scenes.grammar.DIGITS[k] for k in split.labels[:3]]
    share = np.bincount(split.labels) / len(split)
    assert split.captions.entropy() == pytest.approx(-(share * np.log2(share)).sum())
    with pytest.raises(DataError, match="have no names"):
        built("class_captions(scenes())")


def test_names_of_several_figures_are_no_figure_and_no_name_is_given_twice():
    digits = built("digits()")
    names = ("12", "01", *digits.classes[2:])
    found = class_captions.make(dataclasses.replace(digits, classes=names)).split("test").captions
    assert found.table[:3] == ("12", "01", "two")
    with pytest.raises(DataError, match="two classes of digits would have the caption 'two'"):
        class_captions.make(dataclasses.replace(digits, classes=("two", *digits.classes[1:])))


def test_scenes_need_every_digit():
    with pytest.raises(DataError, match=r"'valid' of digits has 5 images and no .*: hold out more"):
        built("scenes(of=digits(holdout=5), objects=1)").split("valid")


def test_npz_with_captions(tmp_path):
    path = tmp_path / "a.npz"
    image = np.arange(10 * 4 * 4).reshape(10, 4, 4, 1).astype(np.uint8)
    text = np.asarray([[f"number {i}", f"the {i}"] for i in range(10)])
    arrays = {"train_image": image, "test_image": image[:2], "train_text": text}
    np.savez(path, **arrays)
    with pytest.raises(DataError, match="has captions, but no test_text"):
        built(f"npz({str(path)!r})")
    np.savez(tmp_path / "b.npz", **arrays, test_text=text[:2, 0])
    source = built(f"npz({str(tmp_path / 'b.npz')!r}, holdout=3)")
    assert source.split("valid").captions.strings() == ["number 7", "number 8", "number 9"]
    assert source.split("train").take(np.asarray([2, 0]))["caption"].shape == (2, 2)
    np.savez(tmp_path / "c.npz", **arrays, test_text=np.arange(2))
    with pytest.raises(DataError, match=r"test_text must be strings \[2\]"):
        built(f"npz({str(tmp_path / 'c.npz')!r})")
    np.savez(tmp_path / "d.npz", **arrays, test_text=np.asarray(["", "x"]))
    with pytest.raises(DataError, match="1 image has no caption: row 0"):
        built(f"npz({str(tmp_path / 'd.npz')!r})")


def pictures(folder, names):
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        Image.fromarray(np.full((4, 4, 3), 10 * i, np.uint8)).save(folder / name)


def test_a_folder_with_texts_beside_its_pictures(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFUSION_JAX_CACHE", str(tmp_path / "cache"))
    for part in ("train", "test"):
        pictures(tmp_path / "set" / part, [f"{i}.png" for i in range(6)])
        for i in range(6):
            (tmp_path / "set" / part / f"{i}.txt").write_text(f"{part} {i}\nmore\n")
    (tmp_path / "set" / "test" / "2.png").write_bytes(b"damaged")
    spec = f"folder({str(tmp_path / 'set')!r}, size=4, captions='txt')"
    test = built(spec).split("test")
    assert test.captions.strings() == [f"test {i}" for i in (0, 1, 3, 4, 5)]
    assert test.images[:, 0, 0, 0].tolist() == [0, 10, 30, 40, 50]
    train = built(spec).split("train")
    assert len(train.captions) == len(train)
    assert not any("ignored" in note for note in built(spec).notes)
    (tmp_path / "set" / "train" / "more.txt").write_text("of no image")
    assert "train: ignored files: 1 .txt (" in "\n".join(built(spec).notes)
    (tmp_path / "set" / "train" / "0.txt").unlink()
    with pytest.raises(DataError, match=r"1 image has no caption in a .txt beside them: 0.png"):
        built(spec)
    (tmp_path / "set" / "train" / "0.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="is not UTF-8"):
        built(spec)


def test_a_folder_with_one_file_of_captions(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFUSION_JAX_CACHE", str(tmp_path / "cache"))
    pictures(tmp_path / "set", [f"{i}.png" for i in range(8)])
    file, spec = tmp_path / "set" / "captions.jsonl", None
    rows = [{"file": f"{i}.png", "text": f"picture {i}"} for i in range(8)]
    rows.append({"file": "1.png", "text": "the second"})
    file.write_text("\n".join(map(json.dumps, rows)))
    spec = f"folder({str(tmp_path / 'set')!r}, size=4, test=0.4, valid=0.0, captions={file.name!r})"
    source = built(spec)
    everything = [t for s in ("train", "test") for t in source.split(s).captions.table]
    assert sorted(everything) == sorted(r["text"] for r in rows)
    assert not any("ignored" in note for note in source.notes)
    rows[0]["text"] = "one\u2028line\x85of JSON"
    file.write_text("\r\n".join(json.dumps(r, ensure_ascii=False) for r in rows), encoding="utf-8")
    source = built(spec)
    assert rows[0]["text"] in [t for s in ("train", "test") for t in source.split(s).captions.table]
    file.write_text("\n".join(map(json.dumps, rows[4:])))
    with pytest.raises(DataError, match=r"images have no caption: 0.png|3.png"):
        built(spec)
    file.write_text("\n".join(map(json.dumps, [*rows, {"file": "x.png", "text": "x"}])))
    with pytest.raises(DataError, match=r"1 caption is without an image: x.png"):
        built(spec)
    file.write_text("nonsense")
    with pytest.raises(DataError, match="line 1 must be like"):
        built(spec)
