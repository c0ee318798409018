"""Lossless compression with the model of a run: from images to the bytes of a file, and back."""

import hashlib
import math
import time
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from diffusion_jax import registry
from diffusion_jax.compression import coder as coding, container, model_functions
from diffusion_jax.compression.files import Images, file_names
from diffusion_jax.compression.header import check
from diffusion_jax.data.base import Split, checked as check_split
from diffusion_jax.data.checks import whole_labels
from diffusion_jax.data.views.base import stages_of
from diffusion_jax.errors import CodecError, ConfigError, DataError
from diffusion_jax.experiment import Experiment, codec_plans
from diffusion_jax.model import need_likelihood, require
from diffusion_jax.runtime.progress import progress
from diffusion_jax.types import Params

# Settings that change the network's output for the same weights.
_SETTINGS = ("network", "encoder", "schedule", "decoder", "prediction", "conditional", "gamma_max",
             "dtype", "augment")  # fmt: skip
_BATCH = 8  # default number of images that are coded in parallel


@dataclass(frozen=True)
class Encoded:
    """Images that have been coded.

    Attributes:
        data: the content of the file.
        header: the header of the file, JSON-able.
        images: the images that were coded.
        coder: the coder.
        coded: the bits and their lengths.
        seconds: time of coding, without compilation.
    """

    data: bytes
    header: dict[str, Any]
    images: Images
    coder: coding.Coder
    coded: coding.Coded
    seconds: float


def one_process() -> None:
    """Raises ConfigError on a cluster: coding is sequential."""
    if jax.process_count() > 1:
        raise ConfigError("compress and decompress run in one process; start them on one host")


def fingerprint(experiment: Experiment, params: Params) -> str:
    """Identifies a model by its weights and the settings that they depend on."""
    if experiment.stages:
        each = map(fingerprint, experiment.stages, params)
        return hashlib.sha256(" ".join(each).encode()).hexdigest()
    c = experiment.config
    settings = {k: c[k] for k in _SETTINGS}
    settings |= {k: c[k] for k in ("text", "embedding") if c[k]}
    if registry.parse(c.view) != registry.parse("whole()"):
        settings["view"] = c.view
    if not experiment.model.traits.pixels or experiment.model.from_latent:
        settings["autoencoder"] = c.autoencoder
    settings |= {
        "gamma_min": experiment.offered()["gamma_min"],
        "precision": c.eval.matmul_precision,
        "levels": experiment.source.levels,
        "shape": tuple(experiment.source.shape),
        "classes": experiment.model.num_classes,
    }
    return model_functions.fingerprint(params, settings)


def check_whole(experiment: Experiment) -> None:
    """Raises ConfigError for a run without a likelihood, or of only a part of each image."""
    need_likelihood(experiment.model, "the codec")
    shape, model = tuple(experiment.source.shape), experiment.model
    medium = experiment.source.medium.name
    if not experiment.stages and (model.view.halvings or model.given_shape(shape)):
        raise ConfigError(
            f"this run (view {experiment.config.view}) models only a part of each {medium}, or "
            f"needs another part as input: code whole {medium}s with all stages, "
            f"--config.stages={stages_of(model.view)}"
        )


def networks(
    experiment: Experiment, params: Params, shape: tuple[int, ...], batch: int
) -> list[model_functions.Network]:
    """The model for images of `shape`, or those of all stages, small images first."""
    check_whole(experiment)
    pairs = (
        zip(experiment.stages, params, strict=True)
        if experiment.stages
        else ((experiment, params),)
    )
    return [model_functions.Network(e.model, p, shape, batch) for e, p in pairs]


def checked(experiment: Experiment, images: np.ndarray, labels: np.ndarray | None) -> Images:
    """Arrays as images to code; `DataError` unless they have the format of the model's data."""
    source, shape = experiment.source, tuple(experiment.source.shape)
    try:
        images = np.asarray(images)
    except ValueError as e:
        raise DataError(
            "images are lists of unequal length; this model codes uint8 "
            f"[N, {', '.join(map(str, shape))}]"
        ) from e
    if images.dtype != np.uint8 or images.shape[1:] != shape or not len(images):
        raise DataError(
            f"images are {images.dtype} {list(images.shape)}; this model codes uint8 "
            f"[N, {', '.join(map(str, shape))}]"
        )
    if labels is not None:
        if not experiment.model.num_classes:
            raise DataError("labels were given, but this model has no classes: leave them out")
        labels = whole_labels("labels", labels, len(images))
    own = np.zeros(len(images), np.int32) if labels is None else labels
    split = Split("images", images, own, source.levels, source.num_classes)
    check_split(split, source.medium)
    return Images("images", images, labels)


def encode(
    experiment: Experiment,
    params: Params,
    record: dict[str, Any],
    found: Images,
    show: bool = False,
) -> Encoded:
    """Codes images with the settings of `config.compress`.

    Args:
        experiment: the run, or a cascade.
        params: the weights.
        record: record of the weights, from `Experiment.weights`.
        found: the images.
        show: whether to show the progress.

    Raises:
        ConfigError: settings that cannot work.
    """
    one_process()
    c = experiment.config.compress
    labels = labels_of(experiment, found)
    found = Images(found.name, found.images, labels, found.names)
    with jax.default_matmul_precision(experiment.config.eval.matmul_precision or None):
        batch = min(c.batch or _BATCH, len(found.images))
        *before, net = networks(experiment, params, found.images.shape[1:], batch)
        coder = coding.make(
            net, c.timesteps, c.order, c.group, c.seed, labels is not None, before,
            codec_plans.made(experiment, params, [*before, net]),
        )  # fmt: skip
        for network in (*before, net):
            network.warm_up(labels is not None or coder.null is not None)
        start = time.monotonic()
        with progress("encode", len(found.images), show=show) as bar:
            coded = coding.encode(coder, found.images, labels, bar.at)
        seconds = time.monotonic() - start
        header = _header(experiment, coder, found, coded, params, record)
    data = container.pack(header, coded.groups)
    return Encoded(data, header, found, coder, coded, seconds)


def _header(
    experiment: Experiment,
    coder: coding.Coder,
    found: Images,
    coded: coding.Coded,
    params: Params,
    record: dict[str, Any],
) -> dict[str, Any]:
    net = coder.chain.network
    return {
        "images": len(found.images),
        "shape": list(net.image),
        "levels": experiment.source.levels,
        "timesteps": coder.chain.timesteps,
        "order": coder.order,
        "batch": net.batch,
        "group": coder.group,
        "groups": len(coded.groups),
        "seed": coder.seed,
        "labels": label_kind(coder),
        "schedule": schedule_code(coder),
        "model": fingerprint(experiment, params),
        "step": record["step"],
        "weights": record["weights"],
        "machine": model_functions.machine(),
        "sha256": found.sha256(),
        **({"names": list(found.names)} if found.names else {}),
        **({"gammas": [chain.gammas.tolist() for chain in coder.chains]}
           if experiment.config.compress.grid else {}),
    }  # fmt: skip


def label_kind(coder: coding.Coder) -> str:
    """The network's conditioning, one of `header.LABELS`: "coded", "null text", "none", ..."""
    models = [c.network.model for c in coder.chains]
    nulls = {"text": any(m.text for m in models), "vector": any(m.embedding for m in models)}
    kinds = [] if coder.null is None else ["coded" if coder.classes else "null class"]
    if any(nulls.values()):
        kinds.append("null " + " and ".join(k for k, there in nulls.items() if there))
    return ", ".join(kinds) or "none"


def schedule_code(coder: coding.Coder) -> str:
    """The exact gammas of the chains, encoded in few characters."""
    return container.code(np.concatenate([c.gammas for c in coder.chains]))


def read(
    experiment: Experiment, data: bytes, name: str, params: Params
) -> tuple[dict[str, Any], list, coding.Coder]:
    """Reads the content of a file, and checks that it can be decoded here.

    Args:
        experiment: the run, or a cascade.
        data: the content.
        name: name of the file for messages.
        params: the weights to decode with.

    Returns:
        The header, the groups and the coder.

    Raises:
        CodecError: the file is damaged, or written with another model, batch shape, schedule or
            software.
    """
    header, groups = container.unpack(data, name)
    shape = tuple(experiment.source.shape)
    latents = (math.prod(e.model.z_shape(shape)) for e in experiment.stages or (experiment,))
    check(header, groups, shape, max(math.prod(shape), *latents), name)
    if header["model"] != fingerprint(experiment, params):
        raise CodecError(
            f"{name} was written with another model (step {header['step']}, weights "
            f"{header['weights']}; the SHA-256 of weights and settings differs): "
            f"{_named_by(len(header.get('gammas', ())))}"
        )
    wanted = experiment.config.compress.batch
    if wanted not in (0, header["batch"]):
        raise CodecError(
            f"{name} was written with batches of {header['batch']} images and can only be decoded "
            f"with those, not with {wanted}: leave config.compress.batch at 0"
        )
    here = model_functions.machine()
    other = [f"{k} {header['machine'].get(k)}, not {v}" for k, v in here.items()
             if header["machine"].get(k) != v]  # fmt: skip
    if other:
        raise CodecError(
            f"{name} was written with {'; '.join(other)}, where networks round differently; "
            "decode it with the same versions on the same kind of device"
        )
    *before, net = networks(experiment, params, tuple(header["shape"]), header["batch"])
    coder = coding.make(
        net, header["timesteps"], header["order"], header["group"], header["seed"],
        header["labels"].startswith("coded"), before,
        codec_plans.kept(header, 1 + len(before), name),
    )  # fmt: skip
    kind = label_kind(coder)
    if kind != header["labels"]:
        raise CodecError(f"{name}: its labels are {header['labels']!r}, this model's {kind!r}")
    if schedule_code(coder) != header["schedule"]:
        raise CodecError(
            f"{name}: the noise schedule computed here differs from that of the machine that wrote "
            "the file; decode it on the same kind of machine"
        )
    return header, groups, coder


def _named_by(chains: int) -> str:
    """How to select the model of a file; `chains` is 0 if its header does not say how many."""
    single = "select that one with --checkpoint and config.eval.weights"
    stages = "all its stages, --config.stages=LOW,HIGH"
    return {0: f"{single}, or, for a cascade, {stages}", 1: single}.get(
        chains, f"it has {chains} stages: give {stages}"
    )


def decode(
    experiment: Experiment, params: Params, data: bytes, name: str, show: bool = False
) -> tuple[Images, dict[str, Any]]:
    """Decodes the content of a file and checks it against the digest in its header.

    Args:
        experiment: the run, or a cascade.
        params: the weights.
        data: the content.
        name: name of the file, for messages and for the images.
        show: whether to show the progress.

    Returns:
        The images, and the header.

    Raises:
        CodecError: the file cannot be decoded exactly here.
    """
    one_process()
    with jax.default_matmul_precision(experiment.config.eval.matmul_precision or None):
        header, groups, coder = read(experiment, data, name, params)
        with progress("decode", header["images"], show=show) as bar:
            images, labels = coding.decode(coder, groups, header["images"], bar.at)
    found = Images(name, images, labels, file_names(header.get("names", ())))
    if found.sha256() != header["sha256"]:
        raise CodecError(f"{name}: the decoded images differ from the SHA-256 in the header")
    return found, header


def labels_of(experiment: Experiment, found: Images) -> np.ndarray | None:
    """The labels to code, int32 `[N]`, or None for the null class (or a model without classes).

    A model conditioned on texts or CLIP embeddings codes without these.

    Raises:
        ConfigError: the model cannot do without the conditioning that it would lack.
    """
    choice = experiment.config.compress.labels
    if choice not in ("auto", "code", "null"):
        raise ConfigError(f"compress.labels={choice!r}: allowed: auto, code, null")
    for part in experiment.stages or (experiment,):
        if part.model.text or part.model.embedding:
            require(
                part.model, "coding without texts, which are not stored in files,",
                "train with text_dropout (embedding_dropout) above 0", null_class=True,
            )  # fmt: skip
    if not experiment.model.num_classes:
        if choice == "code":
            raise ConfigError("compress.labels='code', but this model has no classes: leave it out")
        return None
    if found.labels is None and choice == "code":
        raise ConfigError(f"compress.labels='code', but {found.name} has no labels")
    if found.labels is not None and choice != "null":
        return found.labels
    for part in experiment.stages or (experiment,):
        require(
            part.model, "coding without labels", "code images with labels (compress.labels=code)",
            null_class=True,
        )  # fmt: skip
    return None
