"""Mode quality: one clear line for each mistake."""

import numpy as np
import pytest
from test_quality import experiment, write

from diffusion_jax.cli.modes import (
    quality,
)
from diffusion_jax.errors import DataError, UserError


def images(n=40, shape=(4, 4, 1), dtype=np.uint8, high=5):
    return np.random.default_rng(0).integers(0, high, (n, *shape)).astype(dtype)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image": images(shape=(4, 4, 3))}, r"shape \(40, 4, 4, 3\); npz needs \[N, 4, 4, 1\]"),
        ({"image": images(high=9)}, r"values from 0 to 8.*levels 0 .. 4"),
        ({"image": images(dtype=np.float32)}, "must be whole numbers"),
        ({"image": images(10)}, "10 images have no full covariance in 16 features.*sample.num"),
        ({"image": images(), "label": np.full(40, 3)}, r"labels must be .* 0 .. 2"),
        ({"image": images(), "label": np.zeros(7, int)}, "one whole number per image"),
        ({"picture": images()}, "no array 'image'; arrays in the file: 'picture'.*with 'image'"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_samples_that_do_not_fit_are_one_line(tmp_path, arrays, message):
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(DataError, match=message) as e:
        quality.run(experiment(tmp_path, samples=str(tmp_path / "s.npz"), floor="", nearest=""))
    assert "\n" not in str(e.value)
    assert not any(tmp_path.rglob("statistics"))  # said before any is computed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ("kid",), "rows": 10}, "kid needs 20.*10 rows.*config.quality.rows"),
        ({"metrics": ("coverage",), "rows": 3}, "coverage needs 4.*k=3.*3 rows of the reference"),
        ({"metrics": ("coverage",), "k": 40}, "coverage needs 41.*40 samples.*config.sample.num"),
    ],
    ids=str,
)
def test_rows_to_compare_are_counted_before_anything_is_drawn(
    tmp_path, monkeypatch, changes, message
):
    monkeypatch.setattr(quality.samples_lib, "draw", lambda *_: iter(lambda: 1 / 0, 0))
    run = experiment(tmp_path, floor="", nearest="", **changes)
    run.config.sample.num = 40
    with pytest.raises(DataError, match=message) as e:
        quality.run(run)
    assert "\n" not in str(e.value) and not any(tmp_path.rglob("statistics"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ("fid",)}, "'fid' does not exist; choose from"),
        ({"split": "trian"}, "'trian' does not exist"),
        ({"floor": "train"}, "reference itself"),
        ({"k": 0}, "at least 1"),
        ({"samples": "absent.npz"}, "no file absent.npz"),
        ({"reference": "absent.npz"}, "no file absent.npz"),
        ({"features": "pixel()"}, "did you mean 'pixels'"),
        (
            {"classifier": "absent"},
            "quality.classifier='absent': there is no folder.*djax train",
        ),
        ({"batch": 0}, "quality.batch=0"),
        ({"rows": 0}, "quality.rows=0"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_settings_that_cannot_work_are_one_line(tmp_path, changes, message):
    train = experiment(tmp_path).source.split("train")
    samples = write(tmp_path / "s.npz", train.images)
    with pytest.raises(UserError, match=message):
        quality.run(experiment(tmp_path, **{"samples": samples, **changes}))


def test_damaged_files_are_one_line(tmp_path):
    train = experiment(tmp_path).source.split("train")
    broken = tmp_path / "broken.npz"
    samples = write(tmp_path / "s.npz", train.images)
    np.save(tmp_path / "array.npy", train.images)
    kinds = (b"", b"no npz", (tmp_path / "s.npz").read_bytes()[:100])
    for content in (*kinds, (tmp_path / "array.npy").read_bytes()):
        broken.write_bytes(content)
        for changes in ({"samples": str(broken)}, {"samples": samples, "reference": str(broken)}):
            with pytest.raises(DataError, match="cannot read"):
                quality.run(experiment(tmp_path, **changes))
