"""Data made of other data: halves, long tails, and samples in place of training images."""

import json
import re
import sys

import numpy as np
import pytest
import tiny

from diffusion_jax import registry, testing
from diffusion_jax.data.description import describe
from diffusion_jax.errors import ConfigError, DataError


@pytest.fixture
def own(tmp_path):
    """The text of a small labelled data set with 64 training images, 8 of them for `valid`."""
    path = tiny.write_images(tmp_path / "images.npz")
    return f"npz(path={str(path)!r}, levels=5, num_classes=3, holdout=8)"


def data(text):
    return registry.build("data", text)


def rows(split):
    return sorted((int(k), i.tobytes()) for i, k in zip(split.images, split.labels, strict=True))


def test_halves_share_nothing_and_are_all_of_it(own):
    whole = data(own).split("train")
    parts = [data(f"half({own}, part={p})").split("train") for p in (0, 1)]
    assert [len(p) for p in parts] == [28, 28]
    assert rows(whole) == sorted(rows(parts[0]) + rows(parts[1]))
    few = data(f"half({own}, part=1, size=5)").split("train")
    assert len(few) == 5 and all(r in rows(parts[1]) for r in rows(few))
    other = data(f"half({own}, seed=1)").split("train")
    assert rows(other) != rows(parts[0])
    for name in ("valid", "test"):
        assert data(f"half({own})").split(name).sketch() == data(own).split(name).sketch()


def test_a_long_tail_thins_out_classes_one_after_another():
    whole, thin = (data(t).split("train") for t in ("digits()", "longtail(digits(), ratio=8.0)"))
    before, after = (np.bincount(s.labels, minlength=10) for s in (whole, thin))
    np.testing.assert_allclose(after / before, 8.0 ** -(np.arange(10) / 9), atol=0.01)
    assert set(rows(thin)) <= set(rows(whole))
    same = data("longtail(digits(), ratio=1.0)").split("train")
    assert same.sketch() == whole.sketch()


def test_captions_go_with_their_images():
    texts = "scenes(size=60)", "half(scenes(size=60), size=9)"
    whole, half = (data(t).split("train") for t in texts)
    known = {i.tobytes(): row for row, i in enumerate(whole.images)}
    rows = [known[i.tobytes()] for i in half.images]
    assert half.captions.strings() == [whole.captions.strings()[r] for r in rows]
    np.testing.assert_array_equal(half.captions.attributes, whole.captions.attributes[rows])


def written(folder, method=None, name="samples", **arrays):
    extra = {} if method is None else {"method": json.dumps(method)}
    np.savez(folder / f"{name}.npz", **arrays, **extra)
    return str(folder / f"{name}.npz")


def test_real_images_as_samples_are_the_real_arm(own, tmp_path):
    whole = data(own).split("train")
    path = written(tmp_path, image=whole.images, label=whole.labels)
    made = data(f"synthetic({own}, samples={path!r})")
    assert made.split("train").sketch() == whole.sketch()
    assert made.split("test").sketch() == data(own).split("test").sketch()
    assert data(f"synthetic({own}, samples={path!r}, real=1.0)").split("train").sketch() == (
        whole.sketch()
    )


def test_shares_and_sizes_are_what_was_asked_for(own, tmp_path):
    image = np.full((90, 4, 4, 1), 4, np.uint8)  # of which there is none among the real ones
    path = written(tmp_path, image=image, label=np.arange(90) % 3)
    for asked, real, drawn in (
        ("", 0, 90), ("real=0.25", 30, 90), ("real=0.5, size=20", 10, 10), ("size=40", 0, 40),
        ("real=1.0, size=7", 7, 0),
    ):  # fmt: skip
        found = data(f"synthetic({own}, samples={path!r}, {asked})").split("train")
        fake = (found.images == 4).all(axis=(1, 2, 3))
        assert (int((~fake).sum()), int(fake.sum())) == (real, drawn), asked
    testing.check("data", data(f"synthetic({own}, samples={path!r}, real=0.5, size=20)"))


def test_what_it_was_made_of_is_noted_and_part_of_its_digest(own, tmp_path):
    image = np.zeros((9, 4, 4, 1), np.uint8)
    path = written(tmp_path, image=image, label=np.arange(9) % 3)
    first = data(f"synthetic({own}, samples={path!r})")
    path = written(tmp_path, name="others", image=image + 1, label=np.arange(9) % 3)
    second = data(f"synthetic({own}, samples={path!r})")
    assert first.split("train").sketch() != second.split("train").sketch()
    hashes = [re.search(r"sha (\w{12})", " ".join(s.notes))[1] for s in (first, second)]
    assert hashes[0] != hashes[1]
    assert any("there is no record" in note for note in second.notes)


def checkpoint(folder, source, split, name="checkpoint", **config):
    meta = folder / name / "meta"
    meta.mkdir(parents=True, exist_ok=True)
    record = {"data": describe(source, split), "config": config}
    (meta / "metadata").write_text(json.dumps(record))
    return {"checkpoint": str(meta.parent)}


def test_samples_of_a_model_of_the_judges_are_refused(own, tmp_path):
    source, arrays = (
        data(own),
        {"image": np.zeros((9, 4, 4, 1), np.uint8), "label": np.zeros(9, int)},
    )
    for name in ("valid", "test"):
        path = written(tmp_path, checkpoint(tmp_path, source, source.split(name)), **arrays)
        with pytest.raises(DataError, match=f"trained on npz/{name}, which evaluates models"):
            data(f"synthetic({own}, samples={path!r})")
    path = written(tmp_path, checkpoint(tmp_path, source, source.split("train")), **arrays)
    assert len(data(f"synthetic({own}, samples={path!r})").notes) == 1
    other = data(f"half({own})")
    path = written(tmp_path, checkpoint(tmp_path, other, other.split("train")), **arrays)
    assert "other images: half_0_npz/train" in data(f"synthetic({own}, samples={path!r})").notes[1]


def test_a_model_of_some_of_the_judges_and_a_student_of_one_are_refused(own, tmp_path):
    source = data(own)
    arrays = {"image": np.zeros((9, 4, 4, 1), np.uint8), "label": np.zeros(9, int)}
    held_out = source.split("test").images
    images = np.concatenate([source.split("train").images, held_out[:2]])
    np.savez(tmp_path / "more.npz", train_image=images, train_label=np.zeros(len(images), int),
             test_image=held_out, test_label=np.zeros(len(held_out), int))  # fmt: skip
    wider = f"npz({str(tmp_path / 'more.npz')!r}, levels=5, holdout=0)"
    both = data(wider)
    told = checkpoint(tmp_path, both, both.split("train"), data=wider)
    path = written(tmp_path, told, **arrays)
    with pytest.raises(
        DataError, match=r"the model .* trained on .* images of npz/test, which eval"
    ):
        data(f"synthetic({own}, samples={path!r})")
    checkpoint(tmp_path, source, source.split("test"), "runs/teacher/checkpoints/4", data=own)
    task = f"distill(teacher={str(tmp_path / 'runs' / 'teacher')!r})"
    told = checkpoint(tmp_path, source, source.split("train"), data=own, task=task)
    path = written(tmp_path, told, **arrays)
    with pytest.raises(DataError, match=r"the teacher of the model .* trained on npz/test, which"):
        data(f"synthetic({own}, samples={path!r})")
    foreign = f"half(antigravity.make({wider}), part=0)"  # would be imported
    told = checkpoint(tmp_path, both, both.split("train"), data=foreign)
    notes = data(f"synthetic({own}, samples={written(tmp_path, told, **arrays)!r})").notes
    assert "was trained on other images" in notes[1] and "antigravity" not in sys.modules
    task = "distill(teacher='nowhere')"
    told = checkpoint(tmp_path, source, source.split("train"), data=own, task=task)
    path = written(tmp_path, told, **arrays)
    assert "the teacher of the model" in data(f"synthetic({own}, samples={path!r})").notes[1]


IMAGE, LABEL = np.zeros((9, 4, 4, 1), np.uint8), np.zeros(9, np.int64)


@pytest.mark.parametrize(
    ("arrays", "more", "message"),
    [
        ({"image": IMAGE}, "", "there is no label; it must hold labelled samples"),
        ({"label": LABEL}, "", "there is no image"),
        ({"image": IMAGE + 5, "label": LABEL}, "", "a pixel has value 5, but levels=5"),
        ({"image": IMAGE[:, :2], "label": LABEL}, "", r"images of \(2, 4, 1\); npz has"),
        ({"image": IMAGE.astype(float), "label": LABEL}, "", "must be uint8"),
        ({"image": IMAGE, "label": LABEL + 3}, "", "label 3 is out of range"),
        ({"image": IMAGE, "label": LABEL[:3]}, "", "one per image"),
        ({"image": IMAGE, "label": LABEL}, ", size=10", "has 9, and there are 56 real ones"),
        ({"image": IMAGE, "label": LABEL}, ", real=1.0, size=57", "need 0 samples and 57 real"),
        ({"image": IMAGE, "label": LABEL}, ", real=1.5", "from 0 to 1"),
    ],
)
def test_samples_that_do_not_fit_are_refused(own, tmp_path, arrays, more, message):
    path = written(tmp_path, **arrays)
    with pytest.raises((ConfigError, DataError), match=message):
        data(f"synthetic({own}, samples={path!r}{more})").split("train")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("half(3)", "must be a plug-in"), ("half(digits(), part=2)", "0 or 1"),
        ("half(digits(), size=701)", "half of digits/train is 700 images"),
        ("longtail(noise(digits()))", "has 0 classes"),
        ("longtail(digits(), ratio=0.5)", "at least 1"),
        ("synthetic(noise(digits()), samples='x.npz')", "has no classes"),
        ("synthetic(digits(), samples='/nowhere/x.npz')", "cannot read '/nowhere/x.npz'"),
        ("synthetic(digits(), samples='gs://b/x.npz')", "copy it first"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(text, message):
    with pytest.raises((ConfigError, DataError), match=message):
        data(text).split("train")
