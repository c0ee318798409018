"""What the modes share: parts built from a configuration, weights found, the work directory."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from diffusion_jax import registry, saved_config
from diffusion_jax.data.augment.base import Augment
from diffusion_jax.data.base import Source
from diffusion_jax.errors import CheckpointError, ConfigError, WorkdirError
from diffusion_jax.model import Model, require
from diffusion_jax.process.parameterization import check as check_prediction, outputs
from diffusion_jax.runtime.sharding import make_mesh, put, replicated
from diffusion_jax.runtime.storage import place, write_json
from diffusion_jax.training import restore
from diffusion_jax.training.state import ema_key
from diffusion_jax.training.tasks.base import Plugin
from diffusion_jax.types import Params

# Prefixes of --checkpoint for published checkpoints; the last three are models of DiffEnc's code.
IMPORTED = ("vdm:", "diffenc:", "diffenc_nt:", "vdmv:")


@dataclass(frozen=True)
class Experiment:
    """What `main` was asked to do.

    Attributes:
        config: the resolved configuration.
        workdir: where files go, absolute.
        checkpoint: a checkpoint to use instead of the work directory's newest; empty for none.
        pair: the two work directories or checkpoints to compare; empty for other modes.
        sets: for ood, the data plug-ins `--data` (empty: the model's own) and `--against`.
        input: for the codec: what to read; empty for the run's own data, or its newest file.
        output: for the codec: what to write; empty for a name in the work directory.
        verify: for the codec: decode and check only.
    """

    config: ConfigDict
    workdir: Path
    checkpoint: str = ""
    pair: tuple[str, ...] = ()
    sets: tuple[str, str] = ("", "")
    input: str = ""
    output: str = ""
    verify: bool = False

    @property
    def output_path(self) -> Path | None:
        """The named output, absolute, or None."""
        return place(self.output) if self.output else None

    @functools.cached_property
    def mesh(self) -> Mesh:
        """The mesh over all devices."""
        return make_mesh(spec=self.config.mesh)

    @functools.cached_property
    def source(self) -> Source:
        """The data set."""
        c = self.config
        return registry.build("data", c.data, data_dir=c.data_dir, workers=c.data_workers)

    @functools.cached_property
    def augment(self) -> Augment:
        """The data augmentation."""
        return registry.build("augment", self.config.augment)

    @functools.cached_property
    def model(self) -> Model:
        """The model, shaped by the data set.

        Raises:
            ConfigError: settings that do not exist or do not fit together.
        """
        c, source = self.config, self.source
        if self.task.holds != "denoiser":
            raise ConfigError(f"this run holds {c.task}, not a diffusion model: train or eval it")
        if c.conditional and not source.num_classes:
            raise ConfigError(f"conditional=True, but {source.name} has no classes")
        classes = source.num_classes if c.conditional else 0
        offered = {**self.offered(), "num_classes": classes, "augment": self.augment.size}
        values = outputs(check_prediction(c.prediction), source.levels)
        wide = {**offered, "channels": source.shape[-1] * values}
        model = Model(
            network=registry.build("models", c.network, **wide),
            schedule=registry.build("schedules", c.schedule, **offered),
            decoder=registry.build("decoders", c.decoder, **offered),
            prediction=c.prediction,
            num_classes=classes,
            encoder=registry.build("encoders", c.encoder, **offered),
        )
        if values > 1:
            require(
                model, f"prediction={c.prediction!r}", "use prediction='v'",
                discrete=True, time_dependent_data=False,
            )  # fmt: skip
        if model.traits.mean_coefficient:
            require(
                model, f"encoder {c.encoder}", "use encoder='identity()', or another schedule",
                per_pixel_gamma=False,
            )  # fmt: skip
        return model

    @functools.cached_property
    def task(self) -> Plugin:
        """What is trained, as the configuration declares it."""
        return registry.build("tasks", self.config.task)

    def offered(self) -> dict[str, Any]:
        """What networks may want to know of data and settings, by the names of `make`."""
        c, source = self.config, self.source
        if c.dtype not in ("float32", "bfloat16"):
            raise ConfigError(f"dtype={c.dtype!r}: allowed are float32, bfloat16")
        if c.gamma_min >= c.gamma_max:
            raise ConfigError(
                f"gamma_min={c.gamma_min} must be below gamma_max={c.gamma_max} "
                "(gamma = -log SNR grows with noise)"
            )
        return {
            "gamma_min": c.gamma_min,
            "gamma_max": c.gamma_max,
            "levels": source.levels,
            "channels": source.shape[-1],
            "shape": tuple(source.shape),
            "classes": source.classes,
            "dtype": c.dtype,
            "platform": self.mesh.devices.flat[0].platform,
        }

    def shapes(self) -> Params:
        """Shapes of the weights; nothing is computed."""
        return self.task.shapes(self)

    def weights(self, name: str = "") -> tuple[Params, dict[str, Any]]:
        """Weights to evaluate or sample with.

        Args:
            name: an average such as `"0.9999"`, `"params"`, or empty for the first average.

        Returns:
            The weights, replicated over the mesh, and a record of what they are.

        Raises:
            CheckpointError: there is no readable checkpoint, or it is of another architecture.
        """
        name = name or ema_key(self.config.ema[0])
        if self.checkpoint.startswith(IMPORTED):
            return self._imported(name)
        path = place(self.checkpoint) if self.checkpoint else self.workdir
        like, sharding = self.shapes(), replicated(self.mesh)

        def read(folder: Path) -> tuple[Params, dict[str, Any]]:
            meta = restore.read_meta(folder)
            params = restore.read_weights(folder, like, name, sharding)
            return params, {"step": meta["step"], "weights": name, "checkpoint": str(folder)}

        which = self.config.eval.checkpoint
        return restore.restore_newest(path, read, best=which == "best")[0]

    def _imported(self, name: str) -> tuple[Params, dict[str, Any]]:
        path, found = _published(self.checkpoint)
        raw = name == "params"
        params = found.params if raw else found.ema_params
        wanted = jax.tree.map(lambda a: a.shape, self.shapes())
        if jax.tree.map(lambda a: tuple(a.shape), params) != wanted:
            raise CheckpointError(
                f"{path} does not fit {self.source.name} with network {self.config.network}; "
                f"its own settings are {found.overrides}"
            )
        record = {"step": found.step, "weights": "params" if raw else "published ema",
                  "checkpoint": str(path)}  # fmt: skip
        whole = replicated(self.mesh)
        return jax.tree.map(lambda a: put(a, whole), params), record


def _published(checkpoint: str) -> tuple[Path, Any]:
    """The path and the content of a published checkpoint, from its prefixed name."""
    from diffusion_jax.networks.published import diffenc, vdm

    prefix, _, name = checkpoint.partition(":")
    path = Path(name)
    return path, vdm.read(path) if prefix == "vdm" else diffenc.read(path, prefix)


def open_experiment(
    config: ConfigDict,
    workdir: Path,
    checkpoint: str = "",
    pair: tuple[str, ...] = (),
    sets: tuple[str, str] = ("", ""),
) -> Experiment:
    """A job; for a published checkpoint the model settings come from its weights.

    Args:
        config: the resolved configuration; its model fields are replaced if `checkpoint` is
            published.
        workdir: where files go.
    """
    if checkpoint.startswith(IMPORTED):
        config.update(_published(checkpoint)[1].overrides)
    return Experiment(config, place(workdir), checkpoint, pair, sets)


def prepare_workdir(experiment: Experiment) -> None:
    """Claims the work directory for this configuration, or confirms that it is its own.

    Raises:
        WorkdirError: the directory belongs to a run with another configuration (the message lists
            the fields that differ), or cannot be written.
    """
    path = experiment.workdir / "config.json"
    if path.exists():
        changed = saved_config.differences(saved_config.read(path), experiment.config)
        if changed:
            raise WorkdirError(
                f"{experiment.workdir} belongs to a run with another configuration "
                f"({'; '.join(changed)}); use a new --workdir, or the old settings"
            )
    elif (experiment.workdir / restore.FOLDER).exists():
        raise WorkdirError(
            f"{experiment.workdir} has checkpoints but no config.json; use a new "
            "--workdir, or restore it"
        )
    if jax.process_index() == 0:
        try:
            experiment.workdir.mkdir(parents=True, exist_ok=True)
            write_json(path, saved_config.to_dict(experiment.config))
        except Exception as e:  # OSError; a bucket's client has types of its own
            raise WorkdirError(f"cannot write to {experiment.workdir}: {restore.short(e)}") from e


def open_other(experiment: Experiment, checkpoint: str) -> Experiment:
    """Another run, with its own configuration and this job's data folder.

    Args:
        experiment: the job that asks.
        checkpoint: a work directory or checkpoint folder.

    Returns:
        The other run as a job.

    Raises:
        ConfigError: there is no run there.
    """
    saved = saved_config.find(place(checkpoint))
    if saved is None:
        raise ConfigError(f"checkpoint={checkpoint!r}: there is no run in that folder")
    config = saved_config.read(saved)
    config.data_dir = experiment.config.data_dir
    return Experiment(config, place(checkpoint), str(place(checkpoint)))


def check_same_data(experiment: Experiment, other: Experiment, name: str) -> None:
    """Refuses a second model of images of another kind.

    Args:
        other: the other run.
        name: its name, for the message.

    Raises:
        ConfigError: images differ in shape or grey levels.
    """
    mine, theirs = ((s.shape, s.levels) for s in (experiment.source, other.source))
    if mine != theirs:
        raise ConfigError(
            f"{name} was trained on {theirs[0]} images of {theirs[1]} levels, this model on "
            f"{mine[0]} of {mine[1]}"
        )
