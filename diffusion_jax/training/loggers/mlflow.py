"""MLflow, on a server or in a folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.errors import ConfigError, short
from diffusion_jax.training.loggers.base import flat, need

_TAG = "workdir"


class _Run:
    """An MLflow run, by its id: `mlflow.log_metric` would look for the run of its own thread."""

    def __init__(self, client: Any, run: str):
        self._client, self._run = client, run

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        for k, v in scalars.items():
            self._client.log_metric(self._run, k, float(v), step=step)

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        for k, v in images.items():
            self._client.log_image(self._run, np.asarray(v), f"{k}/{step}.png")

    def flush(self) -> None:
        """Does nothing: values are sent at once."""

    def close(self) -> None:
        self._client.set_terminated(self._run)


@dataclass(frozen=True)
class MLflow:
    """A `loggers.base.Logger`."""

    experiment: str
    uri: str

    def open(self, workdir: Path, config: Mapping[str, Any]) -> _Run:
        """Starts or resumes the MLflow run of this work directory.

        Raises:
            ConfigError: the server or database cannot be reached.
        """
        from mlflow.exceptions import MlflowException

        try:
            return self._open(workdir, config)
        except MlflowException as e:
            raise ConfigError(
                f"logger mlflow: {short(e)}; name a server or a database, for example "
                "mlflow(uri='sqlite:///mlflow.db')"
            ) from e

    def _open(self, workdir: Path, config: Mapping[str, Any]) -> _Run:
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=self.uri or None)
        experiment = client.get_experiment_by_name(self.experiment)
        number = experiment.experiment_id if experiment else None
        number = number or client.create_experiment(self.experiment)
        same = (r for r in client.search_runs([number]) if r.data.tags.get(_TAG) == str(workdir))
        run = next(same, None)
        if run is None:
            tags = {_TAG: str(workdir), "mlflow.runName": workdir.name}
            run = client.create_run(number, tags=tags)
            for k, v in flat(config).items():
                client.log_param(run.info.run_id, k, str(v)[:500])
        else:
            client.update_run(run.info.run_id, status="RUNNING")
        return _Run(client, run.info.run_id)


def make(experiment: str = "diffusion_jax", uri: str = "") -> MLflow:
    """MLflow.

    Args:
        experiment: name of the MLflow experiment.
        uri: address of the server, or `sqlite:///FILE`; empty for `MLFLOW_TRACKING_URI` or MLflow's
            default.

    Raises:
        ConfigError: mlflow is not installed.
    """
    need("mlflow", "mlflow")
    return MLflow(experiment, uri)
