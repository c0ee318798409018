"""A folder of pictures, named on the command line: size, classes and network follow."""

import importlib.util
from pathlib import Path

import jax
import pytest
from conftest import REPO
from picture_files import write

from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment


def get_config(variant=""):
    spec = importlib.util.spec_from_file_location("images", REPO / "configs" / "images.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(variant)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("pets"), n=8, size=48)
    write(Path("plain"), n=4, size=48, classes=())
    return tmp_path


@pytest.mark.parametrize(
    ("variant", "shape", "halvings"),
    [("pets,32", (32, 32, 3), 2), ("pets,48x32", (48, 32, 3), 2), ("pets,33", (33, 33, 3), 0),
     ("pets", (64, 64, 3), 3), ("pets,8", (8, 8, 3), 0), ("pets,16", (16, 16, 3), 1)],
)  # fmt: skip
def test_every_size_has_a_network(folder, variant, shape, halvings):
    run = Experiment(get_config(variant), folder / "run")
    assert run.source.shape == shape and run.config.conditional
    network = run.model.network
    assert len(network.mults) == halvings + 1 and run.model.num_classes == 2
    assert all(n % 2**halvings == 0 for n in shape[:2])


def test_a_folder_in_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    run = Experiment(get_config("~/pets,16"), folder / "run")
    assert run.source.shape == (16, 16, 3) and run.source.num_classes == 2


def test_the_whole_model_can_be_traced(folder):
    run = Experiment(get_config("pets,24x16,smoke"), folder / "run")
    assert run.config.steps == 20
    shapes = jax.eval_shape(lambda key: run.model.init(key, run.source.shape), jax.random.key(0))
    assert jax.tree.leaves(shapes)


def test_classes_are_those_of_subfolders(folder):
    plain = get_config("plain,32,smoke")
    assert not plain.conditional and plain.guidance == "none()"
    assert get_config("pets").conditional


def test_a_path_may_hold_commas(folder):
    (folder / "pets").rename(folder / "cats, dogs,32")
    c = get_config("cats, dogs,32,24x16,smoke")
    assert "'cats, dogs,32'" in c.data and "(24, 16)" in c.data and c.steps == 20
    assert "(64, 64)" in get_config("cats, dogs,32").data


@pytest.mark.parametrize(
    ("variant", "says"),
    [("", "name the folder"), ("smoke", "images:PATH"),
     ("dogs", "no folder 'dogs'"), ("pets,0", "'0'"), ("pets,64x", "'64x'"),
     ("pets,1x2x3", "HEIGHTxWIDTH"), ("pets,big", "'big'")],
)  # fmt: skip
def test_mistakes_name_what_is_allowed(folder, variant, says):
    with pytest.raises(ConfigError, match=f"{says}.*allowed|{says}"):
        get_config(variant)
