"""References that the samples of a run are compared with, opened once."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffusion_jax.errors import DataError
from diffusion_jax.evaluation import diversity, histogram, neighbours, quality
from diffusion_jax.evaluation.features.base import Features
from diffusion_jax.evaluation.statistics import Reference
from diffusion_jax.experiment import Experiment, clip_model
from diffusion_jax.experiment.measures import features as feature_lib, judges
from diffusion_jax.experiment.sampling.samples import Samples
from diffusion_jax.runtime import image_grids
from diffusion_jax.runtime.storage import place

_PAIRS, _COLUMNS = 24, 8  # in the picture of nearest training images
_ALONE = ("accuracy", "diversity", "clip score", "clip retrieval")  # metrics without a reference

Figures = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """Everything that samples are compared with.

    Attributes:
        features: the feature space.
        run: the function from `extract.extractor` for these features.
        reference: statistics of the data.
        record: record of the reference.
        classifier: a classifier for the metrics of classes, or None.
        clip: a CLIP for the metrics of texts, or None.
    """

    experiment: Experiment
    features: Features
    run: Callable
    reference: Reference
    record: dict[str, Any]
    classifier: feature_lib.Classifier | None
    clip: clip_model.Clip | None = None

    def figures(self, samples: Samples) -> tuple[Figures, np.ndarray | None]:
        """All metrics of one set of samples, and a picture of nearest training images.

        Args:
            samples: the samples.

        Returns:
            The metrics and the picture, uint8 `[H, W, 3]`, or None.

        Raises:
            DataError: class accuracy is requested for samples without labels.
        """
        if self.classifier and samples.labels is None and self.experiment.config.conditional:
            raise DataError(
                f"samples {samples.record.get('file', '')} have no labels, which the class "
                "accuracy of a conditional model needs; add them, or set "
                "--config.conditional=False"
            )
        classes = samples.labels if self.experiment.source.num_classes else None
        asked = samples.texts or classes
        found = self._compare(samples.images, samples.labels, asked)
        if self.experiment.config.quality.judge:
            found["judge"] = judges.judged(self.experiment, samples.images, self._texts(samples))
        if self.clip is not None:
            found["clip"] = judges.alike(self.clip, samples.images, self._texts(samples))
        nearest = self._memorisation(samples.images)
        if nearest is None:
            return found, None
        found["memorisation"], picture = nearest
        return found, picture

    def floor(self) -> Figures | None:
        """The metrics of real images that are not in the reference, or None."""
        name = self.experiment.config.quality.floor
        if not name:
            return None
        read = self.experiment.source.split(name)
        split = read.loaded()
        shown = split.labels if split.captions is None else split.captions.strings()
        asked = shown if split.captions is not None or split.num_classes else None
        found = self._compare(np.asarray(split.images), split.labels, asked, strict=False)
        record: Figures = {"split": split.name, "data_sha256": read.fingerprint()}
        if self.experiment.config.quality.judge:
            record["judge"] = judges.of_split(self.experiment, split)
        if self.clip is not None:
            texts = judges.texts_of(self.experiment, split)
            record["clip"] = judges.alike(self.clip, np.asarray(split.images), texts)
        return {**record, **found, "halves": quality.halves(self.reference)}

    def _texts(self, samples: Samples) -> list[str]:
        if samples.texts:
            return list(samples.texts)
        if samples.labels is None:
            raise DataError(
                f"quality: samples {samples.record.get('file', '')} have neither captions "
                "nor labels to compare them with"
            )
        return judges.named_classes(self.experiment, samples.labels)

    def at_size(self, samples: np.ndarray, count: int) -> Figures:
        """The metrics of a random choice of `count` samples, as many as there are real images."""
        rng = np.random.default_rng(self.experiment.config.quality.seed)
        part = np.sort(rng.permutation(len(samples))[:count])
        return self._scores(samples[part], strict=False)

    def _scores(
        self, shown: np.ndarray, strict: bool, asked: Sequence | np.ndarray | None = None
    ) -> Figures:
        q = self.experiment.config.quality
        rows = feature_lib.rows_of(self.run, shown, "features")
        found = quality.measure(
            rows, self.reference, tuple(q.metrics), q.k, q.rows, q.subset, q.seed, strict
        )
        spread = None if asked is None else diversity.within(rows, list(asked))
        return found if spread is None else {**found, "diversity": spread}

    def _compare(
        self,
        shown: np.ndarray,
        labels: np.ndarray | None,
        asked: Sequence | np.ndarray | None,
        strict: bool = True,
    ) -> Figures:
        found = self._scores(shown, strict, asked)
        if self.classifier is None:
            return found
        source = self.experiment.source
        guess = self._classify(shown)
        data = source.split(self.experiment.config.quality.split).labels
        classes = histogram.classes(guess, data, source.num_classes, source.classes)
        if labels is not None and self.experiment.source.num_classes:
            right = float(np.mean(guess == labels))
            classes["accuracy"] = right
            classes["accuracy_standard_error"] = float(np.sqrt(right * (1 - right) / len(labels)))
            classes["accuracy_of_class"] = [
                float(np.mean(guess[labels == k] == k)) if np.any(labels == k) else None
                for k in range(source.num_classes)
            ]
        return found | {"classes": classes}

    @functools.cached_property
    def _classify(self) -> Callable[[np.ndarray], np.ndarray]:
        return feature_lib.classes(self.experiment, self.classifier)

    def _memorisation(self, shown: np.ndarray) -> tuple[Figures, np.ndarray] | None:
        spec = self.experiment.config.quality.nearest
        if not spec:
            return None
        e, q = self.experiment, self.experiment.config.quality
        train = e.source.split("train")
        held_out = e.source.split(q.floor if q.floor == "valid" else "test")
        queries, record = feature_lib.nearest(e, spec, train, shown, held_out)
        found = neighbours.memorisation(*(query.distance for query in queries))
        closest = np.argsort(queries[0].distance, kind="stable")[:_PAIRS]
        others = np.asarray(train.images[queries[0].index[closest]])
        record["closest"] = [
            {"sample": int(i), "train": int(queries[0].index[i]),
             "distance": float(queries[0].distance[i])}
            for i in closest
        ]  # fmt: skip
        stills = (e.source.medium.stills(a, train.levels) for a in (shown[closest], others))
        return found | record, _pairs(*stills, train.levels)


def _pairs(samples: np.ndarray, others: np.ndarray, levels: int) -> np.ndarray:
    """Rows of samples, each above a row of their nearest training images."""
    rows = []
    for start in range(0, len(samples), _COLUMNS):
        for part in (samples, others):
            row = part[start : start + _COLUMNS]
            blank = np.zeros((_COLUMNS - len(row), *row.shape[1:]), row.dtype)
            rows.append(np.concatenate([row, blank]))
    return image_grids.grid(np.concatenate(rows), levels, _COLUMNS)


def open_bench(experiment: Experiment, count: int | None = None) -> Bench:
    """Opens features, reference and classifier of `config.quality`.

    Args:
        experiment: the run.
        count: number of samples, if known; too few raise an error here, before the reference is
            computed.

    Returns:
        The bench.
    """
    q, source = experiment.config.quality, experiment.source
    features = feature_lib.build(experiment, q.features)
    given = feature_lib.named_reference(place(q.reference), features) if q.reference else None
    if count is not None:
        # The count in a file is 0 if it is unknown.
        real = len(source.split(q.split)) if given is None else given.moments.count
        quality.check_count(tuple(q.metrics), count, features.size, tuple(source.shape), real,
                            f"{source.medium.name}s")  # fmt: skip
        rows = min(q.rows, real) if given is None else len(given.rows)
        if rows:  # of moments alone there are none, which is another message
            quality.check_rows(tuple(q.metrics), count, rows, q.k, q.rows, f"{source.medium.name}s")
    run = feature_lib.extractor(experiment, features)
    open_classifier, open_clip = feature_lib.open_classifier, feature_lib.open_clip
    named = "quality.classifier"
    classifier = open_classifier(experiment, q.classifier, named) if q.classifier else None
    clip = open_clip(experiment, q.clip, "quality.clip") if q.clip else None
    if given is None:
        found, path = feature_lib.reference(experiment, features, run)
    else:
        found, path = given, place(q.reference)
    quality.check(tuple(q.metrics), found)
    about = {"split": "unknown data", "images": found.moments.count, **found.record}
    keys = ("split", "images", "data_sha256", "rows", "features_sha256")
    record = {"file": str(path)} | {k: about.get(k) for k in keys}
    return Bench(experiment, features, run, found, record, classifier, clip)


def headline(figures: Figures) -> dict[str, tuple[float, float | None]]:
    """The metrics that a table shows: `(value, standard error or None)` by name."""
    out = {}
    for name in ("frechet", "kid", "diversity"):
        value = figures.get(name, {}).get("value")
        if value is not None:
            out[name] = (value, figures[name].get("standard_error"))
    chosen = {
        "coverage": ("precision", "recall", "density", "coverage"),
        "classes": ("accuracy", "jensen_shannon_bits", "total_variation"),
        "memorisation": ("ratio", "suspicious", "copies"),
        "clip": ("score", "retrieval"),
    }
    for group, names in chosen.items():
        for name in names:
            value = figures.get(group, {}).get(name)
            if value is not None:
                shown = f"{group} {name}" if group in ("memorisation", "clip") else name
                out[shown] = (value, figures[group].get(f"{name}_standard_error"))
    for name, found in figures.get("judge", {}).items():
        out[f"right: {name}"] = (found["value"], found["standard_error"])
    return out


def _alone(name: str) -> bool:
    """Whether a metric of `headline` depends on the samples only, not on a reference."""
    return name in _ALONE or name.startswith("right: ")


def summary(sets: list[dict[str, tuple[float, float | None]]]) -> dict[str, dict[str, float]]:
    """Mean over sets of samples; with several, also minimum, maximum and a standard error.

    Args:
        sets: results of `headline`, one for each set.

    Returns:
        By name `mean`, and if known `standard_error`, `min`, `max`. The error of several sets comes
        from their spread, unless a metric has its own error. That one is divided by the root of the
        number of sets only for metrics of samples alone: the part of a shared reference does not
        average out.
    """
    out = {}
    for name, (_, own) in sets[0].items():
        values = np.array([s[name][0] for s in sets])
        out[name] = {"mean": float(values.mean())}
        if len(sets) > 1:
            out[name] |= {"min": float(values.min()), "max": float(values.max())}
            out[name]["standard_error"] = float(values.std(ddof=1) / np.sqrt(len(values)))
        if own is not None:
            error = math.sqrt(np.mean([s[name][1] ** 2 for s in sets]))
            out[name]["standard_error"] = error / (math.sqrt(len(sets)) if _alone(name) else 1.0)
    return out
