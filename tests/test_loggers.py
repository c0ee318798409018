"""Records besides the run's own files: the real services, offline, where they are installed."""

import importlib.util

import numpy as np
import pytest
import tiny

from diffusion_jax import registry
from diffusion_jax.cli.modes import train
from diffusion_jax.errors import ConfigError
from diffusion_jax.training.loggers.base import flat
from diffusion_jax.training.metrics import Writer


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_service_that_is_not_installed_is_named_before_anything_is_written(
    name, tmp_path, monkeypatch
):
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == name else there(n, *a)
    )
    experiment = tiny.experiment(tmp_path, logger=f"{name}()")
    with pytest.raises(ConfigError, match=f"{name} is not installed; pip install {name}, or use"):
        train.run(experiment)
    assert not experiment.workdir.exists()


def test_files_are_the_default(tmp_path):
    assert registry.build("loggers", tiny.config(tmp_path).logger).open(tmp_path, {}) is None
    with pytest.raises(ConfigError, match="allowed: online, offline, disabled"):
        registry.build("loggers", "wandb(mode='local')")


def test_settings_are_flat():
    assert flat({"a": 1, "eval": {"draws": 16, "more": {"b": 2}}}) == {
        "a": 1, "eval.draws": 16, "eval.more.b": 2,
    }  # fmt: skip


def test_what_goes_to_the_files_goes_to_the_logger(tmp_path):
    class Sink:
        def __init__(self):
            self.calls = []

        def write_scalars(self, step, scalars):
            self.calls.append((step, dict(scalars)))

        def write_images(self, step, images):
            self.calls.append((step, sorted(images)))

        def flush(self):
            self.calls.append("flush")

        def close(self):
            self.calls.append("close")

    sink = Sink()
    writer = Writer(tmp_path, more=lambda: sink)
    writer.scalars(3, {"train/loss": 1.5})
    writer.image(3, "samples", np.zeros((4, 4, 3), np.uint8))
    writer.close()
    assert sink.calls[:2] == [(3, {"train/loss": 1.5}), (3, ["samples"])]
    assert sink.calls[-1] == "close"
    assert (tmp_path / "metrics.jsonl").exists()


def recorded(logger, workdir):
    workdir.mkdir(exist_ok=True)
    made = registry.build("loggers", logger)
    writer = Writer(workdir, more=lambda: made.open(workdir, {"lr": 0.1, "eval": {"draws": 2}}))
    return writer


@pytest.mark.filterwarnings("default")
def test_wandb_offline(tmp_path):
    pytest.importorskip("wandb")
    writer = recorded("wandb(mode='offline')", tmp_path / "run")
    writer.scalars(1, {"train/loss": 1.5})
    writer.image(1, "samples", np.zeros((4, 4, 3), np.uint8))
    writer.close()
    assert list((tmp_path / "run/wandb").glob("offline-run-*/*.wandb"))


@pytest.mark.filterwarnings("default")
def test_mlflow_in_a_folder_goes_on_with_its_run(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    uri = (tmp_path / "records").as_uri()
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a database needs more packages
    for step in (1, 2):
        writer = recorded(f"mlflow(uri={uri!r})", tmp_path / "run")
        writer.scalars(step, {"train/loss": 1.5 / step})
        writer.close()
    client = mlflow.tracking.MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("diffusion_jax").experiment_id])
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(m.step, m.value) for m in history] == [(1, 1.5), (2, 0.75)]
    assert run.data.params == {"lr": "0.1", "eval.draws": "2"}
