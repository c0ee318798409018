"""Files in, files out: the codec as a user runs it, decoding in another process."""

import json
import re

import jax
import numpy as np
import optax
import pytest
import tiny
from command import main, program, refused
from PIL import Image

from diffusion_jax import saved_config
from diffusion_jax.cli.modes import compress
from diffusion_jax.cli.report import collect, sections_measured
from diffusion_jax.compression import files, other_formats
from diffusion_jax.errors import CheckpointError, CodecError, ConfigError, DataError
from diffusion_jax.experiment import Experiment, codec, prepare_workdir
from diffusion_jax.training import state as state_lib
from diffusion_jax.training.checkpoint import Checkpoints


def pictures(n=5, shape=(4, 4, 1), levels=256):
    return np.random.default_rng(0).integers(0, levels, (n, *shape)).astype(np.uint8)


def test_png_folders_and_npz_read_what_was_written(tmp_path):
    for shape in ((4, 4, 1), (5, 3, 3)):
        found = files.Images("x", pictures(shape=shape), np.arange(5, dtype=np.int32))
        folder = tmp_path / f"{shape[-1]}"
        files.write_pngs(folder, found)
        back = files.read(folder, "test", shape, 256, 5)
        np.testing.assert_array_equal(back.images, found.images)
        assert back.labels is None and back.names[0] == "000000.png"
        files.write_npz(tmp_path / "x.npz", found)
        back = files.read(tmp_path / "x.npz", "test", shape, 256, 5)
        np.testing.assert_array_equal(back.images, found.images)
        np.testing.assert_array_equal(back.labels, found.labels)
        assert back.sha256() == found.sha256()
    one = files.read(tmp_path / "3" / "000002.png", "test", (5, 3, 3), 256, 0)
    np.testing.assert_array_equal(one.images[0], found.images[2])


def test_files_that_do_not_fit_are_refused(tmp_path):
    read = lambda name, shape=(4, 4, 1), levels=256, classes=0: files.read(
        tmp_path / name, "test", shape, levels, classes
    )
    np.savez(tmp_path / "x.npz", image=pictures(), label=np.full(5, 3))
    np.savez(tmp_path / "floats.npz", image=pictures() / 255.0)
    np.savez(tmp_path / "other.npz", data=pictures())
    np.savez(tmp_path / "short.npz", image=pictures(), label=np.zeros(4))
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.npz").write_bytes(b"PK nonsense")
    (tmp_path / "text.txt").write_text("x")
    Image.new("RGBA", (4, 4)).save(tmp_path / "alpha.png")
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    Image.new("L", (4, 4)).save(mixed / "a.png")
    Image.new("L", (5, 4)).save(mixed / "b.png")
    for args, message in (
        (("x.npz", (8, 8, 1)), "4x4x1, this model's are 8x8x1"),
        (("x.npz", (4, 4, 1), 17), "levels=17"),
        (("x.npz", (4, 4, 1), 256, 3), "label 3 is out of range"),
        (("short.npz", (4, 4, 1), 256, 3), "4 labels for 5 images"),
        (("floats.npz",), "must be uint8"),
        (("other.npz",), "no array .image.; arrays in the file"),
        (("bad.npz",), "cannot read"),
        (("absent.npz",), "cannot read"),
        (("empty",), "no .png files"),
        (("text.txt",), "give an .npz, a .png or a folder"),
        (("alpha.png",), "mode RGBA"),
        (("mixed",), "all must have the same size"),
    ):
        with pytest.raises(DataError, match=message):
            read(*args)


def test_other_formats_are_sized_by_what_they_write():
    same = np.full((16, 8, 8, 1), 7, np.uint8)
    noise = pictures(16, (8, 8, 1))
    for a, b in zip(other_formats.rivals(same), other_formats.rivals(noise), strict=True):
        assert a["format"] == b["format"]
        if "missing" in a:
            continue
        # Nothing compresses noise; everything compresses a constant, most of all in one picture.
        assert a["bits_per_dim_sheet"] < a["bits_per_dim"]
        assert a["bits_per_dim_sheet"] < 1.5 and b["bits_per_dim_sheet"] > 7.9


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codec")
    experiment = tiny.experiment(folder)
    with prepare_workdir(experiment):
        pass
    params = jax.jit(lambda: experiment.model.init(jax.random.key(0), experiment.source.shape))()
    state = state_lib.init(params, optax.sgd(0.1), experiment.config.ema)
    moved = {k: jax.tree.map(lambda a: a + 0.01, v) for k, v in state.ema.items()}
    checkpoints = Checkpoints(experiment.workdir)
    meta = {"config": saved_config.to_dict(experiment.config)}
    checkpoints.save(state.replace(step=jax.numpy.int32(6), ema=moved), meta, {})
    checkpoints.close()
    done = program("--mode=compress", f"--workdir={folder / 'run'}",
                "--config.compress.timesteps=5", "--config.compress.batch=4",
                "--config.compress.compare", "--config.compress.verify")  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, experiment, done


@pytest.mark.slow
def test_compress_prints_and_records_what_it_did(run):
    folder, _, done = run
    report = json.loads((folder / "run/compressed/6.json").read_text())
    size = (folder / "run/compressed/6.djz").stat().st_size
    dims = 13 * 16  # images of 4x4
    r = report["result"]
    assert report["file"]["order"] == "bitswap" and report["file"]["bytes"] == size
    assert r["file_bits_per_dim"] == pytest.approx(8 * size / dims)
    assert r["labels_bits_per_dim"] == pytest.approx(np.log2(3) / 16)
    # What is in the file: the header, the initial bits, the net length, and unused ends of words.
    parts = ("header", "net", "labels", "initial_bits_in_file")
    rest = r["file_bits_per_dim"] - sum(r[f"{p}_bits_per_dim".replace("file_bits", "file")]
                                        for p in parts)  # fmt: skip
    assert 0 < rest * dims < 64 * 8 + 400
    assert abs(report["bound"]["same_latents"]["net_minus_bound"]) < 0.3
    shown = sections_measured.codec(collect.read(folder / "run"))
    assert f"{r['net_bits_per_dim']:.4f}" in shown.body
    for words in ("byte-exact", "same latents", "fresh latents", "images/s", "PNG", "WebP",
                  "initial bits", "given the class"):  # fmt: skip
        assert words in done.stdout


@pytest.mark.slow
def test_another_process_decodes_every_byte(run):
    folder, experiment, _ = run
    done = program("--mode=decompress", f"--workdir={folder / 'run'}", "--config.compress.png",
                f"--config.compress.output={folder / 'back.npz'}")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"13 images and labels decoded, byte-exact", done.stdout)
    split = experiment.source.split("test")
    with np.load(folder / "back.npz") as found:
        np.testing.assert_array_equal(found["image"], split.images)
        np.testing.assert_array_equal(found["label"], split.labels)
    png = np.asarray(Image.open(folder / "back_png" / "000012.png"))
    np.testing.assert_array_equal(png, split.images[12, :, :, 0])


@pytest.mark.slow
def test_a_flipped_byte_exits_with_2(run):
    folder, *_ = run
    data = bytearray((folder / "run/compressed/6.djz").read_bytes())
    data[-30] ^= 1
    (folder / "bad.djz").write_bytes(data)
    refused(
        main(
            "--mode=verify",
            f"--workdir={folder / 'run'}",
            f"--config.compress.input={folder / 'bad.djz'}",
        ),
        "group 1 of 1 is damaged",
    )


@pytest.mark.slow
def test_files_are_refused_before_anything_is_decoded(run, monkeypatch):
    folder, experiment, _ = run
    path = folder / "run/compressed/6.djz"
    refuse = lambda message, **changes: refuse_job(
        Experiment(tiny.config(folder, **changes), experiment.workdir), path, message
    )
    refuse("another model", eval={"weights": "params"})
    other = Experiment(tiny.config(folder, prediction="v"), experiment.workdir)
    with pytest.raises(CodecError, match="another model"):
        codec.decode(other, experiment.params, path.read_bytes(), path.name)
    with pytest.raises(CheckpointError, match="prediction: 'eps' -> 'v'"):
        _ = other.params  # the weights themselves are refused too
    refuse(
        "batches of 4 images and can only be decoded with those, not with 8", compress={"batch": 8}
    )
    monkeypatch.setattr("diffusion_jax.compression.model_functions.jax.__version__", "0.0.1")
    refuse("written with jax .*, not 0.0.1")


def refuse_job(experiment, path, message):
    with pytest.raises(CodecError, match=message):
        codec.decode(experiment, experiment.params, path.read_bytes(), path.name)


@pytest.mark.slow
def test_mistakes_of_compress(run):
    folder, _, _ = run
    np.savez(folder / "plain.npz", image=np.zeros((3, 4, 4, 1), np.uint8))
    for changes, message in (
        ({"compress": {"labels": "code"}}, "has no labels"),
        ({"compress": {"labels": "some"}}, "allowed: auto, code, null"),
        ({"compress": {"order": "sideways"}}, "allowed: auto, bitswap, topdown"),
        ({"compress": {"timesteps": 0}}, "must be positive"),
    ):
        experiment = Experiment(tiny.config(folder, **changes), folder / "run")
        experiment.config.compress.input = str(folder / "plain.npz")
        with pytest.raises(ConfigError, match=message):
            compress.run(experiment)
    (folder / "there.djz").write_bytes(b"")
    experiment = Experiment(tiny.config(folder), folder / "run")
    experiment.config.compress.output = str(folder / "there.djz")
    with pytest.raises(ConfigError, match="exists"):
        compress.run(experiment)
