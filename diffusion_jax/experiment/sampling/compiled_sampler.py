"""A run's sampler, compiled: of one model, or of the stages of a cascade in turn."""

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
        method: how it samples.
        labels: the class of each image, int32 `[N]`; None for an unconditional model.
        low: the small images that it is given, uint8 `[N, h, w, C]`; None where a cascade draws
            them, or the model takes none.
        low_of: what they are, as `config.sample.low` names it.
        stage: which of a cascade's; for the random numbers.
        captions: the prompt of each image; empty for a model without text.
        attempt: which of several at the same images; for the random numbers.
        stream: name of the random numbers, and of the progress report.
        embeddings: `(seed, quiet, attempt) -> [N, D + 1]`, what a decoder is told of each image.
        prior: what that comes from, for records.
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
        """`config.sample.num` images as the method's final step gives them.

        With `low` `[N, h, w, C]`, or what the settings name, the images of which these and the
        drawn parts are halves.
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
                f"final={e.config.final} gives no levels, which a cascade puts together: use "
                "final='decode()'"
            )
        return np.asarray(e.model.view.join(drawn, {"low": low}))

    def describe(self) -> dict[str, Any]:
        """All that defines the images beside the weights, for records."""
        c = self.experiment.config.sample
        told: dict[str, Any] = {}
        if self.low is not None:
            given = low_images.words(self.experiment, self.low_of)
            told = {"low": self.low_of, "low_gamma": c.low_gamma, "given": given}
        told |= {} if self.prior is None else {"prior": self.prior}
        return describe(self.experiment, self.method) | told

    def levels(self, drawn: np.ndarray) -> np.ndarray:
        """The images as grey levels, uint8; `final="identity()"` keeps real numbers."""
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
    """The sampler of one model; labels and captions are those of `asked` if None."""
    model = experiment.model
    method = sampling_method.build(experiment, params)
    own, said = asked(experiment, experiment.config.sample.num, captions=captions)
    labels = own if labels is None else labels
    run = generate.compile_sampler(model, method, experiment.mesh)
    return Drawing(experiment, params, method, labels, run, stage=stage, captions=said)


def asked(
    experiment: Experiment, num: int, split: str = "", captions: tuple[str, ...] | None = None
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The class and the prompt of each of `num` samples; None and nothing for a model of none.

    They are those of the configuration. Prompts that it leaves out are captions of the split
    `split`, that of `config.eval` if empty, and classes are those of the same images; without
    prompts they go round.
    """
    said = tuple(texts.wanted(experiment, num, split=split)) if captions is None else captions
    images = images_of(experiment, said, split) if captions is None else ""
    return classes(experiment, num, images), said


def images_of(experiment: Experiment, captions: Sequence[str], split: str = "") -> str:
    """The split whose images have these captions; empty where they are asked for, or none."""
    by_default = captions and not texts.asks(experiment)
    return (split or experiment.config.eval.split) if by_default else ""


def classes(experiment: Experiment, num: int, images: str) -> np.ndarray | None:
    """The class of each of `num` samples, None for a model of none.

    Those of `config.sample.labels` in turn; if it is empty, those of the first images of the split
    `images`; without one all classes in turn.
    """
    c, model = experiment.config.sample, experiment.model
    if not (model.num_classes and images) or c.labels:
        return generate.labels_for(model, num, tuple(c.labels))
    own = experiment.source.split(images).labels
    return own[np.arange(num) % len(own)]


@dataclass(frozen=True)
class Chain:
    """The samplers of a cascade, each drawing what the images of the one before lack."""

    parts: tuple[Drawing, ...]

    @property
    def method(self) -> Method:
        """That of the last stage."""
        return self.parts[-1].method

    @property
    def labels(self) -> np.ndarray | None:
        """The class of each image; the same in every stage."""
        return self.parts[-1].labels

    @property
    def captions(self) -> tuple[str, ...]:
        """The prompt of each image: the same in every stage that reads texts."""
        return next((p.captions for p in self.parts if p.captions), ())

    def __call__(self, seed: int, quiet: bool = False) -> np.ndarray:
        """Whole images, uint8."""
        return self.all_levels(seed, quiet)[-1]

    def all_levels(self, seed: int, quiet: bool = False) -> list[np.ndarray]:
        """The images of every stage, the small ones first; each one's are those of the next."""
        shown: list[np.ndarray] = []
        given = None
        for part in self.parts:
            drawn = part(seed, quiet, low=given)
            shown.append(part.levels(drawn))
            given = drawn if self.parts[-1].experiment.model.from_latent else shown[-1]
        return shown

    def levels(self, drawn: np.ndarray) -> np.ndarray:
        """The images: they are levels."""
        return drawn

    def describe(self) -> dict[str, Any]:
        """All that defines the images beside the weights, for records."""
        last, own = self.parts[-1], [p.describe() for p in self.parts]
        return {
            **own[-1],
            "low_gamma": last.experiment.config.sample.low_gamma,
            "network_calls": sum(d["network_calls"] for d in own),
            "stages": [{"run": str(p.experiment.workdir), "view": p.experiment.config.view}
                       for p in self.parts],
        }  # fmt: skip


def describe(experiment: Experiment, method: Method) -> dict[str, Any]:
    """All that defines samples beside the weights, for records."""
    c = experiment.config
    fields = ("guidance", "sampler", "grid", "plan", "corrector", "final")
    return {k: c[k] for k in fields} | {
        "steps": c.sample.steps,
        "network_calls": method.calls(experiment.model),
    }
