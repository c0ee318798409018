"""An opened run: its model, data and weights, and methods to sample, evaluate and compress."""

import functools
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from diffusion_jax import config_fields, ranges, registry, saved_config
from diffusion_jax.data.augment.base import Augment
from diffusion_jax.data.base import Source, class_numbers
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import assembly, clip_model, embeddings, texts
from diffusion_jax.experiment._with_settings import listed, with_settings
from diffusion_jax.experiment.weights import adopt_published, load
from diffusion_jax.experiment.workdir import prepare_workdir
from diffusion_jax.model import Model
from diffusion_jax.networks.text_encoders.base import TextEncoder
from diffusion_jax.runtime.run_folders import missing, missing_step
from diffusion_jax.runtime.sharding import make_mesh
from diffusion_jax.runtime.storage import place
from diffusion_jax.training.state import ema_key
from diffusion_jax.training.tasks.base import Plugin
from diffusion_jax.types import Array, Params, Pred

if TYPE_CHECKING:
    from diffusion_jax.experiment.measures.bits_per_dim import BitsPerDim

__all__ = ["Experiment", "open_experiment", "open_run", "prepare_workdir"]


@dataclass(frozen=True)
class Experiment:
    """A run, as returned by `open_run`; data and weights are loaded on first use.

    Arguments of methods that are None are taken from `config`, and so are all other settings.

    Attributes:
        config: the resolved configuration.
        workdir: the work directory, an absolute path.
        checkpoint: checkpoint to use instead of the newest in the work directory; empty for none.
        stages: the runs of a cascade, see `cascade`; empty for a single run.
    """

    config: ConfigDict
    workdir: Path
    checkpoint: str = ""
    stages: tuple["Experiment", ...] = ()

    @functools.cached_property
    def mesh(self) -> Mesh:
        """The mesh over all devices."""
        return make_mesh(spec=self.config.mesh)

    @functools.cached_property
    def data(self) -> Source:
        """The data set itself, without the conditioning that `source` adds."""
        return embeddings.data(self, self.config.data)

    @functools.cached_property
    def clip(self) -> Callable[[str], clip_model.Clip]:
        """A cached function that opens a CLIP from its run directory."""
        return embeddings.opener(self)

    @functools.cached_property
    def text(self) -> TextEncoder | None:
        """The text encoder; None for a run without captions."""
        return texts.encoder(self)

    @functools.cached_property
    def source(self) -> Source:
        """The data set as the model receives it, with captions encoded and embeddings added."""
        return texts.source(self)

    @functools.cached_property
    def augment(self) -> Augment:
        """The data augmentation."""
        return registry.build("augment", self.config.augment)

    @functools.cached_property
    def model(self) -> Model:
        """The model, shaped by the data set; `ConfigError` if settings are incompatible."""
        return assembly.model(self)

    @functools.cached_property
    def task(self) -> Plugin:
        """The task plug-in, which declares what is trained."""
        return registry.build("tasks", self.config.task)

    def offered(self) -> dict[str, Any]:
        """Properties of data and settings for the `make` of networks, by parameter name."""
        return assembly.offered(self)

    @functools.cached_property
    def loaded(self) -> tuple[Params, dict[str, Any]]:
        """The weights named by `config.eval.weights`, and a record that describes them."""
        return self.weights(self.config.eval.weights)

    @property
    def params(self) -> Params:
        """The weights of the model, a pytree, replicated over the mesh.

        Raises:
            CheckpointError: there is no readable checkpoint, or it has another architecture.
        """
        return self.loaded[0]

    def sample(
        self,
        num: int | None = None,
        labels: Sequence[int | str] | None = None,
        *,
        captions: Sequence[str] | None = None,
        prior: str | None = None,
        seed: int | None = None,
        guidance: str | None = None,
        sampler: str | None = None,
        steps: int | None = None,
        batch: int | None = None,
    ) -> np.ndarray:
        """Draws samples.

        Args:
            num: number of images.
            labels: classes to cycle through, numbers or names; empty for all of them in turn.
            captions: prompts to cycle through; empty for those of `config.eval.split`.
            prior: source of the CLIP embeddings for an unCLIP decoder: the run of a prior,
                `"split:test"` or `"captions"`.
            seed: seed for the noise. The same seed and settings give the same images.
            guidance: plug-in string such as `"cfg(w=2.0)"`. None is the run's own setting, which
                may be guided; `"none()"` samples without guidance.
            sampler: plug-in string such as `"dpmpp_2m()"`.
            steps: number of steps of the sampler.
            batch: images per call, over all devices.

        Returns:
            uint8 levels `0 .. source.levels - 1`: `[num, H, W, C]` for images, `[num, T, H, W, C]`
            for videos.

        Raises:
            ConfigError: settings that do not exist or do not fit the model.
            CheckpointError: there are no weights.
        """
        from diffusion_jax.experiment.sampling import run_sampler

        labels = listed("labels", labels, "[3]")
        captions = listed("captions", captions, "['a red three']")
        classes = None if labels is None else class_numbers(self.source, labels)
        wanted = {
            "sample.num": num, "sample.labels": classes, "sample.seed": seed,
            "sample.captions": captions if captions is None else tuple(captions),
            "sample.prior": prior,
            "sample.steps": steps, "sample.batch": batch, "guidance": guidance, "sampler": sampler,
        }  # fmt: skip
        run = with_settings(self, wanted)
        drawn = run_sampler.compiled(run, run.params)
        return drawn.levels(drawn(run.config.sample.seed, quiet=True))

    def bits_per_dim(
        self,
        split: str | None = None,
        *,
        draws: int | None = None,
        limit: int | None = None,
        seed: int | None = None,
        batch: int | None = None,
    ) -> "BitsPerDim":
        """The continuous-time variational bound (Kingma et al. 2021) on a split of the data.

        The result does not depend on `batch` or on the devices.

        Args:
            split: `"train"`, `"valid"` or `"test"`.
            draws: noise draws per image, even: stratified in two independent replicates.
            limit: number of images, from the first; 0 for all.
            seed: seed for times and noise.
            batch: images per call, over all devices.

        Returns:
            The mean in bits per dimension with its standard errors, parts, and values per image.

        Raises:
            ConfigError: settings that cannot work, such as an odd number of draws.
            CheckpointError: there are no weights.
        """
        from diffusion_jax.experiment.measures import bits_per_dim

        wanted = {"split": split, "draws": draws, "limit": limit, "seed": seed, "batch": batch}
        run = with_settings(self, {f"eval.{k}": v for k, v in wanted.items()})
        return bits_per_dim.result(
            bits_per_dim.bound(run, run.params, quiet=True), self.source.medium.name
        )

    def denoiser(
        self,
        guidance: str | None = None,
        *,
        labels: Array | None = None,
        captions: Sequence[str] | None = None,
    ) -> Callable[[Array, Array], Pred]:
        """The model as a denoising function, for `integrate` or code of your own.

        Args:
            guidance: plug-in string such as `"cfg(w=2.0)"`; `"none()"` for the model without
                guidance. None is the run's own setting, which may be guided.
            labels: int `[B]`, required for a class-conditional model; `num_classes` is the null
                class.
            captions: `B` texts, for a model that reads text; None for no text.

        Returns:
            `(z, gamma) -> Pred(x, eps)` with `z` float `[B, H, W, C]` and gamma = -log SNR, a
            scalar or `[B]`: what `integrate` takes. With an encoder, `x` is the encoded image:
            `sampling.encoder_corrections.for_sampler` corrects it for a sampler.

        Raises:
            ConfigError: the guidance does not fit, labels are missing, captions cannot be read, or
                the schedule has one gamma per pixel.
        """
        from diffusion_jax.experiment.sampling import sampling_method

        changed = with_settings(self, {"guidance": guidance})
        return sampling_method.denoiser(changed, self.params, labels, captions)

    def compress(self, images: np.ndarray, labels: np.ndarray | None = None) -> bytes:
        """Compresses images losslessly by bits-back coding, with the settings `config.compress`.

        Args:
            images: uint8 `[N, H, W, C]`, levels of the model's data.
            labels: int `[N]`, also coded unless `config.compress.labels` is `'null'`; None for no
                class.

        Returns:
            The content of a `.djz` file. Decoding needs the same weights, the same software and
            the same kind of device.

        Raises:
            ConfigError: settings that cannot work.
            DataError: images or labels that do not fit the model.
        """
        from diffusion_jax.experiment import codec

        return codec.encode(self, *self.loaded, codec.checked(self, images, labels)).data

    def decompress(self, data: bytes) -> tuple[np.ndarray, np.ndarray | None]:
        """Decodes the output of `compress`, and checks it against the digest in its header.

        Args:
            data: the content of a `.djz` file.

        Returns:
            The images, uint8 `[N, H, W, C]`, and the labels, int32 `[N]`, or None.

        Raises:
            CodecError: the data are damaged, or written with another model, setting or version.
        """
        from diffusion_jax.experiment import codec

        found, _ = codec.decode(self, self.params, data, "the data")
        return found.images, found.labels

    def shapes(self) -> Params:
        """Shapes of the weights, without computing them."""
        return self.task.shapes(self)

    def weights(self, name: str = "") -> tuple[Params, dict[str, Any]]:
        """Loads weights for evaluation or sampling.

        Args:
            name: an average such as `"0.9999"`, `"params"`, or empty for the first average.

        Returns:
            The weights, replicated over the mesh, and a record that describes them.

        Raises:
            CheckpointError: there is no readable checkpoint, or it has another architecture.
        """
        if not isinstance(name, str):
            raise ConfigError(f"weights({name!r}): an average is named in quotes, as '{name}'")
        return load(self, name or ema_key(self.config.ema[0]))


def open_experiment(
    config: ConfigDict, workdir: Path, checkpoint: str = "", asked: Collection[str] = ()
) -> Experiment:
    """Opens an experiment or a cascade; a published checkpoint brings its own model settings.

    Fields set on the command line (`asked`) must agree with the checkpoint's.
    """
    from diffusion_jax.experiment.cascade import check_asked, joined

    if config.stages:
        check_asked(asked)
    adopt_published(config, checkpoint, asked)
    config_fields.check_specs(config)
    ranges.check(config, sections_only=True)
    run = Experiment(config, place(workdir), checkpoint)
    assembly.settle(run, asked)
    return joined(run) if config.stages else run


def open_run(path: str | Path, *, data_dir: str | None = None, trust: bool = False) -> Experiment:
    """Opens a trained run, with the configuration it was trained with.

    For example `open_run("runs/digits").sample(16)`.

    Args:
        path: its work directory (the newest checkpoint is used), or a checkpoint folder in it.
        data_dir: folder of the data on this machine, if different from training.
        trust: whether to import the modules named by its plug-ins; see `SECURITY.md`.

    Returns:
        The run. Its checkpoint is read on first use: errors in it are raised then.

    Raises:
        ConfigError: there is no run, a number is out of range, or modules are not trusted.
    """
    if not isinstance(trust, bool):
        raise ConfigError(f"trust={trust!r} must be True or False")
    saved = None if place(path).is_file() else saved_config.find(place(path))
    if saved is None:
        raise ConfigError(missing_step(path) or missing(path))
    config = saved_config.read_trusted(saved, trust)
    if data_dir is not None:
        named = os.fspath(data_dir) if isinstance(data_dir, os.PathLike) else data_dir
        config.data_dir = config_fields.fitting("data_dir", named)
    ranges.check(config, sections_only=True)
    return Experiment(config, place(path), str(place(path)))
