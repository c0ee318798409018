"""Independent classifiers (judges) of samples, also for three images stacked as channels."""

import functools
from pathlib import Path

import jax
import numpy as np

from diffusion_jax.data.base import Source
from diffusion_jax.evaluation.features.base import Features, digest
from diffusion_jax.experiment import Experiment, open_run
from diffusion_jax.experiment.measures import features, sample_quality as quality_lib
from diffusion_jax.types import Array, Params


def stacked(data: Source, judged: Source) -> bool:
    """Whether the channels of `data` are three images of `judged`, with all triples of classes."""
    (*size, channels), (*judged_size, judged_channels) = data.shape, judged.shape
    return (
        (size, channels, judged_channels) == (judged_size, 3, 1)
        and data.num_classes == judged.num_classes**3
        and data.levels == judged.levels
    )


def channels(images: np.ndarray) -> np.ndarray:
    """The channels of `[N, H, W, C]` as separate images, `[N C, H, W, 1]`."""
    return np.moveaxis(images, -1, 1).reshape(-1, *images.shape[1:3], 1)


def by_channel(images: np.ndarray, judge: Path) -> np.ndarray:
    """Classes `[N]` of stacked images, from a judge that classifies each channel."""
    run = open_run(judge)
    classify = features.classes(run, features.open_classifier(run, str(judge), "--judge"))
    k = run.source.num_classes
    return classify(channels(images)).reshape(-1, 3) @ np.array([k * k, k, 1])


def features_by_channel(judge: Path) -> Features:
    """The judge's features of all channels, concatenated."""
    run = open_run(judge)
    found = features.build(run, f"classifier(checkpoint={str(judge)!r})")

    def apply(params: Params, images: Array) -> Array:
        # As in `channels`, but on the device.
        flat = jax.numpy.moveaxis(images, -1, 1).reshape(-1, *images.shape[1:3], 1)
        return found.apply(params, flat).reshape(len(images), -1)

    value = digest(f"by channel {found.digest}")
    return Features("classifier_by_channel", 3 * found.size, apply, value, found.params)


def bench_of(run: Experiment, judge: Path) -> quality_lib.Bench:
    """The reference that samples are compared with."""
    if not stacked(run.source, open_run(judge).source):
        return quality_lib.open_bench(run)
    each = features_by_channel(judge)
    ask = features.extractor(run, each)
    reference, _ = features.reference(run, each, ask)
    return quality_lib.Bench(run, each, ask, reference, {}, None)


@functools.cache
def errors_of(judge: Path) -> float:
    """The judge's error rate on its own test images."""
    run = open_run(judge)
    test = run.source.split("test")
    classify = features.classes(run, features.open_classifier(run, str(judge), "--judge"))
    return float(np.mean(classify(np.asarray(test.images)) != test.labels))
