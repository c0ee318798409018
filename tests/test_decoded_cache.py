"""Decoded images that are kept: every damage is noticed and mended."""

import json
import os

import numpy as np
import pytest

from diffusion_jax.data.datasets import _cache
from diffusion_jax.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 3), dtype=np.uint8)
LABELS = np.arange(40, dtype=np.int32)


def write(out):
    np.save(out / "images.npy", IMAGES)
    np.save(out / "labels.npy", LABELS)


@pytest.fixture
def final(tmp_path, monkeypatch):
    monkeypatch.setattr(_cache, "_BLOCK", 256)
    _cache.once(tmp_path / "set", write)
    return tmp_path / "set"


def read_again(final):
    """What is read next, and how often it was decoded for that."""
    calls = []
    images, labels = _cache.once(final, lambda out: (calls.append(out), write(out)))
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)
    assert images.dtype == np.uint8 and labels.dtype == np.int32
    assert [p.name for p in final.parent.iterdir()] == ["set"]
    return len(calls)


def test_sound_images_are_decoded_once(final):
    assert read_again(final) == 0 == read_again(final)


def other(array):
    return lambda path: np.save(path, array)


DAMAGES = {
    "gone": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_bytes(b"no array"),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"more"),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "first byte": lambda path: flip(path, 0),
    "header": lambda path: flip(path, 20),
    "middle": lambda path: flip(path, path.stat().st_size // 2),
    "last byte": lambda path: flip(path, path.stat().st_size - 1),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "sums.json"])
@pytest.mark.parametrize("how", DAMAGES)
def test_every_damage_is_noticed_and_mended(final, name, how, capsys):
    DAMAGES[how](final / name)
    assert read_again(final) == 1
    assert "damaged" in capsys.readouterr().out
    assert read_again(final) == 0


@pytest.mark.parametrize("seal", ["[]", "{}", '{"images.npy": 3}', "null", '{"images.npy": {}}'])
def test_a_seal_of_another_form_is_damage(final, seal):
    (final / "sums.json").write_text(seal)
    assert read_again(final) == 1


def test_other_arrays_in_their_place_are_damage(final):
    for name, array in (("images.npy", IMAGES[::-1]), ("labels.npy", LABELS[::-1])):
        np.save(final / name, array)
        assert read_again(final) == 1


def test_of_large_sets_some_blocks_are_looked_at_and_the_ends_always(final, monkeypatch):
    monkeypatch.setattr(_cache, "_CHECKED", 2)
    looked = []
    sums = _cache._sums

    def watched(path, chosen=None):
        looked.append((path.name, None if chosen is None else chosen.tolist()))
        return sums(path, chosen)

    monkeypatch.setattr(_cache, "_sums", watched)
    assert read_again(final) == 0
    blocks = len(json.loads((final / "sums.json").read_text())["images.npy"]["sums"])
    assert blocks > 2 and looked[0] == ("images.npy", [0, blocks - 1])


def test_a_cache_that_cannot_be_read_is_refused_and_kept(final, monkeypatch):
    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_cache, "_sums", denied)
    with pytest.raises(DataError, match="Permission denied"):
        _cache.once(final, write)
    assert sorted(os.listdir(final)) == ["images.npy", "labels.npy", "sums.json"]


def test_a_disk_that_does_not_keep_what_is_written_is_named(tmp_path, monkeypatch):
    rename = type(tmp_path).rename

    def spoiling(self, target):
        moved = rename(self, target)
        flip(target / "images.npy", 200)
        return moved

    monkeypatch.setattr(type(tmp_path), "rename", spoiling)
    with pytest.raises(DataError, match="do not read back"):
        _cache.once(tmp_path / "set", write)
