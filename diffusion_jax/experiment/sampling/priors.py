"""What a decoder is told of images that are yet to be drawn (unCLIP): `config.sample.prior`.

A run such as `runs/prior` draws it for the captions; `split:test` has it from real images, in
order; `captions` is what the CLIP makes of the captions themselves, as if texts were images.
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

# `(seed, quiet, attempt) -> [N, D + 1]`: what the network is told of each sample.
Draw = Callable[[int, bool, int], np.ndarray]


@dataclass(frozen=True)
class EmbeddingSource:
    """Where vectors come from.

    Attributes:
        captions: the prompt of each sample; empty without.
        images: the split whose vectors or captions these are; empty where those are asked for.
        ready: reads weights and compiles; gives what the network is told, and what that is, for
            records.
    """

    captions: tuple[str, ...]
    images: str
    ready: Callable[[], tuple[Draw, dict[str, Any]]]


def need(run: Experiment) -> None:
    """Refuses (`ConfigError`) a decoder to which nothing says what to draw."""
    if run.config.embedding and not run.config.sample.prior:
        name = embeddings.checkpoint(run.config)
        raise ConfigError(
            f"this run is told what {name} sees of each image: name the run that draws this for "
            "captions, --config.sample.prior=runs/prior; or split:test to take it from real "
            f"images, or {CAPTIONS} for what {name} makes of the captions themselves"
        )


def check(run: Experiment) -> None:
    """Refuses (`ConfigError`) settings that cannot work; no weights of a prior are read."""
    if run.config.sample.prior:
        opened(run)


def hears(run: Experiment) -> bool:
    """Whether the captions of samples reach the run's network, or what it is told by."""
    prior = run.config.sample.prior if run.config.embedding else ""
    return run.text is not None or bool(prior and not split_of(run))


def split_of(run: Experiment, otherwise: str = "") -> str:
    """The split whose vectors a decoder's samples are told of; empty for others, and without."""
    name = (run.config.sample.prior or otherwise) if run.config.embedding else ""
    return name.removeprefix(_SPLIT) if name.startswith(_SPLIT) else ""


def opened(
    run: Experiment, otherwise: str = "", split: str = "", labels: np.ndarray | None = None
) -> EmbeddingSource | None:
    """Where the vectors of a decoder's samples come from; None for a run that is told none.

    Args:
        run: the decoder.
        otherwise: what `config.sample.prior` is if it is empty.
        split: whose captions are the default; that of `config.eval` if empty.
        labels: the class of each sample; None for those of `classes`.

    Raises:
        ConfigError: nothing is named, or it does not fit.
    """
    prior = run.config.sample.prior
    if not run.config.embedding:
        if prior:
            raise ConfigError(
                f"sample.prior={prior!r}: this run is not told what a CLIP sees; train a decoder "
                "with --config.embedding=runs/clip"
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
    """What the CLIP sees of the images of a split, whose captions are the default."""
    if name not in SPLITS:
        raise ConfigError(f"sample.prior='split:{name}': the splits are {', '.join(SPLITS)}")
    num = run.config.sample.num
    asked = texts.wanted(with_changes(run, {"eval.split": name}), num)

    def ready() -> tuple[Draw, dict[str, Any]]:
        split = run.source.split(name)
        assert split.embedding is not None
        told = split.embedding[np.arange(num) % len(split)]
        return lambda seed, quiet, attempt: told, {"run": f"{_SPLIT}{name}"}

    return EmbeddingSource(tuple(asked), "" if texts.asks(run) else name, ready)


def _of_captions(run: Experiment, embedder: Embedder, split: str) -> EmbeddingSource:
    """What the CLIP makes of captions, of the length that vectors of images have on average."""
    asked = texts.wanted(run, run.config.sample.num, heard=True, split=split)
    told = embedder.of_raw(embedder.scale.length * vectors.unit(embedder.clip.texts(asked)))
    return EmbeddingSource(
        tuple(asked), compiled_sampler.images_of(run, asked, split),
        lambda: (lambda seed, quiet, attempt: told, {"run": CAPTIONS}),
    )  # fmt: skip


def _drawn(
    run: Experiment, embedder: Embedder, split: str, labels: np.ndarray | None
) -> EmbeddingSource:
    """What a prior draws, the best of several."""
    c, prior = run.config.sample, _prior(run)
    heard = prior.text is not None
    if c.prior_samples > 1 and not heard:
        raise ConfigError(
            f"sample.prior_samples={c.prior_samples} keeps the vector most like its text, and "
            f"{c.prior} was trained without; use sample.prior_samples=1"
        )
    asked = texts.wanted(run, c.num, heard=heard or run.text is not None, split=split)
    images = compiled_sampler.images_of(run, asked, split)
    if labels is None:
        labels = compiled_sampler.classes(run, c.num, images)
    own = with_changes(
        prior,
        {"sample.num": c.num, "sample.captions": tuple(asked) if heard else (),
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
            found = [scale.raw(vectors.standard_of(one(seed, quiet))) for one in tries]
            if like is None:
                return embedder.of_raw(found[0])
            return embedder.of_raw(vectors.most_alike(np.stack(found), like))

        return draw, {"run": c.prior, "samples": c.prior_samples, **made.describe(), **record}

    return EmbeddingSource(tuple(asked), images, ready)


def _prior(run: Experiment) -> Experiment:
    """The run that `config.sample.prior` names, if it draws vectors of the decoder's CLIP.

    Raises:
        ConfigError: it does not, or of other classes, or knows nothing of the texts.
    """
    name = run.config.sample.prior
    c, also = run.config, f", and it is neither split:test nor {CAPTIONS}"
    prior = other_runs.opened("sample.prior", name, "prior", c.data_dir, c.data, also)
    if prior.task.holds not in ("denoiser", "student"):
        raise ConfigError(f"sample.prior={name!r} holds {prior.config.task}, not a diffusion model")
    if registry.parse(prior.config.data).name != "embeddings":
        raise ConfigError(
            f"sample.prior={name!r} models {prior.config.data}, not what a CLIP sees: train one as "
            "in configs/scenes_prior.py"
        )
    mine, theirs = (embeddings.digest(e) for e in (run, prior))
    if mine != theirs:
        raise ConfigError(
            f"sample.prior={name!r} draws vectors of another CLIP ({theirs[:8]}..) than "
            f"{embeddings.checkpoint(run.config)} ({mine[:8]}..), of which this run is told: train "
            "both with the same"
        )
    own = embeddings.checkpoint(run.config)
    vars(prior)["clip"] = lambda _: run.clip(own)  # the same, wherever it was then
    classes = (run.model.num_classes, prior.model.num_classes)
    if classes[0] != classes[1]:
        raise ConfigError(
            f"sample.prior={name!r} knows {classes[1]} classes, this run {classes[0]}"
        )
    if run.text is not None and prior.text is None:
        raise ConfigError(
            f"sample.prior={name!r} was trained without text and would draw vectors of anything: "
            "train it with --config.text, or use one that was"
        )
    return prior


def _scale(prior: Experiment) -> Scale:
    known = registry.parse(prior.config.data).kwargs
    return Scale(tuple(known["mean"]), tuple(known["std"]))


def with_changes(run: Experiment, changes: dict[str, Any]) -> Experiment:
    """The run with other settings of sampling; nothing is read."""
    config = copy.deepcopy(run.config)
    for key, value in changes.items():
        section, _, field = key.rpartition(".")
        (config[section] if section else config)[field] = value
    other = dataclasses.replace(run, config=config)
    vars(other).update({name: getattr(run, name) for name in ("clip", "data", "source", "model")})
    return other
