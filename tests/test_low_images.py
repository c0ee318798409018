"""Small images from a file keep its labels and captions when they are enlarged."""

import jax
import numpy as np
import pytest
import tiny
from PIL import Image

from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment.sampling import run_sampler

TEXT = {"text": "bytes(length=10, width=8, depth=1, heads=2)",
        "network": "dit(width=8, depth=1, heads=1, patch=1)"}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.captioned(tmp_path_factory.mktemp("captioned"))


@pytest.fixture
def file(tmp_path):
    """Samples of a low stage."""
    image = np.random.default_rng(1).integers(0, 5, (3, 2, 2, 1), np.uint8)
    np.savez(tmp_path / "low.npz", image=image, label=np.array([2, 2, 0], np.int32),
             caption=np.array(["a green", "a (green:2)", "a red"]))  # fmt: skip
    return tmp_path / "low.npz"


def later(folder, data, low, asked=None, **changes):
    run = tiny.experiment(folder, data=data, view="high()", guidance="none()", **changes)
    run.config.sample.update({"num": 5, "low": str(low), **(asked or {})})
    run_sampler.check(run)
    params = jax.jit(lambda: run.model.init(jax.random.key(0), run.source.shape))()
    return run_sampler.compiled(run, params)


def test_its_classes(tmp_path, data, file):
    made = later(tmp_path, data, file)
    assert made.labels.tolist() == [2, 2, 0, 2, 2]
    np.testing.assert_array_equal(made.low[:3], np.load(file)["image"])
    assert later(tmp_path, data, file, {"labels": (1,)}).labels.tolist() == [1] * 5
    assert later(tmp_path, data, file, conditional=False).labels is None


def test_its_captions(tmp_path, data, file):
    made = later(tmp_path, data, file, **TEXT)
    assert made.captions == ("a green", "a (green:2)", "a red", "a green", "a (green:2)")
    assert made.labels.tolist() == [2, 2, 0, 2, 2]
    asked = later(tmp_path, data, file, {"captions": ("a blue",)}, **TEXT)
    assert {*asked.captions} == {"a blue"} and asked.labels.tolist() == [2, 2, 0, 2, 2]


def test_pictures_that_say_nothing_of_themselves(tmp_path, data):
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "low.png")
    with pytest.raises(ConfigError, match=r"what classes .*--config.sample.labels"):
        later(tmp_path, data, tmp_path / "low.png")
    with pytest.raises(ConfigError, match=r"what its images show.*--config.sample.captions"):
        later(tmp_path, data, tmp_path / "low.png", conditional=False, **TEXT)
    made = later(tmp_path, data, tmp_path / "low.png", {"labels": (1, 0)})
    assert made.labels.tolist() == [1, 0, 1, 0, 1]
