"""Image folders, npy files and the two releases of small ImageNet, from files written here."""

import io
import os
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from picture_files import write
from PIL import Image

from diffusion_jax import registry
from diffusion_jax.cli.modes import _edit_inputs, compress
from diffusion_jax.cli.modes._discriminator_data import mixed
from diffusion_jax.compression import files
from diffusion_jax.data import base
from diffusion_jax.data.datasets import embeddings
from diffusion_jax.data.datasets._pictures import decode
from diffusion_jax.errors import ConfigError, DataError, UserError
from diffusion_jax.evaluation.judges import _svm
from diffusion_jax.experiment.measures import sample_quality

pytestmark = pytest.mark.usefixtures("cache")


def build(folder, **changes):
    args = ", ".join(f"{k}={v!r}" for k, v in {"path": str(folder), "size": 4, **changes}.items())
    return registry.build("data", f"folder({args})")


def rows(split):
    """What a split holds, as a set of (pixels, label)."""
    found = split.take(np.arange(len(split)))
    return {(i.tobytes(), int(k)) for i, k in zip(found["image"], found["label"], strict=True)}


@pytest.mark.parametrize("cached", [False, True])
def test_every_file_is_in_one_split_with_its_pixels_and_class(tmp_path, cached):
    images = write(tmp_path / "x")
    source = build(tmp_path / "x", valid=0.2, test=0.2, cache=cached)
    assert source.shape == (4, 4, 3) and source.classes == ("cat", "dog")
    splits = {k: source.split(k) for k in base.SPLITS}
    together = [rows(s) for s in splits.values()]
    assert sum(map(len, together)) == 60 and min(map(len, together)) > 3
    wanted = {(im.tobytes(), int(name.startswith("dog"))) for name, im in images.items()}
    assert set().union(*together) == wanted
    train = splits["train"]
    assert isinstance(train.images, np.memmap) == cached
    assert train.images.nbytes == len(train) * 48 and train.skipped == 0
    np.testing.assert_array_equal(np.asarray(train.images)[-1], train.images[-1])
    np.testing.assert_array_equal(train.images[2:7:2], train.take(np.array([2, 4, 6]))["image"])
    np.testing.assert_array_equal(train.everything()["image"], train.images[:])


def test_more_files_do_not_move_those_there_are(tmp_path):
    write(tmp_path / "x", n=40)
    before = {k: rows(build(tmp_path / "x", test=0.3).split(k)) for k in ("train", "test")}
    more = build(tmp_path / "more", test=0.3) if write(tmp_path / "more", n=60) else None
    for k, v in before.items():
        assert v < rows(more.split(k))


def test_folders_for_splits_and_images_without_classes(tmp_path):
    for part, n in (("train", 20), ("val", 5), ("test", 4)):
        write(tmp_path / "x" / part, n=n, classes=())
    source = build(tmp_path / "x")
    assert source.num_classes == 0
    assert [len(source.split(k)) for k in base.SPLITS] == [20, 5, 4]
    for part, n in (("train", 20), ("test", 4)):
        write(tmp_path / "y" / part, n=n)
    source = build(tmp_path / "y", valid=0.3)
    assert source.num_classes == 2 and len(source.split("test")) == 4
    assert len(source.split("train")) + len(source.split("valid")) == 20
    assert build(tmp_path / "y", classes=False).num_classes == 0


def picture(array, kind="PNG", **how):
    out = io.BytesIO()
    Image.fromarray(array).save(out, kind, **how)
    return out.getvalue()


def test_the_central_square_is_shrunk_by_averaging():
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 256, (8, 13, 3), dtype=np.uint8)
    # 13 columns: the central 8 leave two on the left and three on the right.
    rows = np.floor(wide[:, 2:10].reshape(8, 4, 2, 3).mean(2) + 0.5)  # rounded after rows
    means = np.floor(rows.reshape(4, 2, 4, 3).mean(1) + 0.5)  # and after columns
    np.testing.assert_array_equal(decode(picture(wide), (4, 4), 3), means)
    np.testing.assert_array_equal(decode(picture(wide), (8, 8), 3), wide[:, 2:10])
    np.testing.assert_array_equal(
        decode(picture(wide, "WEBP", lossless=True), (8, 8), 3), wide[:, 2:10]
    )
    grey = rng.integers(0, 256, (8, 8), dtype=np.uint8)
    np.testing.assert_array_equal(decode(picture(grey), (8, 8), 1)[..., 0], grey)
    np.testing.assert_array_equal(decode(picture(grey), (8, 8), 3), grey[..., None].repeat(3, -1))
    smooth = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None] * 3, (64, 64, 3))
    jpeg = decode(picture(np.ascontiguousarray(smooth), "JPEG", quality=95), (32, 32), 3)
    assert abs(jpeg - smooth.reshape(32, 2, 32, 2, 3).mean((1, 3))).max() < 4
    # EXIF 6: the camera was turned, the picture is to be shown a quarter turn clockwise.
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = decode(picture(wide[:, :8], exif=exif), (8, 8), 3)
    np.testing.assert_array_equal(turned, np.rot90(wide[:, :8], -1))


def spoil(path, how):
    data = path.read_bytes()
    bad = {"empty": b"", "text": b"no picture", "cut": data[: len(data) // 2],
           "bits": data[:-30] + bytes(b ^ 255 for b in data[-30:])}  # fmt: skip
    path.write_bytes(bad[how])


@pytest.mark.parametrize("how", ["empty", "text", "cut", "bits"])
def test_a_damaged_file_is_named_once_counted_and_replaced_by_the_next(tmp_path, capsys, how):
    images = write(tmp_path / "x", n=12, classes=())
    names = sorted(images)
    for k in (3, 4, 11):
        spoil(tmp_path / "x" / names[k], how)
    split = build(tmp_path / "x", valid=0, test=0, workers=2).split("train")
    for _ in range(2):
        found = split.take(np.array([11, 2, 3, 4, 5]))["image"]
        for image, wanted in zip(found, (0, 2, 5, 5, 5), strict=True):
            np.testing.assert_array_equal(image, images[names[wanted]])
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 3 == split.skipped
    assert all(sum(f"{names[k]}: " in line for line in told) == 1 for k in (3, 4, 11))


def test_the_image_that_takes_a_place_brings_its_label(tmp_path, capsys):
    write(tmp_path / "x", n=10)
    spoil(tmp_path / "x" / "cat" / "008.png", "cut")  # the last cat; the next file is a dog
    split = build(tmp_path / "x", valid=0, test=0).split("train")
    np.testing.assert_array_equal(split.labels, [0] * 5 + [1] * 5)
    np.testing.assert_array_equal(split.take(np.arange(3, 6))["label"], [0, 1, 1])


def test_turned_and_resized_images_keep_the_label_of_what_is_seen(tmp_path, capsys):
    """The first dog stands for the last cat, here too: image and label are of one file."""
    for i, kind in enumerate(["cat"] * 4 + ["dog"] * 4):
        path = tmp_path / "x" / kind / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (200 * (kind == "dog"),) * 3).save(path)
    spoil(tmp_path / "x" / "cat" / "3.png", "cut")
    plain = f"folder(path={str(tmp_path / 'x')!r}, size=4, valid=0, test=0)"
    for text in (f"rotated({plain})", f"resized({plain}, size=2)"):
        split = registry.build("data", text).split("train")
        np.testing.assert_array_equal(split.images[:, 0, 0, 0], [0] * 3 + [200] * 5)
        np.testing.assert_array_equal(split.labels, [0] * 3 + [1] * 5)


def pets(folder, classes=2, each=4):
    """A folder of grey pictures whose level is `20 class`; the last one of class 0 is damaged."""
    for i in range(classes * each):
        path = folder / str(i // each) / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), 20 * (i // each)).save(path)
    spoil(folder / "0" / f"{each - 1:02d}.png", "text")
    return f"folder(path={str(folder)!r}, size=4, channels=1, valid=0, test=0)"


def test_moving_images_keep_the_label_of_what_is_seen(tmp_path, capsys):
    plain = pets(tmp_path / "x")
    split = registry.build("data", f"moving({plain}, frames=2, size=4, videos=60)").split("train")
    np.testing.assert_array_equal(split.images[:][:, 0, 0, 0, 0], 20 * split.labels)


def test_scenes_show_the_digit_of_what_is_seen(tmp_path, capsys):
    plain = pets(tmp_path / "x", classes=10, each=2)
    split = registry.build("data", f"scenes(of={plain}, objects=1, size=300)").split("train")
    digit = split.captions.attributes[:, 1]
    np.testing.assert_array_equal(split.images.max((1, 2, 3)), 20 * digit)


def test_embeddings_keep_the_caption_and_label_of_what_is_seen(tmp_path, capsys):
    clip = SimpleNamespace(
        shape=(4, 4, 1), levels=256, size=1, digest="x", images=lambda a: a[:, 0, :1, 0] / 20.0
    )
    named = registry.build("data", f"class_captions({pets(tmp_path / 'x')})")
    split = embeddings.make("clip", named, mean=(0.0,), std=(1.0,), open_clip=lambda _: clip)
    found = split.split("train")
    one = np.ravel(found.images) > np.ravel(found.images).min()
    np.testing.assert_array_equal(found.labels, one)
    assert found.captions.strings() == [named.split("train").captions.table[k] for k in one * 1]


def test_a_discriminator_is_told_the_label_of_what_is_seen(tmp_path, capsys):
    source = registry.build("data", pets(tmp_path / "x"))
    samples = np.zeros((100, 4, 4, 1), np.uint8)
    split = mixed(source, samples, np.zeros(100, np.int32), 2).split("train")
    np.testing.assert_array_equal(split.images[:8, 0, 0, 0], 20 * split.labels[:8])


def test_the_vector_machine_is_fitted_to_the_label_of_what_is_seen(tmp_path, capsys, monkeypatch):
    pytest.importorskip("sklearn")
    seen = {}

    def fit(self, rows, labels):
        seen.update(rows=rows, labels=labels)
        return self

    monkeypatch.setattr("sklearn.svm.SVC.fit", fit)
    _svm.fitted(registry.build("data", pets(tmp_path / "x")))
    np.testing.assert_array_equal(seen["rows"][:, 0] > 0, seen["labels"])


def test_what_is_coded_edited_or_compared_keeps_the_label_of_what_is_seen(
    tmp_path, capsys, monkeypatch
):
    """And no more of a large folder is read than was asked for."""
    config, read = tiny.config(tmp_path), []
    source = registry.build("data", f"class_captions({pets(tmp_path / 'x')})")
    run = SimpleNamespace(source=source, config=config)
    reader = type(source.split("train").images)
    whole = reader.read
    monkeypatch.setattr(reader, "read", lambda images, at: read.extend(at) or whole(images, at))
    seen = lambda images: (images[:, 0, 0, 0] // 20).tolist()

    config.eval.split = config.quality.floor = "train"
    for config.compress.limit, many in ((4, 4), (0, 8)):
        read.clear()
        coded = compress._images(run)
        assert coded.labels.tolist() == seen(coded.images) == [0, 0, 0, 1, 1, 1, 1, 1][:many]
        assert many <= len(read) <= many + 1  # one when the split is opened

    read.clear()
    images, labels, captions = _edit_inputs._images(run, "split:train", (3, 0))
    table = source.split("train").captions.table
    assert labels.tolist() == seen(images) == [1, 0] and captions == (table[1], table[0])
    assert len(read) <= 2 + 2
    with pytest.raises(ConfigError, match="there is no image 8; there are 8"):
        _edit_inputs._images(run, "split:train", (8,))

    found = {}
    monkeypatch.setattr(sample_quality.Bench, "_compare", lambda bench, *given, **_: (
        found.update(zip(("images", "labels", "asked"), given, strict=True)) or {}
    ))  # fmt: skip
    monkeypatch.setattr(sample_quality.quality, "halves", lambda _: None)
    bench = sample_quality.Bench(run, None, None, None, {}, None)
    assert bench.floor()["split"] == source.split("train").name
    assert found["labels"].tolist() == seen(found["images"]) == [0, 0, 0, 1, 1, 1, 1, 1]
    assert found["asked"] == [table[k] for k in found["labels"]]


def test_the_first_files_of_a_folder_are_all_that_is_read(tmp_path):
    write(tmp_path / "x", n=3, classes=())
    for picture in (tmp_path / "x").rglob("*"):
        Image.new("L", (4, 4)).save(tmp_path / f"{picture.stem}.png")
    (tmp_path / "002.png").write_bytes(b"damaged")
    found = files.read(tmp_path, "test", (4, 4, 1), 256, 0, limit=2)
    assert found.names == ("000.png", "001.png") and len(found.images) == 2


def test_halves_share_no_image_where_some_are_damaged(tmp_path, capsys):
    images = write(tmp_path / "x", n=16, classes=())
    for name in ("003.png", "004.png", "009.png"):
        spoil(tmp_path / "x" / name, "text")
        del images[name]
    plain = f"folder(path={str(tmp_path / 'x')!r}, size=4, valid=0, test=0)"
    for seed in range(4):
        halves = [
            registry.build("data", f"half({plain}, part={part}, seed={seed})").split("train")
            for part in (0, 1)
        ]
        seen = [image.tobytes() for half in halves for image in half.images]
        assert sorted(seen) == sorted(image.tobytes() for image in images.values())
    few = registry.build("data", f"half({plain}, size=5)").split("train")
    assert len({image.tobytes() for image in few.images}) == 5
    with pytest.raises(DataError, match="size=8, but half of x/train"):
        registry.build("data", f"half({plain}, size=8)").split("train")


def test_what_killed_processes_left_is_swept_and_what_is_being_written_is_not(tmp_path, cache):
    write(tmp_path / "x", n=9)
    old, young, other = (cache / n / "split" for n in ("decoding-a", "decoding-b", "mine"))
    for folder in (old, young, other):
        folder.mkdir(parents=True)
        (folder / "images.npy").write_bytes(b"half")
        for path in (folder / "images.npy", folder, folder.parent):
            os.utime(path, (1, 1))
    os.utime(young / "images.npy")  # the file grows; the folders around it keep their times
    build(tmp_path / "x", valid=0, test=0, cache=True).split("train")
    assert not old.parent.exists() and young.exists() and other.exists()
    assert sorted(p.name for p in cache.glob("decoding-*")) == ["decoding-b"]


def test_figures_count_every_good_image_once(tmp_path, capsys, cache):
    images = write(tmp_path / "x" / "test", n=9, classes=())
    write(tmp_path / "x" / "train", n=3, classes=())
    spoil(tmp_path / "x" / "test" / "002.png", "cut")
    for _ in range(2):
        test = build(tmp_path / "x").split("test")
        assert len(test) == 8
        wanted = [v for k, v in sorted(images.items()) if k != "002.png"]
        np.testing.assert_array_equal(test.images, wanted)
    assert capsys.readouterr().err.count("002.png") == 1  # decoded once, and kept
    Image.fromarray(images["000.png"]).save(tmp_path / "x" / "test" / "002.png")  # mended
    assert len(build(tmp_path / "x").split("test")) == 9


def test_hopeless_folders_are_refused(tmp_path):
    (tmp_path / "empty" / "sub").mkdir(parents=True)
    (tmp_path / "empty" / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="no image"):
        build(tmp_path / "empty")
    with pytest.raises(DataError, match="cannot read the folder"):
        build(tmp_path / "nowhere")
    images = write(tmp_path / "bad", n=5, classes=())
    for name in images:
        spoil(tmp_path / "bad" / name, "cut")
    with pytest.raises(DataError, match=r"none of 5 consecutive files.*000\.png.*damaged"):
        build(tmp_path / "bad", valid=0, test=0).split("train").take(np.arange(2))
    with pytest.raises(DataError, match="none of the 5 files"):
        build(tmp_path / "bad", valid=0, test=0, cache=True).split("train")
    write(tmp_path / "small", n=5, classes=())
    with pytest.raises(DataError, match="is 4x4, smaller than 8x8"):
        build(tmp_path / "small", valid=0, test=0, size=8).split("train").take(np.arange(2))
    split = build(tmp_path / "small", valid=0, test=0).split("train")
    os.remove(tmp_path / "small" / "003.png")
    with pytest.raises(DataError, match=r"cannot read .*003\.png"):
        split.take(np.arange(5))


def test_arguments_that_make_no_set_are_refused(tmp_path):
    write(tmp_path / "x", n=4)
    for changes, says in (
        ({"valid": 0.5, "test": 0.5}, "leave some for training"),
        ({"channels": 2}, "1 or 3 channels"),
        ({"size": 0}, "size=0"),
        ({"size": (4, 4, 3)}, "tuple of 2"),
        ({"size": True}, "size=True"),
        ({"size": (4, 2.5)}, "2.5"),
        ({"workers": -1}, "workers=-1"),
    ):
        with pytest.raises(UserError, match=says):
            build(tmp_path / "x", **changes)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "x" / "alone.png")
    with pytest.raises(DataError, match=r"beside class folders \(alone.png\)"):
        build(tmp_path / "x")
    write(tmp_path / "y" / "train", n=4)
    write(tmp_path / "y" / "test", n=4, classes=("bird",))
    with pytest.raises(DataError, match="classes that are not in train: bird"):
        build(tmp_path / "y")


def test_a_relative_path_is_below_data_dir(tmp_path):
    write(tmp_path / "x", n=4)
    source = registry.build("data", "folder('x', size=4)", data_dir=str(tmp_path))
    assert source.name == "x" and source.num_classes == 2
