"""The best of several samples of each text or class, by the judge of the settings."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from diffusion_jax.data.base import Split
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment, texts
from diffusion_jax.experiment.measures import bits_per_dim, caption_information, features, judges
from diffusion_jax.experiment.sampling import asked
from diffusion_jax.likelihood import information
from diffusion_jax.networks.text_encoders.base import plain
from diffusion_jax.types import Params

if TYPE_CHECKING:
    from diffusion_jax.experiment.sampling.compiled_sampler import Drawing

# Images `[N, H, W, C]` as levels, for the requested texts or classes -> scores `[N]`.
Score = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Best:
    """Draws each image several times and keeps the best; used like a `Drawing`."""

    tries: "tuple[Drawing, ...]"
    score: Score

    def __getattr__(self, name: str) -> Any:
        """Delegates other attributes to the first attempt."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.tries[0], name)

    def __call__(self, seed: int, quiet: bool = False) -> np.ndarray:
        """The best attempt for each image; the first among equals."""
        drawn = np.stack([d(seed, quiet) for d in self.tries])
        scores = np.stack([self.score(self.tries[0].levels(d)) for d in drawn])
        return drawn[scores.argmax(0), np.arange(drawn.shape[1])]

    def describe(self) -> dict[str, Any]:
        """Everything that determines the images besides the weights, for records."""
        c, record = self.tries[0].experiment.config.sample, self.tries[0].describe()
        calls = record["network_calls"] * len(self.tries)
        return record | {"best_of": len(self.tries), "judge": c.judge, "network_calls": calls}


def check(experiment: Experiment) -> None:
    """Raises ConfigError if the candidates cannot be judged."""
    c = experiment.config.sample
    if c.best_of == 1:
        return
    if experiment.stages or experiment.config.view != "whole()":
        raise ConfigError(f"sample.best_of={c.best_of} draws whole images of one run, not stages")
    if not experiment.model.num_classes and experiment.model.text is None:
        raise ConfigError(
            f"sample.best_of={c.best_of} selects by text or class; this run has neither"
        )
    if c.judge == "bits":
        information.check(experiment.model, "sample.judge='bits'")
    elif c.judge == experiment.config.quality.judge:
        raise ConfigError(
            f"sample.judge={c.judge!r} is also quality.judge, so its score would be biased; give "
            "another, or sample.judge='bits'"
        )
    elif "(" not in c.judge and not experiment.model.num_classes:
        raise ConfigError(
            f"sample.judge={c.judge!r}: a classifier judges classes, but this run is conditioned "
            "on texts; use 'bits', or a judge such as scenes()"
        )
    elif "(" in c.judge:
        asked.check_judge(experiment, c.judge)


def best(drawing: "Drawing") -> "Drawing | Best":
    """The drawing itself, or the best of `config.sample.best_of` of them."""
    n = drawing.experiment.config.sample.best_of
    if n == 1:
        return drawing
    check(drawing.experiment)
    tries = tuple(dataclasses.replace(drawing, attempt=k) for k in range(n))
    score = _score(drawing.experiment, drawing.params, drawing)

    def precisely(images: np.ndarray) -> np.ndarray:
        c = drawing.experiment.config.eval
        with jax.default_matmul_precision(c.matmul_precision or None):
            return score(images)

    return Best(tries, precisely)


def _score(run: Experiment, params: Params, drawing: "Drawing") -> Score:
    judge, labels = run.config.sample.judge, drawing.labels
    if judge == "bits":
        return lift(run, params, drawing)
    if "(" in judge:
        opened = judges.opened(run, judge)
        prompts = _texts(run, drawing)
        return lambda images: np.nansum(opened.right(images, prompts), axis=1)
    classifier = features.open_classifier(run, judge, "sample.judge")
    logits = features.logits(run, classifier)

    def of_class(images: np.ndarray) -> np.ndarray:
        rows = logits(images)
        total = np.log(np.exp(rows - rows.max(1, keepdims=True)).sum(1)) + rows.max(1)
        return rows[np.arange(len(rows)), labels] - total

    return of_class


def _texts(run: Experiment, drawing: "Drawing") -> list[str]:
    if drawing.captions:
        return [plain(t) for t in drawing.captions]
    names = caption_information.class_names(run)
    return [names[k] for k in drawing.labels]


def lift(run: Experiment, params: Params, drawing: "Drawing") -> Score:
    """The bound without the text (or class), minus the bound given it."""
    n = run.config.sample.num
    if run.text is not None:
        cond = texts.conditions(run, list(drawing.captions))
        pair = {k: np.stack([np.ones_like(a) if k == "text_weight" else 0 * a, a], 1)
                for k, a in cond.items()}  # fmt: skip
    else:
        pair = {"label": np.stack([np.full(n, run.model.num_classes), drawing.labels], 1)}
        pair = {k: a.astype(np.int32) for k, a in pair.items()}

    def bits(images: np.ndarray) -> np.ndarray:
        source, none = run.source, np.zeros(n, np.int32)
        labels = none if drawing.labels is None else np.asarray(drawing.labels, np.int32)
        split = Split("samples", images, labels, source.levels, source.num_classes)
        how = dataclasses.replace(bits_per_dim.over(run), limit=0, quiet=True)
        draws = run.config.eval.draws
        nats = information.measure(run.model, params, split, how, pair, draws=draws).nats
        return (nats[..., 0] - nats[..., 1]).mean(1)

    return bits
