"""Judgements of samples and real images, separately for texts that training has not seen."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax import registry, saved_config
from diffusion_jax.data.base import Split
from diffusion_jax.errors import ConfigError
from diffusion_jax.evaluation.judges.base import Judge, shares
from diffusion_jax.experiment import Experiment, embeddings
from diffusion_jax.experiment.clip_model import Clip
from diffusion_jax.experiment.measures import caption_information
from diffusion_jax.networks.text_encoders.base import escaped
from diffusion_jax.runtime.storage import place
from diffusion_jax.training.restore import FOLDER


def opened(run: Experiment, spec: str) -> Judge:
    """Builds a judge, with access to the run's data."""
    return registry.build("judges", spec, data=run.data)


def seen(run: Experiment, texts: Sequence[str]) -> np.ndarray:
    """Whether each text can occur in the training set, `[N]`."""
    captions = run.data.split("train").captions
    assert captions is not None
    if captions.say is None or not captions.law:
        trained = {*captions.table}
        return np.asarray([t in trained for t in texts])
    trained = {captions.say(values) for values, p in captions.law if p > 0}
    trained |= {*captions.table}  # captions that leave something out
    return np.asarray([t in trained for t in texts])


def judged(run: Experiment, images: np.ndarray, texts: Sequence[str]) -> dict[str, Any]:
    """Shares that `config.quality.judge` finds right; also separately for seen and unseen texts.

    Args:
        run: the run.
        images: levels, `[N, H, W, C]`.
        texts: prompt of each image.
    """
    judge = opened(run, run.config.quality.judge)
    right = judge.right(images, list(texts))
    found = shares(judge.names, right)
    if not run.data.captioned:
        return found
    old = seen(run, texts)
    if old.all() or not old.any():
        return found
    for name, part in (("seen", old), ("unseen", ~old)):
        found |= {f"{k}, {name}": v for k, v in shares(judge.names, right[part]).items()}
    return found


def alike(clip: Clip, images: np.ndarray, texts: Sequence[str]) -> dict[str, Any]:
    """The similarity of images and their texts, by a CLIP.

    Args:
        clip: a CLIP that did not guide.
        images: levels, `[N, H, W, C]`.
        texts: text of each image.

    Returns:
        `score`, the mean of 100 times the cosine (Nichol et al. 2022), and `retrieval`, how often
        an image's own text is the most similar of all texts, with standard errors.
    """
    table = list(dict.fromkeys(texts))
    own = np.asarray([table.index(t) for t in texts])
    f, g = (_unit(v) for v in (clip.images(images), clip.texts([escaped(t) for t in table])))
    cosine = f @ g.T
    each = {"score": 100.0 * cosine[np.arange(len(own)), own], "retrieval": cosine.argmax(1) == own}
    found: dict[str, Any] = {"texts": len(table), "sha256": clip.digest}
    for name, values in each.items():
        found[name] = float(values.mean())
        found[f"{name}_standard_error"] = float(values.std() / np.sqrt(len(values)))
    return found


def _unit(v: np.ndarray) -> np.ndarray:
    v = v.astype(np.float64)
    return v / np.linalg.norm(v, axis=1, keepdims=True).clip(1e-12)


def check_apart(run: Experiment) -> None:
    """Raises ConfigError if a network judges samples that it has guided or selected."""
    c = run.config
    named = {
        "quality.classifier": c.quality.classifier,
        "quality.clip": c.quality.clip,
        "quality.features": _named(registry.parse(c.quality.features)),
    }
    parts = run.stages or (run,)
    built_in = [str(getattr(part.task, "guidance", "none()")) for part in parts]
    helpers = [("guidance", path) for spec in (c.guidance, *built_in) for path in guiding(spec)]
    decoders = (part.config for part in parts if part.config.embedding)
    helpers += [("embedding", embeddings.checkpoint(config)) for config in decoders]
    if c.sample.best_of > 1 and c.sample.judge != "bits" and "(" not in c.sample.judge:
        helpers.append(("sample.judge", c.sample.judge))
    for who, path in helpers:
        for judge, theirs in named.items():
            if theirs and _home(theirs) == _home(path):
                raise ConfigError(
                    f"{judge}: {theirs} is also used by {who}, so its score would be biased; give "
                    "another one, trained with another seed"
                )


def guiding(spec: str) -> list[str]:
    """The checkpoints used by a guidance."""
    found, guidance = [], registry.build("guidance", spec)
    while guidance is not None:
        found.append(getattr(guidance, "checkpoint", ""))
        guidance = getattr(guidance, "inner", None)
    return [path for path in found if path]


def _named(spec: registry.Spec) -> str:
    value = spec.kwargs.get("checkpoint", spec.args[0] if spec.args else "")
    return value if isinstance(value, str) else ""


def _home(path: str) -> Path:
    """The work directory of a run, or of one of its checkpoints."""
    where = saved_config.find(place(path)) or place(path) / "config.json"
    of_checkpoint = (p.parent for p in where.parents if p.name == FOLDER)
    return next(of_checkpoint, where.parent).resolve()


def of_split(run: Experiment, split: Split) -> dict[str, Any]:
    """Like `judged`, for real images: the judge's own error rate."""
    return judged(run, np.asarray(split.images), texts_of(run, split))


def texts_of(run: Experiment, split: Split) -> list[str]:
    """The texts of real images: their captions, or their class names."""
    if split.captions is not None:
        return split.captions.strings()
    if not split.num_classes:
        raise ConfigError(f"quality.judge: {split.name} has neither captions nor classes")
    return named_classes(run, split.labels)


def named_classes(run: Experiment, labels: np.ndarray) -> list[str]:
    """The class names of labels, as in captions."""
    names = caption_information.class_names(run)
    return [names[k] for k in labels]
