"""Modes quality and statistics: the card, the files, and one clear line for each mistake."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import picture_files
import pytest
import tiny
from command import config_file, main, refused
from PIL import Image

from diffusion_jax.cli.modes import (
    quality,
    sample as sample_mode,
    statistics as statistics_mode,
)
from diffusion_jax.cli.report import collect, sections_measured
from diffusion_jax.data.base import Source
from diffusion_jax.errors import ConfigError, DataError
from diffusion_jax.evaluation import statistics
from diffusion_jax.experiment.measures import features
from diffusion_jax.experiment.sampling import samples
from diffusion_jax.runtime.sharding import replicated
from diffusion_jax.sampling import generate


def experiment(folder, **changes):
    """The tiny job: 4x4 images, 5 levels, 3 classes, 56 train, 13 test."""
    made = tiny.experiment(folder)
    made.config.quality.update({"batch": 16, **changes})
    return made


def write(path, image, **more):
    np.savez(path, image=image, **more)
    return str(path)


@pytest.fixture
def train(tmp_path):
    return experiment(tmp_path).source.split("train")


@pytest.fixture
def classifier(monkeypatch):
    """Stands for a trained one: a class is told by the mean grey level of these images."""

    def logits(params, images):
        mean = images.astype(jnp.float32).mean((1, 2, 3))
        return -((mean[:, None] - params["centres"]) ** 2)

    found = features.Classifier(
        params={"centres": jnp.array([1.0, 2.0, 3.0])},
        logits=logits,
        features=lambda params, images: images.reshape(len(images), -1)[:, :3] * 1.0,
        record={"task": "guide(classifier())"},
    )
    monkeypatch.setattr(features, "open_classifier", lambda experiment, path, setting: found)


def card(made):
    quality.run(made)
    (path,) = (made.workdir / "quality").glob("*.json")
    return json.loads(path.read_text()), path


def test_the_training_data_as_samples(tmp_path, train, classifier, capsys):
    samples = write(tmp_path / "copies.npz", train.images, label=train.labels)
    made = experiment(tmp_path, samples=samples, classifier="here", k=3)
    found, path = card(made)
    result = {k: v["mean"] for k, v in found["result"].items()}
    assert result["frechet"] == pytest.approx(0.0, abs=1e-9)
    assert (result["precision"], result["recall"], result["coverage"]) == (1.0, 1.0, 1.0)
    assert result["memorisation ratio"] == 0.0 and result["memorisation copies"] == len(train)
    assert result["accuracy"] > 0.9  # of the stub; the images are of these classes
    figures = found["figures"][0]
    assert figures["classes"]["data"] == (np.bincount(train.labels) / len(train)).tolist()
    assert all(c["distance"] == 0.0 for c in figures["memorisation"]["closest"])
    picture = np.asarray(Image.open(path.with_suffix(".png")))
    size = 64 + 2
    # 24 pairs in 3 x 2 rows of 8: under each sample is its copy.
    assert picture.shape == (6 * size - 2, 8 * size - 2, 3)
    for top in (0, 2 * size, 4 * size):
        np.testing.assert_array_equal(
            picture[top : top + 64], picture[top + size : top + size + 64]
        )
    said = capsys.readouterr().out
    for word in ("frechet", "kid", "precision", "least represented", "real images", str(path)):
        assert word in said


def test_the_card_has_everything_the_figures_depend_on(tmp_path, train):
    samples = write(tmp_path / "s.npz", train.images[:40], method=json.dumps({"sampler": "x()"}))
    found, _ = card(experiment(tmp_path, samples=samples))
    assert found["samples"].items() >= {"images": 40, "sampler": "x()", "file": samples}.items()
    assert len(found["samples"]["images_sha256"]) == 64
    assert found["reference"]["data_sha256"] == train.fingerprint()
    assert found["reference"]["split"] == "npz/train" and found["reference"]["images"] == 56
    assert len(found["features"]["features_sha256"]) == 64
    assert found["settings"].keys() == set(quality._SETTINGS)
    assert found["numerics"].keys() >= {"jax", "numpy", "diffusion_jax", "devices", "dtype"}
    # What real images would score: 13 of them are too few for 16 pixels, and the card says so.
    assert found["floor"]["split"] == "npz/test" and found["floor"]["images"] == 13
    assert "draw more" in found["floor"]["frechet"]["reason"]
    assert found["floor"]["halves"]["images"] == 28 and found["floor"]["halves"]["frechet"] > 0
    json.dumps(found, allow_nan=False)
    shown = sections_measured.quality(collect.read(tmp_path / "run"))
    assert f"{found['result']['precision']['mean']:.4f}" in shown.body


def test_damaged_statistics_of_a_run_are_to_be_deleted(tmp_path, train):
    made = experiment(tmp_path, samples=write(tmp_path / "s.npz", train.images))
    statistics_mode.run(made)
    (kept,) = (made.workdir / "statistics").glob("*.npz")
    kept.write_bytes(kept.read_bytes()[:100])
    for mode in (statistics_mode, quality):
        with pytest.raises(DataError, match=rf"{kept.name}: .*; delete it, and it is computed"):
            mode.run(made)
    kept.unlink()
    statistics_mode.run(made)
    assert statistics.read(kept).size == 16


def test_statistics_are_kept_and_found_again(tmp_path, train, capsys):
    made = experiment(tmp_path, samples=write(tmp_path / "s.npz", train.images))
    statistics_mode.run(made)
    (kept,) = (made.workdir / "statistics").glob("*.npz")
    before, stamp = statistics.read(kept), kept.stat().st_mtime_ns
    pixels = 2 * train.images.reshape(56, 16) / 4.0 - 1
    np.testing.assert_allclose(before.moments.mean, pixels.mean(0), atol=1e-6)
    np.testing.assert_allclose(before.moments.covariance, np.cov(pixels.T), atol=1e-6)
    assert {tuple(np.round(r, 3)) for r in before.rows} == {tuple(np.round(r, 3)) for r in pixels}
    here, _ = card(made)
    assert kept.stat().st_mtime_ns == stamp
    # Named from another place it gives the same figures.
    elsewhere = tiny.experiment(tmp_path, "elsewhere")
    elsewhere.config.quality.update(
        {"samples": made.config.quality.samples, "reference": str(kept), "batch": 16}
    )
    there, _ = card(elsewhere)
    assert there["result"] == here["result"]
    assert there["reference"]["data_sha256"] == here["reference"]["data_sha256"]
    assert "written to" in capsys.readouterr().out
    # Other rows are other statistics; they lie beside the first, and are found again too.
    made.config.quality.rows = 20
    for _ in range(2):
        quality.run(made)
    other = kept.with_name(f"{kept.stem}_2.npz")
    assert {*kept.parent.glob("*.npz")} == {kept, other} and len(statistics.read(other).rows) == 20
    assert kept.stat().st_mtime_ns == stamp


def test_statistics_of_another_package_give_frechet(tmp_path, train):
    pixels = 2 * train.images.reshape(56, 16) / 4.0 - 1
    np.savez(tmp_path / "theirs.npz", mu=pixels.mean(0), sigma=np.cov(pixels.T))
    made = experiment(tmp_path, samples=write(tmp_path / "s.npz", train.images), nearest="",
               reference=str(tmp_path / "theirs.npz"), metrics=("frechet",))  # fmt: skip
    found, path = card(made)
    assert found["result"]["frechet"]["mean"] == pytest.approx(0.0, abs=1e-6)
    assert found["reference"]["split"] == "unknown data"
    assert not path.with_suffix(".png").exists()
    made.config.quality.metrics = ("kid",)
    with pytest.raises(ConfigError, match="kid needs rows"):
        quality.run(made)


def test_samples_of_guided_diffusion_are_read(tmp_path, train, classifier):
    path = tmp_path / "theirs.npz"
    np.savez(path, arr_0=train.images.astype(np.int64), arr_1=train.labels)
    found, _ = card(
        experiment(tmp_path, samples=str(path), classifier="here", floor="", nearest="")
    )
    assert found["floor"] is None and found["result"]["accuracy"]["mean"] > 0.9


def test_accuracy_needs_labels(tmp_path, train, classifier):
    samples = write(tmp_path / "s.npz", train.images)
    made = experiment(tmp_path, samples=samples, classifier="here", nearest="")
    with pytest.raises(DataError, match="have no labels"):
        quality.run(made)
    made.config.conditional = False
    found, _ = card(made)
    assert "jensen_shannon_bits" in found["result"] and "accuracy" not in found["result"]


def test_a_reference_of_other_features_is_refused(tmp_path, train):
    samples = write(tmp_path / "s.npz", train.images)
    made = experiment(tmp_path, samples=samples, features="pixels(size=2)")
    statistics_mode.run(made)
    (path,) = (made.workdir / "statistics").glob("*.npz")
    with pytest.raises(ConfigError, match="holds 4 features, pixels has 16"):
        quality.run(experiment(tmp_path, samples=samples, reference=str(path)))
    found = statistics.read(path)
    found.record["features_sha256"] = "0" * 64
    statistics.write(path, found)
    with pytest.raises(ConfigError, match="other weights"):
        quality.run(
            experiment(tmp_path, samples=samples, reference=str(path), features="pixels(size=2)")
        )


@pytest.mark.slow
def test_samples_drawn_here_and_the_same_from_their_file(tmp_path, monkeypatch):
    made = tiny.experiment(tmp_path)
    made.config.sample.num, made.config.quality.repeats = 24, 2
    made.config.quality.nearest = ""
    params = jax.device_put(made.model.init(jax.random.key(0), (4, 4, 1)), replicated(made.mesh))
    record = {"step": 6, "weights": "0.9", "checkpoint": "here"}
    monkeypatch.setattr(type(made), "weights", lambda experiment, name="": (params, record))
    with monkeypatch.context() as m:  # too few for the features: said before any is drawn
        m.setattr(generate, "generate", None)
        made.config.sample.num = 16
        with pytest.raises(DataError, match="16 images have no full covariance in 16 features"):
            quality.run(made)
        made.config.sample.num = 24
    found, path = card(made)
    assert found["samples"].items() >= {
        "sets": 2, "seed": [0, 1], "step": 6, "guidance": "cfg(w=2.0)", "network_calls": 3,
        "plan": "once()", "weights": "0.9", "checkpoint": "here", "images": 24,
    }.items()  # fmt: skip
    assert found["result"]["frechet"]["min"] < found["result"]["frechet"]["max"]
    # Samples of mode=sample with the same settings are the same samples.
    sample_mode.run(made)
    made.config.quality.repeats = 1
    made.config.quality.samples = str(made.workdir / "samples/6.npz")
    quality.run(made)
    (path,) = [p for p in (made.workdir / "quality").glob("*.json") if p != path]
    again = json.loads(path.read_text())
    assert again["samples"]["images_sha256"] == found["samples"]["images_sha256"][0]
    assert again["samples"]["sampler"] == found["samples"]["sampler"]
    assert again["figures"][0] == found["figures"][0]


@pytest.mark.slow
def test_from_the_command_line(tmp_path, train):
    config, samples = config_file(tmp_path), write(tmp_path / "s.npz", train.images)
    few = write(tmp_path / "few.npz", train.images[:6])
    options = ("--mode=quality", f"--config={config}", f"--workdir={tmp_path}/run")
    done = main(*options, f"--config.quality.samples={samples}")
    assert done.returncode == 0, done.stderr
    assert "memorisation copies            56" in done.stdout
    assert list((tmp_path / "run/quality").glob("s_pixels_*.json"))
    refused(main(*options, f"--config.quality.samples={few}"), "6 images have no full covariance")


def test_samples_may_be_a_folder_of_pictures(tmp_path):
    wanted = picture_files.write(tmp_path / "flat", n=6, classes=())
    classed = picture_files.write(tmp_path / "sorted", n=6)
    picture_files.write(tmp_path / "large", n=2, size=8, classes=())
    source = Source("pets", (4, 4, 3), 256, 2, lambda _: None, ("cat", "dog"))
    run = SimpleNamespace(source=source)
    flat = samples.read(run, tmp_path / "flat")
    np.testing.assert_array_equal(flat.images, [wanted[k] for k in sorted(wanted)])
    assert flat.labels is None and flat.record["images"] == 6
    found = samples.read(run, tmp_path / "sorted")
    np.testing.assert_array_equal(found.labels, [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(found.images, [classed[k] for k in sorted(classed)])
    few = SimpleNamespace(source=Source("few", (4, 4, 3), 5, 0, lambda _: None))
    off = samples.read(few, tmp_path / "flat").images * (255 / 4) - flat.images
    assert np.abs(off).max() <= 255 / 8
    with pytest.raises(DataError, match=r"large/000\.png is 8x8; pets has 4x4"):
        samples.read(run, tmp_path / "large")
    (tmp_path / "flat" / "000.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"cannot read the sample .*000\.png"):
        samples.read(run, tmp_path / "flat")
