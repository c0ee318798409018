"""Which folder is which split or class, and that nothing of a folder is left aside in silence."""

import os
import re
from types import SimpleNamespace

import numpy as np
import pytest
from picture_files import write
from PIL import Image

from diffusion_jax import registry
from diffusion_jax.cli.modes import _resuming
from diffusion_jax.data import base
from diffusion_jax.data.base import Source, Split
from diffusion_jax.data.description import as_lines, changed, describe
from diffusion_jax.errors import ConfigError, DataError, WorkdirError
from diffusion_jax.experiment import open_experiment
from diffusion_jax.experiment.checkpoint_match import check_classes

pytestmark = pytest.mark.usefixtures("cache")


def build(folder, **changes):
    args = ", ".join(f"{k}={v!r}" for k, v in {"path": str(folder), "size": 4, **changes}.items())
    return registry.build("data", f"folder({args})")


@pytest.mark.parametrize(
    "names",
    [("Training", "Testing"), ("train", "Test"), ("TRAIN", "test-set"), ("training", "TEST")],
)
def test_splits_go_by_any_case_and_the_usual_words(tmp_path, names):
    for name, n in zip(names, (10, 4), strict=True):
        write(tmp_path / name, n=n)
    source = build(tmp_path, valid=0.0)
    assert source.classes == ("cat", "dog")
    assert [len(source.load(k)) for k in ("train", "test")] == [10, 4]
    assert f"test: 4 images of {tmp_path.name}/{names[1]}" in source.notes
    assert any(n.startswith("valid: 0 images of") and "hash" in n for n in source.notes)


@pytest.mark.parametrize("name", ["val", "Validation", "DEV", "valid"])
def test_words_for_validation(tmp_path, name):
    write(tmp_path / "train", n=6)
    write(tmp_path / name, n=3)
    assert len(build(tmp_path).split("valid")) == 3


@pytest.mark.parametrize(
    ("folders", "says"),
    [
        (("test", "valid"), "no folder train: test, valid look like splits"),
        (("train", "Training", "test"), "same split twice, Training and train"),
        (("train", "test", "Testing"), "same split twice"),
        (("train", "car", "plane"), "train beside car, plane: is that a split or a class"),
    ],
)
def test_folders_that_could_be_either_are_refused(tmp_path, folders, says):
    for name in folders:
        write(tmp_path / name, n=3, classes=())
    with pytest.raises(DataError, match=says):
        build(tmp_path)


@pytest.mark.parametrize(
    ("folders", "changes"),
    [
        (("pets/train", "pets/test"), {}),  # one level too high
        (("cat/train", "cat/test", "dog/train", "dog/test"), {}),  # classes above splits
        (("train/train", "train/test"), {}),
        (("pets/Training", "pets/Testing"), {"classes": False}),
    ],
)
def test_splits_further_down_are_not_trained_on_together(tmp_path, folders, changes):
    for name in folders:
        write(tmp_path / name, n=3, classes=())
    with pytest.raises(DataError, match=r"[Tt]rain.*looks like a split: set path to"):
        build(tmp_path, **changes)


def test_a_class_may_have_the_name_of_a_split(tmp_path):
    for name in ("test", "car", "plane"):
        write(tmp_path / name, n=3, classes=())
    assert build(tmp_path).classes == ("car", "plane", "test")


def test_a_split_without_the_classes_of_the_others_is_refused(tmp_path):
    write(tmp_path / "train", n=6)
    write(tmp_path / "test", n=3, classes=())
    with pytest.raises(DataError, match="has no class folders; train has cat, dog"):
        build(tmp_path)


def test_what_is_left_aside_is_said(tmp_path):
    root = tmp_path / "x"
    write(root / "train", n=8)
    write(root / "test", n=2)
    write(root / "extra", n=2)
    (root / "train" / "bird").mkdir()
    for name in ("train/cat/a.GIF", "train/cat/b.gif", "train/dog/c.bmp", "train/bird/d.bmp"):
        (root / name).write_bytes(b"x")
    Image.new("RGB", (4, 4)).save(root / "loose.png")
    notes = "\n".join(build(root).notes)
    for said in ("train: ignored files: 2 .bmp, 2 .gif (images have the endings .png, .jpg",
                 "train: ignored folders without images: bird",
                 "x/extra is ignored", "images in x itself are ignored"):  # fmt: skip
        assert said in notes, notes


def test_a_link_to_a_folder_above_is_not_followed(tmp_path):
    write(tmp_path / "x", n=4)
    os.symlink(tmp_path / "x", tmp_path / "x" / "cat" / "again")
    assert len(build(tmp_path / "x", valid=0, test=0).split("train")) == 4


def test_an_empty_split_names_the_setting_that_fills_it(tmp_path):
    write(tmp_path / "x", n=20)
    with pytest.raises(DataError, match=r"x/test is empty, but there are 20 training") as e:
        build(tmp_path / "x", valid=0, test=0).split("test")
    told = re.search(r"--config\.data='(.*?)'", str(e.value))[1]
    assert len(registry.build("data", told).split("test"))


def test_an_empty_training_split_wants_less_held_out(tmp_path):
    write(tmp_path / "x", n=1, classes=())
    with pytest.raises(DataError, match=r"x/train is empty: .* hold out less"):
        build(tmp_path / "x", valid=0.99, test=0).split("train")
    none = Split("y/train", np.zeros((0, 4, 4, 3), np.uint8), np.zeros(0, np.int32), 256, 0)
    with pytest.raises(DataError, match="y/train is empty; reduce holdout="):
        Source("y", (4, 4, 3), 256, 0, lambda _: none).split("train")


def test_classes_are_told_in_order_with_counts(tmp_path):
    write(tmp_path / "x", n=7)
    source = build(tmp_path / "x", valid=0, test=0)
    record = describe(source, source.split("train"))
    assert record["classes"] == ["cat", "dog"] and record["counts"] == [4, 3]
    assert "classes, with their images: 0 cat (4), 1 dog (3)" in as_lines(record)
    many = record | {"classes": [], "counts": [3] * 50 + [9]}
    assert "51 classes of 3 .. 9 images" in as_lines(many)


def test_classes_go_by_number_or_name(tmp_path):
    source = Source("pets", (4, 4, 3), 256, 3, lambda _: None, ("big dog", "cat", "fox"))
    for given, numbers in (
        ((0, 2), (0, 2)), (("cat",), (1,)), (("fox,cat",), (2, 1)), (("big dog", 1), (0, 1)),
        (("fox, big dog",), (2, 0)), ((np.int64(2),), (2,)), ((), ()),
    ):  # fmt: skip
        assert base.class_numbers(source, given) == numbers
    for wrong in ("ctt", 1.5, True, None, "cat,ctt", ""):
        with pytest.raises(ConfigError, match=r"pets has no class .*classes are big dog, cat, fox"):
            base.class_numbers(source, (wrong,))
    with pytest.raises(ConfigError, match="did you mean 'cat'"):
        base.class_numbers(source, ("catt",))
    with pytest.raises(ConfigError, match="its classes have no names"):
        base.class_numbers(Source("x", (4, 4, 3), 256, 3, lambda _: None), ("cat",))


@pytest.mark.parametrize("text", ["cat,fox", "('cat','fox')", "1,2", "cat,2", "[1, 'fox']"])
def test_the_command_line_takes_names(tmp_path, monkeypatch, text):
    from absl.testing import flagsaver

    from diffusion_jax import main as lines

    for name in ("big dog", "cat", "fox"):
        write(tmp_path / "x", n=3, classes=(name,))
    data = f"folder(path={str(tmp_path / 'x')!r}, size=4)"
    argv = ["x", "--config=cifar10", f"--config.data={data}", f"--config.sample.labels={text}",
            f"--workdir={tmp_path}/run"]  # fmt: skip
    monkeypatch.setattr("sys.argv", argv)
    with flagsaver.flagsaver():
        lines._parse(argv)
        run = open_experiment(lines._CONFIG.value, tmp_path / "run")
        assert tuple(run.config.sample.labels) == (1, 2)


def test_changed_data_are_noticed(tmp_path):
    write(tmp_path / "x", n=7)

    def now():
        source = build(tmp_path / "x", valid=0, test=0)
        return describe(source, source.split("train"))

    before = now()
    assert not changed(before, now())
    assert not changed({}, now())  # a run of before this was kept
    path = tmp_path / "x" / "cat" / "000.png"
    kept = path.read_bytes()
    Image.new("RGB", (4, 4), (9, 9, 9)).save(path)
    assert "pixels" in changed(before, now())
    path.write_bytes(kept)
    assert not changed(before, now())
    (tmp_path / "x" / "cat").rename(tmp_path / "x" / "wolf")
    assert changed(before, now()) == "classes were cat, dog, and are dog, wolf now"
    assert changed(before | {"images": 1}, now()).startswith("classes were")  # names move files


def split(images, labels=None):
    labels = np.zeros(len(images), np.int32) if labels is None else labels
    return Split("s", images, labels, 256, 3)


def test_a_sketch_sees_every_pixel_of_a_small_set_and_some_of_a_large_one(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (50, 2, 2, 1), dtype=np.uint8)
    one = split(images).sketch()
    for i in (0, 31, 49):
        other = images.copy()
        other[i, 1, 1] += 1
        assert split(other).sketch() != one
    assert split(images, np.arange(50, dtype=np.int32) % 3).sketch() != one
    monkeypatch.setattr(base, "_WHOLE", 0)
    monkeypatch.setattr(base, "_RUNS", 3)
    monkeypatch.setattr(base, "_RUN", 4)
    some = split(images).sketch()
    assert some == split(images.copy()).sketch() != split(255 - images).sketch()
    for i, seen in ((0, True), (49, True), (10, False)):
        other = images.copy()
        other[i] += 1
        assert (split(other).sketch() != some) == seen


def test_resuming_on_other_data_is_refused(monkeypatch, tmp_path):
    data = {"name": "s", "images": 4, "sketch": "a", "classes": ["cat"], "counts": [4]}
    run = SimpleNamespace(workdir=tmp_path)
    for before, says in (
        ({"data": data | {"sketch": "b"}}, "pixels"),
        ({"data": data | {"classes": ["dog"]}}, "classes were dog, and are cat now"),
        ({"images": 5}, "images were 5, and are 4 now"),
    ):
        monkeypatch.setattr(_resuming, "read_meta", lambda _, before=before: before)
        with pytest.raises(WorkdirError, match=says):
            _resuming.check_same(run, 3, data, {})
    for before in ({"data": data}, {"images": 4}, {}):
        monkeypatch.setattr(_resuming, "read_meta", lambda _, before=before: before)
        _resuming.check_same(run, 3, data, {})


def test_weights_of_renamed_classes_are_refused_where_classes_matter():
    def run(conditional, holds="denoiser"):
        return SimpleNamespace(
            source=SimpleNamespace(name="pets", classes=("cat", "wolf")),
            config=SimpleNamespace(conditional=conditional),
            task=SimpleNamespace(holds=holds),
        )

    for bad in (run(True), run(False, "classifier")):
        with pytest.raises(ConfigError, match="'wolf' was 'dog'"):
            check_classes(bad, ["cat", "dog"])
        check_classes(bad, ["cat", "wolf"])
        check_classes(bad, [])
    check_classes(run(False), ["cat", "dog"])
