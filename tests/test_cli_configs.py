"""Every configuration builds, and runs in small, from the command line."""

import importlib.util
import json

import pytest
from command import main
from conftest import REPO
from html_page import headings

from diffusion_jax.errors import ConfigError

CONFIGS = sorted(p.stem for p in (REPO / "configs").glob("*.py"))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_builds_with_every_variant(name, tmp_path, monkeypatch):
    (tmp_path / "pictures").mkdir()  # what `images` reads where no folder is named
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location(name, REPO / "configs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    variants = [*getattr(module, "VARIANTS", {}), ""]
    full = [module.get_config(v) if v else module.get_config() for v in variants]
    assert len({c.to_json() for c in full}) >= len(variants) - 1
    for variant in (f"{v}_smoke" if v else "smoke" for v in variants):
        assert module.get_config(variant).steps == 20
    with pytest.raises(ConfigError, match="allowed"):
        module.get_config("nonsense")


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    """The smoke version of the default job."""
    folder = tmp_path_factory.mktemp("digits") / "run"
    done = main("--config=configs/digits.py:smoke", f"--workdir={folder}", "--config.report=False")
    assert done.returncode == 0, done.stderr
    return folder


# One of each kind runs whole; what the others add is traced, in full size, in test_configs.py.
SMOKE = [n for n in CONFIGS if n.startswith("digits_")] + ["cifar10", "mnist_diffenc"]


def test_the_smoke_version_of_the_default_job(digits_run):
    assert list((digits_run / "samples").glob("*.png"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SMOKE)
def test_smoke_versions(name, tmp_path, request, digits_run):
    extra = []
    if name == "digits_discriminator":
        task = f"guide(discriminator(width=16, blocks=1), against={str(digits_run)!r})"
        extra = [f"--config.task={task}"]
    if name == "digits_student":
        task = f"distill(teacher={str(digits_run)!r}, method=segments(steps=2, inner=2))"
        extra = [f"--config.task={task}"]
    if not name.startswith("digits"):
        data = request.getfixturevalue("prepared")
        extra = ["--config.steps=5", f"--config.data_dir={data}"]  # compiling is what takes time
    extra.append(f"--config.report={name == 'digits_classifier'}")  # it takes seconds
    done = main(f"--config=configs/{name}.py:smoke", f"--workdir={tmp_path}/run", *extra)
    assert done.returncode == 0, done.stderr
    if name == "digits_classifier":
        assert "On the test set" in headings((tmp_path / "run/report.html").read_text())
    if list((tmp_path / "run/samples").glob("*.png")):
        return
    made = json.loads(next((tmp_path / "run/eval").glob("*.json")).read_text())
    assert name not in ("digits_student", "digits_gan") and "loss_by_gamma" in made


@pytest.mark.slow
def test_published_checkpoint_on_real_images(golden, prepared, tmp_path):
    done = main(
        "--mode=eval", "--config=configs/cifar10.py",
        f"--checkpoint=vdm:{golden}/vdm_checkpoint.flax",
        f"--workdir={tmp_path}", f"--config.data_dir={prepared}", "--config.eval.limit=16",
        "--config.eval.draws=2", "--config.eval.timesteps=()",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "eval/1234.json").read_text())
    assert report["model"]["weights"] == "published ema"
    assert report["model"]["gamma_0"] == pytest.approx(-12.8)
