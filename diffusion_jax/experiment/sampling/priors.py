"""Sources of the CLIP embeddings for the samples of an unCLIP decoder: `config.sample.prior`.

A run such as `runs/prior` samples embeddings for the captions; `split:test` takes those of real
images, in order; `captions` uses the CLIP's text embeddings as if they were image embeddings.
"""

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffusion_jax import registry
from diffusion_jax.data import vectors
from diffusion_jax.data.base import SPLITS
from diffusion_jax.data.vectors import Scale
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment, embeddings, other_runs, texts
from diffusion_jax.experiment.embeddings import Embedder
from diffusion_jax.experiment.sampling import compiled_sampler, sampling_method

CAPTIONS = "captions"
_SPLIT = "split:"

# `(seed, quiet, attempt) -> [N, D + 1]`: the network's input for each sample.
Draw = Callable[[int, bool, int], np.ndarray]


@dataclass(frozen=True)
class EmbeddingSource:
    """A source of embeddings.

    Attributes:
        captions: prompt of each sample; empty without prompts.
        images: the split that the embeddings or captions belong to; empty if they were asked for.
        ready: reads weights and compiles; returns the function that draws embeddings, and a record
            of the source.
    """

    captions: tuple[str, ...]
    images: str
    ready: Callable[[], tuple[Draw, dict[str, Any]]]


def need(run: Experiment) -> None:
    """Raises ConfigError if an unCLIP decoder has no source of CLIP embeddings."""
    if run.config.embedding and not run.config.sample.prior:
        name = embeddings.checkpoint(run.config)
        raise ConfigError(
            f"this run is conditioned on embeddings of {name}: give the run of a prior that "
            "samples them for captions, --config.sample.prior=runs/prior; or split:test to take "
            f"them from real images, or {CAPTIONS} for the text embeddings of {name}"
        )


def check(run: Experiment) -> None:
    """Checks the settings (`ConfigError`), without reading the weights of a prior."""
    if run.config.sample.prior:
        opened(run)


def uses_captions(run: Experiment) -> bool:
    """Whether the captions of samples reach the run's network, or the source of its embeddings."""
    prior = run.config.sample.prior if run.config.embedding else ""
    return run.text is not None or bool(prior and not split_of(run))


def split_of(run: Experiment, otherwise: str = "") -> str:
    """The split whose embeddings a decoder's samples are given; empty for any other source."""
    name = (run.config.sample.prior or otherwise) if run.config.embedding else ""
    return name.removeprefix(_SPLIT) if name.startswith(_SPLIT) else ""


def opened(
    run: Experiment, otherwise: str = "", split: str = "", labels: np.ndarray | None = None
) -> EmbeddingSource | None:
    """Opens the source of embeddings for a decoder's samples; None for a run without embeddings.

    Args:
        run: the decoder.
        otherwise: default for an empty `config.sample.prior`.
        split: the split whose captions are the default; that of `config.eval` if empty.
        labels: the class of each sample; None for those of `compiled_sampler.classes`.

    Raises:
        ConfigError: no source is named, or it does not fit.
    """
    prior = run.config.sample.prior
    if not run.config.embedding:
        if prior:
            raise ConfigError(
                f"sample.prior={prior!r}: this run is not conditioned on CLIP embeddings; train a "
                "decoder with --config.embedding=runs/clip"
            )
        return None
    name = prior or otherwise
    if not name:
        need(run)
    if name.startswith(_SPLIT):
        return _of_split(run, name.removeprefix(_SPLIT))
    embedder = embeddings.of(run)
    assert embedder is not None
    if name == CAPTIONS:
        return _of_captions(run, embedder, split)
    return _drawn(run, embedder, split, labels)


def _of_split(run: Experiment, name: str) -> EmbeddingSource:
    """Embeddings of the images of a split, whose captions are the default prompts."""
    if name not in SPLITS:
        raise ConfigError(f"sample.prior='split:{name}': the splits are {', '.join(SPLITS)}")
    num = run.config.sample.num
    asked = texts.wanted(with_changes(run, {"eval.split": name}), num)

    def ready() -> tuple[Draw, dict[str, Any]]:
        split = run.source.split(name)
        assert split.embedding is not None
        vector = split.embedding[np.arange(num) % len(split)]
        return lambda seed, quiet, attempt: vector, {"run": f"{_SPLIT}{name}"}

    return EmbeddingSource(tuple(asked), "" if texts.asks(run) else name, ready)


def _of_captions(run: Experiment, embedder: Embedder, split: str) -> EmbeddingSource:
    """Text embeddings of captions, scaled to the average length of image embeddings."""
    prompts = texts.wanted(run, run.config.sample.num, heard=True, split=split)
    vector = embedder.of_raw(embedder.scale.length * vectors.unit(embedder.clip.texts(prompts)))
    return EmbeddingSource(
        tuple(prompts), compiled_sampler.images_of(run, prompts, split),
        lambda: (lambda seed, quiet, attempt: vector, {"run": CAPTIONS}),
    )  # fmt: skip


def _drawn(
    run: Experiment, embedder: Embedder, split: str, labels: np.ndarray | None
) -> EmbeddingSource:
    """Samples of a prior, the best of several."""
    c, prior = run.config.sample, _prior(run)
    reads_text = prior.text is not None
    if c.prior_samples > 1 and not reads_text:
        raise ConfigError(
            f"sample.prior_samples={c.prior_samples} keeps the embedding most similar to its text, "
            f"but {c.prior} was trained without text; use sample.prior_samples=1"
        )
    asked = texts.wanted(run, c.num, heard=reads_text or run.text is not None, split=split)
    images = compiled_sampler.images_of(run, asked, split)
    if labels is None:
        labels = compiled_sampler.classes(run, c.num, images)
    own = with_changes(
        prior,
        {"sample.num": c.num, "sample.captions": tuple(asked) if reads_text else (),
         "sample.prompts": "", "sample.captions_of": "", "sample.best_of": 1, "final": "decode()",
         "sample.labels": () if labels is None else tuple(labels.tolist()),
         "guidance": c.prior_guidance or prior.config.guidance},
    )  # fmt: skip
    sampling_method.check(own)
    scale = _scale(own)
    like = embedder.clip.texts(asked) if c.prior_samples > 1 else None

    def ready() -> tuple[Draw, dict[str, Any]]:
        params, record = own.loaded
        made = dataclasses.replace(compiled_sampler.drawing(own, params), stream="prior")

        def draw(seed: int, quiet: bool, attempt: int) -> np.ndarray:
            first = attempt * c.prior_samples
            tries = (dataclasses.replace(made, attempt=first + k) for k in range(c.prior_samples))
            found = [scale.raw(vectors.standard_of(sampler(seed, quiet))) for sampler in tries]
            if like is None:
                return embedder.of_raw(found[0])
            return embedder.of_raw(vectors.most_alike(np.stack(found), like))

        return draw, {"run": c.prior, "samples": c.prior_samples, **made.describe(), **record}

    return EmbeddingSource(tuple(asked), images, ready)


def _prior(run: Experiment) -> Experiment:
    """Opens the prior of `config.sample.prior`.

    Raises:
        ConfigError: it is not a prior of the decoder's CLIP, has other classes, or does not read
            text.
    """
    name = run.config.sample.prior
    c, also = run.config, f", and it is neither split:test nor {CAPTIONS}"
    prior = other_runs.opened("sample.prior", name, "prior", c.data_dir, c.data, also)
    if prior.task.holds not in ("denoiser", "student"):
        raise ConfigError(f"sample.prior={name!r} holds {prior.config.task}, not a diffusion model")
    if registry.parse(prior.config.data).name != "embeddings":
        raise ConfigError(
            f"sample.prior={name!r} models {prior.config.data}, not CLIP embeddings: train a prior "
            "as in configs/scenes_prior.py"
        )
    mine, theirs = (embeddings.digest(e) for e in (run, prior))
    if mine != theirs:
        raise ConfigError(
            f"sample.prior={name!r} draws embeddings of another CLIP ({theirs[:8]}..) than "
            f"{embeddings.checkpoint(run.config)} ({mine[:8]}..), which this run uses: train "
            "both with the same"
        )
    checkpoint = embeddings.checkpoint(run.config)
    vars(prior)["clip"] = lambda _: run.clip(checkpoint)  # the same CLIP, whatever its path was
    classes = (run.model.num_classes, prior.model.num_classes)
    if classes[0] != classes[1]:
        raise ConfigError(f"sample.prior={name!r} has {classes[1]} classes, this run {classes[0]}")
    if run.text is not None and prior.text is None:
        raise ConfigError(
            f"sample.prior={name!r} was trained without text and would ignore the prompts: "
            "train it with --config.text, or use one that was"
        )
    return prior


def _scale(prior: Experiment) -> Scale:
    known = registry.parse(prior.config.data).kwargs
    return Scale(tuple(known["mean"]), tuple(known["std"]))


def with_changes(run: Experiment, changes: dict[str, Any]) -> Experiment:
    """The run with other settings of sampling; reads no weights."""
    config = copy.deepcopy(run.config)
    for key, value in changes.items():
        section, _, field = key.rpartition(".")
        (config[section] if section else config)[field] = value
    other = dataclasses.replace(run, config=config)
    vars(other).update({name: getattr(run, name) for name in ("clip", "data", "source", "model")})
    return other
