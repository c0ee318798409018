"""What a data set hands over is looked at before anything is computed from it."""

import re

import numpy as np
import pytest

from diffusion_jax import registry
from diffusion_jax.data.base import Source, Split
from diffusion_jax.errors import ConfigError, DataError

IMAGES = np.zeros((6, 4, 4, 3), np.uint8)
LABELS = np.arange(6, dtype=np.int32) % 3


def source(images=IMAGES, labels=LABELS, shape=(4, 4, 3), levels=256, classes=3, **split):
    def load(name):
        return Split(f"own/{name}", images, labels, **{"levels": levels, "num_classes": classes,
                                                       **split})  # fmt: skip

    return Source("own", shape, levels, classes, load)


def test_a_sound_source_is_accepted():
    assert len(source().split("train")) == 6


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"images": IMAGES.astype(np.float32)}, r"must be uint8 .*float32"),
        ({"images": IMAGES.astype(np.int64)}, "int64"),
        ({"images": IMAGES[0]}, "must be uint8"),
        ({"images": list(IMAGES)}, "must be uint8"),
        ({"images": IMAGES[..., :2]}, "1 or 3 channels"),
        ({"images": IMAGES[:, :3]}, r"\(3, 4, 3\).*declares \(4, 4, 3\)"),
        ({"images": IMAGES + 17, "levels": 17}, "a pixel has value 17"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "is empty"),
        ({"levels": 17, "num_classes": 2}, "label 2 is out of range"),
        ({"num_classes": 4}, "declares"),
        ({"labels": LABELS[:3]}, r"integers \[6\], one per image"),
        ({"labels": LABELS.astype(float)}, "one per image, got float64"),
        ({"labels": LABELS.astype(np.int64) + 2**32}, "label 4294967296 is out of range"),
        ({"labels": LABELS - 1}, "label -1"),
    ],
)
def test_a_split_that_is_not_what_was_declared_is_refused(changes, says):
    with pytest.raises(DataError, match=says):
        source(**changes).split("train")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"shape": (4, 4)}, "shape="), ({"shape": (4, 4, 2)}, "1 or 3"),
        ({"shape": (0, 4, 1)}, "shape="), ({"levels": 1}, "levels=1"),
        ({"levels": 257}, "levels=257"), ({"classes": -1}, "num_classes=-1"),
    ],
)  # fmt: skip
def test_a_source_that_describes_no_images_is_refused(changes, says):
    with pytest.raises(DataError, match=says):
        source(**changes)


def test_something_else_than_a_split_is_refused():
    with pytest.raises(DataError, match="returned ndarray, not a Split"):
        Source("own", (4, 4, 3), 256, 0, lambda _: IMAGES).split("train")


LOCAL = ("npz('x.npz')", "npy('x')", "folder('x', size=4)")


@pytest.mark.parametrize("spec", LOCAL)
def test_a_relative_path_is_said_to_be_one(tmp_path, spec):
    with pytest.raises(DataError, match=r"from /.*; --config.data_dir sets another"):
        registry.build("data", spec)
    with pytest.raises(DataError) as e:
        registry.build("data", spec, data_dir=str(tmp_path))
    assert str(tmp_path) in str(e.value) and "sets another" not in str(e.value)


@pytest.mark.parametrize("spec", [*LOCAL, "mnist()", "imagenet32()"])
def test_a_bucket_is_said_to_be_none_of_the_places(spec):
    with pytest.raises(DataError, match=r"gs://b/sets: .* on a local disk; copy it first"):
        registry.build("data", spec, data_dir="gs://b/sets").split("train")
    if "x" in spec:
        with pytest.raises(DataError, match="on a local disk"):
            registry.build("data", spec.replace("x", "gs://b/x"))


def test_what_a_source_raises_is_one_line():
    with pytest.raises(ConfigError, match=r"'own' cannot load 'train': FileNotFoundError: .*gone"):
        Source("own", (4, 4, 3), 256, 0, lambda _: np.load("gone.npy")).split("train")


def write(path, **labels):
    images = {f"{part}_image": IMAGES for part in ("train", "test")}
    np.savez(path, **images, **{f"{k}_label": v for k, v in labels.items()})
    return path


def npz(path, **args):
    text = "".join(f", {k}={v}" for k, v in args.items())
    return registry.build("data", f"npz(path={str(path)!r}{text})")


def test_classes_follow_from_labels_that_count_from_0(tmp_path):
    path = write(tmp_path / "x.npz", train=LABELS.astype(np.int64), test=LABELS % 2)
    assert npz(path).num_classes == 3 and npz(path, num_classes=0).num_classes == 0
    np.testing.assert_array_equal(npz(path).split("train").labels, LABELS)
    np.save(tmp_path / "train_image.npy", IMAGES)
    np.save(tmp_path / "test_image.npy", IMAGES)
    np.save(tmp_path / "train_label.npy", LABELS)
    np.save(tmp_path / "test_label.npy", LABELS)
    assert registry.build("data", f"npy(path={str(tmp_path)!r})").num_classes == 3


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ({"train": LABELS}, "no test_label"),
        ({"test": LABELS}, "no train_label"),
        ({"train": LABELS + 1, "test": LABELS + 1}, "labels are 1 .. 3.*numbered from 0"),
        ({"train": LABELS.astype(np.int64) + 2**32, "test": LABELS}, "4294967296 is out of range"),
        ({"train": LABELS * 1.0, "test": LABELS}, "float64"),
    ],
)
def test_labels_are_never_guessed(tmp_path, labels, says):
    """Where classes were asked for they are refused; where not, ignored, and that is said."""
    path = write(tmp_path / "x.npz", **labels)
    found = npz(path)
    assert found.num_classes == 0 and not found.split("test").labels.any()
    assert len(found.notes) == 1
    assert re.search(says, found.notes[0])
    if "numbered" not in says:
        with pytest.raises(DataError, match=says):
            npz(path, num_classes=3)


def test_classes_that_were_asked_for_need_labels(tmp_path):
    with pytest.raises(DataError, match="no train_label and test_label"):
        npz(write(tmp_path / "x.npz"), num_classes=3)


def test_a_conditional_model_is_told_why_there_are_no_classes(tmp_path):
    from diffusion_jax import config
    from diffusion_jax.experiment import Experiment

    c = config.base()
    c.data, c.conditional = f"npz(path={str(write(tmp_path / 'x.npz', train=LABELS))!r})", True
    with pytest.raises(ConfigError, match=r"npz has no classes \(labels are ignored.*test_label"):
        _ = Experiment(c, tmp_path).model
