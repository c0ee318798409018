"""The two releases of small ImageNet, in files written as published."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from picture_files import write

from diffusion_jax import registry
from diffusion_jax.data import base
from diffusion_jax.data.datasets import _imagenet
from diffusion_jax.errors import DataError

pytestmark = pytest.mark.usefixtures("cache")


def write_new(folder, kind, size=32):
    """The new release's files with five images a batch, in two of its formats."""
    rng, images, labels = np.random.default_rng(0), [], []
    folder.mkdir()
    for name in [f"train_data_batch_{i}" for i in range(1, 11)] + ["val_data"]:
        data = rng.integers(0, 256, (5, 3 * size * size), dtype=np.uint8)
        label = rng.integers(1, 1001, 5).tolist()
        images.append(data), labels.append(label)
        if kind == "npz":
            np.savez(folder / f"{name}.npz", data=data, labels=np.array(label))
        else:
            (folder / name).write_bytes(pickle.dumps({"data": data, "labels": label}))
    return images, labels


@pytest.mark.parametrize("kind", ["npz", "pickle"])
def test_the_new_release_as_published(tmp_path, kind):
    images, labels = write_new(tmp_path / "x", kind)
    source = registry.build("data", f"imagenet32(path={str(tmp_path / 'x')!r}, holdout=7)")
    train, valid, test = (source.split(k) for k in base.SPLITS)
    assert (len(train), len(valid), len(test)) == (43, 7, 5)
    wanted = np.concatenate(images[:10]).reshape(50, 3, 32, 32)
    np.testing.assert_array_equal(train.images[:, 5, 9, 2], wanted[:43, 2, 5, 9])
    np.testing.assert_array_equal(valid.labels, np.concatenate(labels[:10])[43:] - 1)
    np.testing.assert_array_equal(test.labels, np.array(labels[10]) - 1)
    with pytest.raises(DataError, match=r"new release.*use imagenet32\(\)"):
        registry.build("data", f"imagenet32_old(path={str(tmp_path / 'x')!r})").split("train")
    with pytest.raises(DataError, match="do the images have another size than 64"):
        registry.build("data", f"imagenet64(path={str(tmp_path / 'x')!r})").split("train")


def test_a_batch_in_two_formats_is_refused(tmp_path):
    write_new(tmp_path / "x", "pickle")
    np.savez(tmp_path / "x" / "train_data_batch_10.npz", data=np.zeros((5, 3072), np.uint8))
    source = registry.build("data", f"imagenet32(path={str(tmp_path / 'x')!r})")
    with pytest.raises(DataError, match=r"twice, train_data_batch_10 and train_data_batch_10\.npz"):
        source.split("train")
    assert len(source.split("test")) == 5


def test_the_old_release_as_published(tmp_path):
    train = write(tmp_path / "x" / "train_32x32", n=12, size=32, classes=())
    write(tmp_path / "x" / "valid_32x32", n=3, size=32, classes=())
    source = registry.build("data", f"imagenet32_old(path={str(tmp_path / 'x')!r}, holdout=2)")
    assert source.num_classes == 0 and source.name == "imagenet32_old"
    assert [len(source.split(k)) for k in base.SPLITS] == [10, 2, 3]
    found = source.split("train").images
    np.testing.assert_array_equal(found, [train[k] for k in sorted(train)][:10])
    with pytest.raises(DataError, match=r"old release.*use imagenet32_old\(\)"):
        registry.build("data", f"imagenet32(path={str(tmp_path / 'x')!r})").split("train")


def test_releases_are_told_apart_by_their_numbers():
    with pytest.raises(DataError, match=r"imagenet32: 1,281,149 train .*use imagenet32_old\(\)"):
        _imagenet.refuse_other("new", 32, "train", 1281149)
    with pytest.raises(DataError, match=r"imagenet64_old: 50,000 test .*use imagenet64\(\)"):
        _imagenet.refuse_other("old", 64, "test", 50000)
    _imagenet.refuse_other("new", 32, "train", 1281167)
    _imagenet.refuse_other("old", 32, "test", 49999)


def test_a_pickle_that_is_a_program_is_not_run(tmp_path):
    class Program:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "val_data").write_bytes(pickle.dumps({"data": Program(), "labels": []}))
    with pytest.raises(DataError, match="which is not an array"):
        registry.build("data", f"imagenet32(path={str(tmp_path / 'x')!r})").split("test")
    assert not (tmp_path / "ran").exists()


def test_a_source_that_cannot_be_read_is_what_the_message_names(tmp_path, monkeypatch):
    write_new(tmp_path / "x", "pickle")

    def fails(path):
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(Path, "read_bytes", fails)
    with pytest.raises(
        DataError, match=r"Input/output error: .*train_data_batch_1.*check the images"
    ):
        registry.build("data", f"imagenet32(path={str(tmp_path / 'x')!r})").split("train")
