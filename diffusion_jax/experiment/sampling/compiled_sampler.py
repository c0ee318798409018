"""The compiled sampler of a run: of one model, or of the stages of a cascade in turn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment, texts
from diffusion_jax.experiment.sampling import low_images, sampling_method
from diffusion_jax.sampling import generate
from diffusion_jax.sampling.method import Method
from diffusion_jax.types import Params


@dataclass(frozen=True)
class Drawing:
    """A sampler that has been compiled for a run and its weights.

    Attributes:
        method: the sampling method.
        labels: class of each image, int32 `[N]`; None for an unconditional model.
        low: the small images that are its input, uint8 `[N, h, w, C]`; None if a cascade draws
            them, or the model has no such input.
        low_of: the source of `low`, as in `config.sample.low`.
        stage: index of the stage in a cascade; seeds the noise.
        captions: prompt of each image; empty for a model without text.
        attempt: index among repeated draws of the same images; seeds the noise.
        stream: name of the random stream, and of the progress report.
        embeddings: `(seed, quiet, attempt) -> [N, D + 1]`, the embedding given to a decoder for
            each image.
        prior: the source of the embeddings, for records.
    """

    experiment: Experiment
    params: Params
    method: Method
    labels: np.ndarray | None
    run: Callable
    low: np.ndarray | None = None
    stage: int = 0
    captions: tuple[str, ...] = ()
    attempt: int = 0
    stream: str = "sample"
    embeddings: Callable[[int, bool, int], np.ndarray] | None = None
    prior: dict[str, Any] | None = None
    low_of: str = ""

    def __call__(self, seed: int, quiet: bool = False, low: np.ndarray | None = None) -> np.ndarray:
        """Draws `config.sample.num` images, as returned by the method's final step.

        With small images (`low` `[N, h, w, C]`, or those of the settings) the drawn parts are
        joined with them to larger images.
        """
        c, e = self.experiment.config.sample, self.experiment
        low = self.low if low is None else low
        given = {} if low is None else {"low": low}
        if given and c.low_gamma is not None:
            given["low_gamma"] = np.full(len(low), c.low_gamma, np.float32)
        with jax.default_matmul_precision(e.config.eval.matmul_precision or None):
            given |= texts.conditions(e, list(self.captions))
            if self.embeddings is not None:
                given["embedding"] = self.embeddings(seed, quiet, self.attempt)
            drawn = generate.generate(
                self.params, self.run, e.model.z_shape(e.source.shape), self.labels, c.num, c.batch,
                seed, e.mesh, quiet, given, f"{self.stream}{self.stage or ''}{'.' * self.attempt}",
                self.stream if e.config.view == "whole()" else f"{self.stream} {e.config.view}",
            )  # fmt: skip
        if low is None:
            return drawn
        if drawn.dtype != np.uint8:
            raise ConfigError(
                f"final={e.config.final} does not return levels, which a cascade needs: use "
                "final='decode()'"
            )
        return np.asarray(e.model.view.join(drawn, {"low": low}))

    def describe(self) -> dict[str, Any]:
        """Everything that determines the images besides the weights, for records."""
        c = self.experiment.config.sample
        inputs: dict[str, Any] = {}
        if self.low is not None:
            given = low_images.words(self.experiment, self.low_of)
            inputs = {"low": self.low_of, "low_gamma": c.low_gamma, "given": given}
        inputs |= {} if self.prior is None else {"prior": self.prior}
        return describe(self.experiment, self.method) | inputs

    def levels(self, drawn: np.ndarray) -> np.ndarray:
        """The images as levels, uint8; those of `final="identity()"` are decoded."""
        if drawn.dtype == np.uint8:
            return drawn
        decoded = self.experiment.model.decode(self.params, jnp.asarray(drawn))
        return np.asarray(decoded).astype(np.uint8)


def drawing(
    experiment: Experiment,
    params: Params,
    stage: int = 0,
    labels: np.ndarray | None = None,
    captions: tuple[str, ...] | None = None,
) -> Drawing:
    """The sampler of one model; by default, labels and captions are those of `asked`."""
    model = experiment.model
    method = sampling_method.build(experiment, params)
    default, prompts = asked(experiment, experiment.config.sample.num, captions=captions)
    labels = default if labels is None else labels
    run = generate.compile_sampler(model, method, experiment.mesh)
    return Drawing(experiment, params, method, labels, run, stage=stage, captions=prompts)


def asked(
    experiment: Experiment, num: int, split: str = "", captions: tuple[str, ...] | None = None
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The class and the prompt of each of `num` samples; None and empty for a model without them.

    They come from the configuration. Without prompts there, captions of `split` (by default that
    of `config.eval`) are used, with the classes of the same images. Without any prompts the
    classes cycle.
    """
    prompts = tuple(texts.wanted(experiment, num, split=split)) if captions is None else captions
    images = images_of(experiment, prompts, split) if captions is None else ""
    return classes(experiment, num, images), prompts


def images_of(experiment: Experiment, captions: Sequence[str], split: str = "") -> str:
    """The split whose images have these captions; empty without, or if they were asked for."""
    by_default = captions and not texts.asks(experiment)
    return (split or experiment.config.eval.split) if by_default else ""


def classes(experiment: Experiment, num: int, images: str) -> np.ndarray | None:
    """The class of each of `num` samples; None for a model without classes.

    They are `config.sample.labels` in turn; if that is empty, those of the first images of the
    split `images`; without a split, all classes in turn.
    """
    c, model = experiment.config.sample, experiment.model
    if not (model.num_classes and images) or c.labels:
        return generate.labels_for(model, num, tuple(c.labels))
    labels = experiment.source.split(images).labels
    return labels[np.arange(num) % len(labels)]


@dataclass(frozen=True)
class Chain:
    """The samplers of a cascade; each adds detail to the images of the stage before."""

    parts: tuple[Drawing, ...]

    @property
    def method(self) -> Method:
        """The method of the last stage."""
        return self.parts[-1].method

    @property
    def labels(self) -> np.ndarray | None:
        """The class of each image, which is the same in every stage."""
        return self.parts[-1].labels

    @property
    def captions(self) -> tuple[str, ...]:
        """The prompt of each image: the same in every stage that reads texts."""
        return next((p.captions for p in self.parts if p.captions), ())

    def __call__(self, seed: int, quiet: bool = False) -> np.ndarray:
        """Draws whole images, uint8."""
        return self.all_levels(seed, quiet)[-1]

    def all_levels(self, seed: int, quiet: bool = False) -> list[np.ndarray]:
        """The images of every stage, small ones first; each stage is the input of the next."""
        shown: list[np.ndarray] = []
        given = None
        for part in self.parts:
            drawn = part(seed, quiet, low=given)
            shown.append(part.levels(drawn))
            given = drawn if self.parts[-1].experiment.model.from_latent else shown[-1]
        return shown

    def levels(self, drawn: np.ndarray) -> np.ndarray:
        """Returns the images unchanged: they are levels."""
        return drawn

    def describe(self) -> dict[str, Any]:
        """Everything that determines the images besides the weights, for records."""
        last, records = self.parts[-1], [p.describe() for p in self.parts]
        return {
            **records[-1],
            "low_gamma": last.experiment.config.sample.low_gamma,
            "network_calls": sum(d["network_calls"] for d in records),
            "stages": [{"run": str(p.experiment.workdir), "view": p.experiment.config.view}
                       for p in self.parts],
        }  # fmt: skip


def describe(experiment: Experiment, method: Method) -> dict[str, Any]:
    """Everything that determines samples besides the weights, for records."""
    c = experiment.config
    fields = ("guidance", "sampler", "grid", "plan", "corrector", "final")
    return {k: c[k] for k in fields} | {
        "steps": c.sample.steps,
        "network_calls": method.calls(experiment.model),
    }
