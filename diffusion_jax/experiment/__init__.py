"""A run that has been opened: its model, data and weights, and what can be done with them."""

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
    """A run: what `open_run` gives; nothing is read before it is asked for.

    A method's other settings are those of `config`.

    Attributes:
        config: the resolved configuration.
        workdir: where files go, absolute.
        checkpoint: a checkpoint to use instead of the work directory's newest; empty for none.
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
        """The data set as it is."""
        return embeddings.data(self, self.config.data)

    @functools.cached_property
    def clip(self) -> Callable[[str], clip_model.Clip]:
        """Opens a CLIP by its run, each once."""
        return embeddings.opener(self)

    @functools.cached_property
    def text(self) -> TextEncoder | None:
        """How captions are read; None for a run without."""
        return texts.encoder(self)

    @functools.cached_property
    def source(self) -> Source:
        """The data set as the model sees it."""
        return texts.source(self)

    @functools.cached_property
    def augment(self) -> Augment:
        """The data augmentation."""
        return registry.build("augment", self.config.augment)

    @functools.cached_property
    def model(self) -> Model:
        """The model, shaped by the data set; `ConfigError` if settings do not fit together."""
        return assembly.model(self)

    @functools.cached_property
    def task(self) -> Plugin:
        """What is trained, as the configuration declares it."""
        return registry.build("tasks", self.config.task)

    def offered(self) -> dict[str, Any]:
        """What networks may want to know of data and settings, by the names of `make`."""
        return assembly.offered(self)

    @functools.cached_property
    def loaded(self) -> tuple[Params, dict[str, Any]]:
        """The weights that `config.eval.weights` names, and the record of what they are."""
        return self.weights(self.config.eval.weights)

    @property
    def params(self) -> Params:
        """The weights of the model, a pytree, replicated over the mesh.

        Raises:
            CheckpointError: there is no readable checkpoint, or it is of another architecture.
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
        """Draws images.

        What is not given is as in `run.config`, guidance included: `guidance="none()"` for none.

        Args:
            num: how many.
            labels: classes to cycle through, numbers or names; empty means all of them in turn.
            captions: texts to cycle through; empty means those of the test split.
            prior: of a decoder that is told what a CLIP sees, the run that draws this for captions,
                or `"split:test"`, or `"captions"`.
            seed: of the noise. The same seed and settings give the same images.
            guidance: plug-in string such as `"cfg(w=2.0)"`.
            sampler: plug-in string such as `"dpmpp_2m()"`.
            steps: of the sampler, from noise to data.
            batch: images per call, over all devices.

        Returns:
            uint8 `[num, H, W, C]`, levels `0 .. source.levels - 1`.

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
        """The variational bound in continuous time on a split of the data, each image once.

        Kingma et al. (2021). The figure does not depend on `batch` or on the devices.

        Args:
            split: `"train"`, `"valid"` or `"test"`.
            draws: times per image, even: stratified, in two independent replicates.
            limit: only the first images; 0 for all.
            seed: of times and noise.
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
        """The model as a function to sample with, or to build on.

        Args:
            guidance: plug-in string such as `"cfg(w=2.0)"`; `"none()"` for the bare model. If not
                given, it is that of the run, `run.config.guidance`.
            labels: int `[B]`, required for a conditional model: the class of each example,
                `num_classes` for no class.
            captions: of a model of texts: `B` of them; None for no text.

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
        """Codes images without loss by bits-back coding, as `config.compress` says.

        Args:
            images: uint8 `[N, H, W, C]`, grey levels of the model's data.
            labels: int `[N]`, coded as well; None for no class.

        Returns:
            The content of a `.djz` file. It decodes with the same weights and software, on the
            same kind of device.

        Raises:
            ConfigError: settings that cannot work.
            DataError: images or labels that do not fit the model.
        """
        from diffusion_jax.experiment import codec

        return codec.encode(self, *self.loaded, codec.checked(self, images, labels)).data

    def decompress(self, data: bytes) -> tuple[np.ndarray, np.ndarray | None]:
        """Decodes what `compress` returned, and checks it against the digest inside.

        Args:
            data: the content of a `.djz` file.

        Returns:
            The images, uint8 `[N, H, W, C]`, and the labels, int32 `[N]`, or None.

        Raises:
            CodecError: damaged, or written with another model, setting or version.
        """
        from diffusion_jax.experiment import codec

        found, _ = codec.decode(self, self.params, data, "the data")
        return found.images, found.labels

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
        if not isinstance(name, str):
            raise ConfigError(f"weights({name!r}): an average is named in quotes, as '{name}'")
        return load(self, name or ema_key(self.config.ema[0]))


def open_experiment(
    config: ConfigDict, workdir: Path, checkpoint: str = "", asked: Collection[str] = ()
) -> Experiment:
    """An experiment or a cascade; a published checkpoint has its own settings of the model.

    Of those, the fields that were `asked` for must agree with them.
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
    """Opens a run that has been trained, with the configuration it was trained with.

    Args:
        path: its work directory (the newest checkpoint is used), or a checkpoint folder in it.
        data_dir: where the data are on this machine, if not where they were in training.
        trust: import the modules that its plug-ins name; see `SECURITY.md`.

    Raises:
        ConfigError: no run is there, a number is out of range, or modules are not trusted.
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
