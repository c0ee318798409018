"""Arrays in npy and npz files, mapped and not read."""

import numpy as np
import pytest

from diffusion_jax import registry
from diffusion_jax.errors import DataError

pytestmark = pytest.mark.usefixtures("cache")


def write_npy(folder, **arrays):
    folder.mkdir(exist_ok=True)
    for k, v in arrays.items():
        np.save(folder / f"{k}.npy", v)
    return folder


def test_npy_files_are_mapped_not_read(tmp_path):
    rng = np.random.default_rng(0)
    train, test = rng.integers(0, 9, (2, 20, 3, 5, 1), dtype=np.uint8)
    folder = write_npy(tmp_path / "x", train_image=train, test_image=test,
                       train_label=np.arange(20) % 4, test_label=np.arange(20) % 3)  # fmt: skip
    text = f"npy({str(folder)!r}, levels=9, num_classes=4, holdout=5)"
    source = registry.build("data", text)
    assert source.shape == (3, 5, 1)
    found = source.split("train")
    assert isinstance(found.images, np.memmap)
    np.testing.assert_array_equal(found.images, train[:15])
    np.testing.assert_array_equal(source.split("valid").labels, np.arange(15, 20) % 4)
    np.testing.assert_array_equal(source.split("test").take(np.array([7, 7, 1]))["image"],
                                  test[[7, 7, 1]])  # fmt: skip


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_plain_npz_files_are_mapped_too(tmp_path, save):
    rng = np.random.default_rng(0)
    train, test = rng.integers(0, 256, (2, 20, 3, 5, 3), dtype=np.uint8)
    save(tmp_path / "x.npz", train_image=train, test_image=np.asfortranarray(test))
    source = registry.build("data", f"npz({str(tmp_path / 'x.npz')!r})")
    assert isinstance(source.split("train").images, np.memmap) == (save is np.savez)
    np.testing.assert_array_equal(source.split("train").images, train)
    np.testing.assert_array_equal(source.split("test").images, test)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"train_image": np.zeros((4, 2, 2, 1))}, r"train_image must be uint8 .* got float64"),
        ({"test_image": np.zeros((4, 2, 2), np.uint8)}, r"test_image must be .* \(4, 2, 2\)"),
        ({"test_image": np.zeros((4, 3, 2, 1), np.uint8)}, r"\(2, 2, 1\), test images \(3, 2, 1\)"),
        ({"train_label": np.zeros(3, int), "test_label": np.zeros(4, int)}, r"integers \[4\]"),
        ({"train_label": np.zeros(4), "test_label": np.zeros(4, int)}, "got float64"),
        ({"train_label": np.zeros(4, int)}, "no test_label"),
    ],
)
def test_npy_files_that_hold_something_else(tmp_path, changes, says):
    good = np.zeros((4, 2, 2, 1), np.uint8)
    folder = write_npy(tmp_path / "x", **{"train_image": good, "test_image": good, **changes})
    with pytest.raises(DataError, match=says):
        registry.build("data", f"npy({str(folder)!r}, num_classes=2)")


def test_npy_folders_that_lack_something(tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        registry.build("data", f"npy({str(tmp_path / 'no')!r})")
    folder = write_npy(tmp_path / "x", train_image=np.zeros((4, 2, 2, 1), np.uint8))
    with pytest.raises(DataError, match=r"lacks test_image\.npy"):
        registry.build("data", f"npy({str(folder)!r})")
    (folder / "test_image.npy").write_bytes(b"nonsense")
    with pytest.raises(DataError, match="cannot read"):
        registry.build("data", f"npy({str(folder)!r})")
