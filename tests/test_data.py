"""Data sets: order, splits, ranges, real prepared data, and what happens without them."""

import json
import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from diffusion_jax import registry
from diffusion_jax.data import base
from diffusion_jax.errors import DataError

PREPARED = ("mnist", "fashion_mnist", "cifar10", "imagenet32", "imagenet64", "imagenet32_old",
            "imagenet64_old")  # fmt: skip


def write_npz(path, n=40, shape=(4, 4, 3), levels=256, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    arrays = {}
    for part in ("train", "test"):
        arrays[f"{part}_image"] = rng.integers(0, levels, (n, *shape), dtype=np.uint8)
        arrays[f"{part}_label"] = rng.integers(0, classes, n)
    np.savez(path, **arrays)
    return arrays


def test_every_epoch_visits_every_example_once():
    n, batch = 23, 5
    seen = np.concatenate([base.indices(step, batch, n, seed=3) for step in range(46)])
    epochs = seen.reshape(10, n)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(n))
    assert len({tuple(e) for e in epochs}) == 10  # each in an order of its own


def test_order_depends_on_seed_and_step_only():
    np.testing.assert_array_equal(base.indices(7, 5, 23, 0), base.indices(7, 5, 23, 0))
    assert not np.array_equal(base.indices(7, 5, 23, 0), base.indices(7, 5, 23, 1))
    # The sequence of examples does not depend on the batch size.
    wide = base.indices(1, 10, 23, 0)
    narrow = np.concatenate([base.indices(s, 5, 23, 0) for s in (2, 3)])
    np.testing.assert_array_equal(wide, narrow)


def test_digits_are_the_real_ones_and_splits_do_not_overlap():
    source = registry.build("data", "digits(holdout=100)")
    splits = {name: source.split(name) for name in base.SPLITS}
    assert {k: len(v) for k, v in splits.items()} == {"train": 1400, "valid": 100, "test": 297}
    together = np.concatenate([s.images for s in splits.values()]).reshape(1797, -1)
    from sklearn.datasets import load_digits

    reference = np.sort(load_digits().data.astype(np.uint8), axis=0)
    np.testing.assert_array_equal(np.sort(together, axis=0), reference)
    for split in splits.values():
        assert split.shape == source.shape == (8, 8, 1)
        assert set(np.unique(split.labels)) == set(range(10))
    assert len({s.fingerprint() for s in splits.values()}) == 3


@pytest.mark.parametrize(
    ("shape", "levels"), [((4, 4, 3), 256), ((5, 7, 1), 17), ((3, 3, 3), 2)]
)  # fmt: skip
def test_your_own_images(tmp_path, shape, levels):
    arrays = write_npz(tmp_path / "x.npz", shape=shape, levels=levels)
    spec = f"npz(path={str(tmp_path / 'x.npz')!r}, levels={levels}, num_classes=3, holdout=8)"
    source = registry.build("data", spec)
    assert source.shape == shape
    np.testing.assert_array_equal(source.split("train").images, arrays["train_image"][:32])
    np.testing.assert_array_equal(source.split("valid").images, arrays["train_image"][32:])
    np.testing.assert_array_equal(source.split("test").labels, arrays["test_label"])
    batch = base.batch(source.split("train"), step=2, size=6, seed=0)
    assert batch["image"].shape == (6, *shape) and batch["image"].dtype == np.uint8


def test_values_out_of_range_are_named(tmp_path):
    path = tmp_path / "x.npz"
    write_npz(path, levels=256, classes=5)
    with pytest.raises(DataError, match=r"label 4 is out of range; 3 classes allow 0 .. 2"):
        registry.build("data", f"npz(path={str(path)!r}, num_classes=3)").split("train")
    with pytest.raises(DataError, match=r"a pixel has value \d+, but levels=17"):
        registry.build("data", f"npz(path={str(path)!r}, levels=17)").split("test")
    with pytest.raises(DataError, match="split 'dev'"):
        registry.build("data", f"npz(path={str(path)!r})").split("dev")
    with pytest.raises(DataError, match="holdout=40"):
        registry.build("data", f"npz(path={str(path)!r}, holdout=40)").split("train")
    with pytest.raises(DataError, match=r"holdout=1\.5 must be a whole number"):
        base.hold_out("train", np.zeros((4, 2, 2, 1)), np.zeros(4), 1.5)
    with pytest.raises(DataError, match="is empty"):
        registry.build("data", f"npz(path={str(path)!r})").split("valid")


def test_unreadable_files_are_named(tmp_path):
    path = tmp_path / "x.npz"
    with pytest.raises(DataError, match="cannot read"):
        registry.build("data", f"npz(path={str(path)!r})")
    with path.open("wb") as f:
        np.save(f, np.zeros((3, 4, 4, 1), np.uint8))  # one array, in spite of its name
    with pytest.raises(DataError, match=r"cannot read .* as an npz file"):
        registry.build("data", f"npz(path={str(path)!r})")
    np.savez(path, images=np.zeros(3))
    with pytest.raises(DataError, match="train_image"):
        registry.build("data", f"npz(path={str(path)!r})")


@pytest.mark.parametrize("name", PREPARED)
def test_unprepared_data_are_refused_at_once_with_the_command(name, tmp_path):
    source = registry.build("data", f"{name}()", data_dir=str(tmp_path))
    began = time.monotonic()
    with pytest.raises(DataError, match=r"download_and_prepare\(\).*--config.data_dir"):
        source.split("train")
    assert time.monotonic() - began < 5  # tensorflow-datasets alone would retry for minutes


def test_without_tensorflow_datasets_it_says_what_to_install(tmp_path, monkeypatch):
    folder = tmp_path / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{}")
    (folder / "mnist-train.array_record-00000-of-00001").touch()
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    monkeypatch.setenv("DIFFUSION_JAX_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"not installed.*pip install tensorflow-datasets"):
        registry.build("data", f"mnist(data_dir={str(tmp_path)!r})").split("train")


def test_another_format_is_named_with_a_command_that_tfds_accepts(tmp_path):
    import tensorflow_datasets as tfds

    root = tmp_path / "sets"
    folder = root / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    info = {"name": "mnist", "version": "3.0.1", "fileFormat": "tfrecord", "moduleName": "m"}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    (folder / "mnist-train.tfrecord-00000-of-00001").touch()
    with pytest.raises(DataError, match="as tfrecord, but is needed as array_record") as e:
        registry.build("data", "mnist()", data_dir=str(root)).split("train")
    said = str(e.value)
    builder = re.search(r"tfds\.builder\('mnist', data_dir='(.*?)', file_format='(.*?)'\)", said)
    assert builder[1] in said.partition("--config.data_dir")[2]
    assert f"download_dir='{root}/downloads'" in said
    with pytest.raises(ValueError, match="File format is already set"):  # so not there
        tfds.builder("mnist", data_dir=str(root), file_format=builder[2])
    made = tfds.builder("mnist", data_dir=builder[1], file_format=builder[2])
    assert made.info.file_format.value == "array_record" and not made.is_prepared()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "shape"), [("mnist", (28, 28, 1)), ("cifar10", (32, 32, 3))])
def test_prepared_data(prepared, tmp_path, monkeypatch, name, shape):
    monkeypatch.setenv("DIFFUSION_JAX_CACHE", str(tmp_path))
    source = registry.build("data", f"{name}(holdout=5000)", data_dir=str(prepared))
    test = source.split("test")
    assert test.images.shape == (10000, *shape) and test.images.dtype == np.uint8
    counts = np.bincount(test.labels)
    assert len(counts) == 10 and counts.min() > 800
    again = registry.build("data", f"{name}()", data_dir=str(prepared)).split("test")
    assert again.fingerprint() == test.fingerprint()  # from the cache now
    assert len(list(Path(tmp_path).glob("*/test/images.npy"))) == 1
    # The first image, read by the library itself.
    import tensorflow_datasets as tfds

    first = tfds.data_source(name, split="test", data_dir=str(prepared), download=False)[0]
    np.testing.assert_array_equal(test.images[0], first["image"])
    assert test.labels[0] == first["label"]
