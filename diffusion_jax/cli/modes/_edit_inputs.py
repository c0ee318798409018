"""The input images, masks and labels of `--mode=edit`."""

from pathlib import Path

import numpy as np

from diffusion_jax.cli import user_images
from diffusion_jax.data.base import SPLITS
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment, embeddings, texts
from diffusion_jax.experiment.embeddings import Embedder
from diffusion_jax.model import require
from diffusion_jax.sampling import generate
from diffusion_jax.sampling.edits.base import Edit, Inputs, sees

_SPLIT = "split:"
_NAME_MAX = 230  # bytes of method and input, so that a step and a number fit into 255


def read(experiment: Experiment, edit: Edit) -> tuple[Inputs, ...]:
    """Reads the inputs named in `config.edit`, of a run or of each stage of a cascade.

    Raises:
        ConfigError: they do not suit the edit.
    """
    c = experiment.config.edit
    if not c.image:
        raise ConfigError(
            "--config.edit.image is needed: a PNG, an npz, several separated by commas, or "
            "split:test for images of the data set"
        )
    if c.each < 1:
        raise ConfigError(f"edit.each={c.each} must be at least 1")
    images, labels, captions = _images(experiment, c.image, tuple(c.pick))
    mask = _masks(experiment, len(images)) if c.mask else None

    def given(run: Experiment) -> Inputs:
        cond, embedder = _cond(run, len(images), labels), embeddings.of(run)
        cond |= _texts(run, len(images))
        if embedder is not None:
            cond["embedding"] = _embedding(run, embedder, images, sees(edit))
        return Inputs(images, mask, cond, c.each, embedder, captions)

    return tuple(given(run) for run in experiment.stages or (experiment,))


def _texts(experiment: Experiment, count: int) -> dict[str, np.ndarray]:
    """The requested prompts, one per image in turn; without any, the empty condition."""
    if not texts.asks(experiment):
        if experiment.text is not None:
            require(
                experiment.model, "an image without a text",
                "give one (--config.sample.captions)", null_class=True,
            )  # fmt: skip
        return texts.nothing(experiment, count)
    return texts.conditions(experiment, texts.wanted(experiment, count))


def _embedding(
    experiment: Experiment, embedder: Embedder, images: np.ndarray, sees: bool
) -> np.ndarray:
    """CLIP embeddings of the images; zeros (none) if a part of each image is to be replaced."""
    if sees:
        return embedder.of_images(images)
    require(
        experiment.model, "an edit that replaces a part, and must not see the original,",
        "train with embedding_dropout (text_dropout) above 0", null_class=True,
    )  # fmt: skip
    return np.zeros((len(images), experiment.model.embedding), np.float32)


def name(experiment: Experiment) -> str:
    """Name of the results, from the edit and the first input."""
    c = experiment.config.edit
    first = c.image.split(",")[0]
    stem = first.removeprefix(_SPLIT) if first.startswith(_SPLIT) else Path(first).stem
    method = c.method.partition("(")[0].strip()
    room = _NAME_MAX - len(method.encode())
    return f"{method}_{stem.encode()[:room].decode(errors='ignore')}"


def _chosen(pick: tuple[int, ...], count: int) -> np.ndarray | None:
    """The indices in `edit.pick`, checked against the number of images `count`; None for all."""
    bad = [i for i in pick if not 0 <= i < count]
    if bad:
        raise ConfigError(f"edit.pick: there is no image {bad[0]}; there are {count}")
    return np.asarray(pick, np.int64) if pick else None


def _images(
    experiment: Experiment, where: str, pick: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """The picked images, or all, with their labels and captions if they have any."""
    source = experiment.source
    if where.startswith(_SPLIT):
        split = where.removeprefix(_SPLIT)
        if split not in SPLITS:
            raise ConfigError(f"edit.image={where!r}: the splits are {', '.join(SPLITS)}")
        found = source.split(split)
        found = found.loaded(_chosen(pick, len(found)))
        captions = () if found.captions is None else tuple(found.captions.strings())
        return np.asarray(found.images), found.labels if source.num_classes else None, captions
    files = [f.strip() for f in where.split(",") if f.strip()]
    read = [user_images.read_images(f, source.shape, source.levels, source.medium) for f in files]
    labels = [a for _, a in read if a is not None]
    if 0 < len(labels) < len(read) and not experiment.config.sample.labels:
        raise ConfigError(
            f"edit.image={where!r}: only some of the files have labels; say which classes to draw "
            "(--config.sample.labels)"
        )
    images = np.concatenate([a for a, _ in read])
    chosen = _chosen(pick, len(images))
    chosen = slice(None) if chosen is None else chosen
    known = np.concatenate(labels)[chosen] if len(labels) == len(read) else None
    return images[chosen], known, ()


def _masks(experiment: Experiment, count: int) -> np.ndarray:
    c = experiment.config.edit
    _check_painted_over(experiment)
    mask = user_images.read_mask(c.mask, experiment.source.shape, experiment.source.medium)
    if len(mask) > 1 and c.pick and len(mask) > max(c.pick):
        mask = mask[list(c.pick)]
    if len(mask) not in (1, count):
        raise ConfigError(f"{c.mask}: there are {len(mask)} masks for {count} images")
    return np.broadcast_to(mask, (count, *mask.shape[1:]))


def _check_painted_over(experiment: Experiment) -> None:
    """Raises ConfigError unless a mask has the size of the model or of its images.

    A mask of another size would be cropped differently from the images.
    """
    c, own = experiment.config.edit, tuple(experiment.source.shape[-3:-1])
    size = user_images.picture_size(c.mask)
    if size in (None, own):
        return
    files = [] if c.image.startswith(_SPLIT) else [f.strip() for f in c.image.split(",")]
    sizes = {f: user_images.picture_size(f) or own for f in files if f} or {c.image: own}
    for name, other in sizes.items():
        if other != size:
            raise ConfigError(
                f"edit.mask {c.mask} is {size[1]}x{size[0]}, {name} is {other[1]}x{other[0]}: a "
                f"mask must have the size of its image, or of the model, {own[1]}x{own[0]}"
            )


def _cond(experiment: Experiment, count: int, known: np.ndarray | None) -> dict[str, np.ndarray]:
    """The label of each image: as requested, else from the file, else the null class."""
    model, wanted = experiment.model, tuple(experiment.config.sample.labels)
    if wanted or not model.num_classes:
        labels = generate.labels_for(model, count, wanted)
        return {} if labels is None else {"label": labels}
    if known is None:
        require(
            model, "an image without a class", "give one (--config.sample.labels)",
            null_class=True,
        )  # fmt: skip
        return {"label": np.full(count, model.num_classes, np.int32)}
    for label in known:
        if not 0 <= label < model.num_classes:
            raise ConfigError(
                f"{experiment.config.edit.image}: label {label} is out of range; there are "
                f"classes 0 .. {model.num_classes - 1}"
            )
    return {"label": known}
