"""What a judge says of samples and of real images, and of texts that training never had."""

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
    """A judge, which may ask whose images the run's training had."""
    return registry.build("judges", spec, data=run.data)


def seen(run: Experiment, texts: Sequence[str]) -> np.ndarray:
    """Whether training images have what each text says, all of it at once, `[N]`."""
    captions = run.data.split("train").captions
    assert captions is not None
    if captions.say is None or not captions.law:
        known = {*captions.table}
        return np.asarray([t in known for t in texts])
    known = {captions.say(values) for values, p in captions.law if p > 0}
    known |= {*captions.table}  # those that leave something out
    return np.asarray([t in known for t in texts])


def judged(run: Experiment, images: np.ndarray, texts: Sequence[str]) -> dict[str, Any]:
    """Shares of what is right by `config.quality.judge`; apart for unseen texts if there are any.

    Args:
        images: levels, `[N, H, W, C]`.
        texts: what each was to show.
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
    """How alike images and their texts are to a CLIP.

    Args:
        clip: one that did not guide.
        images: levels, `[N, H, W, C]`.
        texts: of each.

    Returns:
        `score`, the mean of 100 times the cosine (Nichol et al. 2022), and `retrieval`, how often
        an image's own text is the one most like it of all that are asked for, with standard errors.
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
    """Refuses (`ConfigError`) a network that judges the samples which it guided, or chose."""
    c = run.config
    named = {
        "quality.classifier": c.quality.classifier,
        "quality.clip": c.quality.clip,
        "quality.features": _named(registry.parse(c.quality.features)),
    }
    parts = run.stages or (run,)
    built_in = [str(getattr(part.task, "guidance", "none()")) for part in parts]
    helpers = [("guidance", path) for spec in (c.guidance, *built_in) for path in guiding(spec)]
    told = (part.config for part in parts if part.config.embedding)
    helpers += [("embedding", embeddings.checkpoint(config)) for config in told]
    if c.sample.best_of > 1 and c.sample.judge != "bits" and "(" not in c.sample.judge:
        helpers.append(("sample.judge", c.sample.judge))
    for who, path in helpers:
        for judge, theirs in named.items():
            if theirs and _home(theirs) == _home(path):
                raise ConfigError(
                    f"{judge}: {theirs} is also that of {who}: its score would flatter; give "
                    "another, of another seed"
                )


def guiding(spec: str) -> list[str]:
    """The checkpoints that a guidance follows."""
    found, guidance = [], registry.build("guidance", spec)
    while guidance is not None:
        found.append(getattr(guidance, "checkpoint", ""))
        guidance = getattr(guidance, "inner", None)
    return [path for path in found if path]


def _named(spec: registry.Spec) -> str:
    value = spec.kwargs.get("checkpoint", spec.args[0] if spec.args else "")
    return value if isinstance(value, str) else ""


def _home(path: str) -> Path:
    """The work directory of a run or of one of its checkpoints."""
    where = saved_config.find(place(path)) or place(path) / "config.json"
    of_checkpoint = (p.parent for p in where.parents if p.name == FOLDER)
    return next(of_checkpoint, where.parent).resolve()


def of_split(run: Experiment, split: Split) -> dict[str, Any]:
    """The same of real images: what a judge itself gets wrong."""
    return judged(run, np.asarray(split.images), texts_of(run, split))


def texts_of(run: Experiment, split: Split) -> list[str]:
    """The texts of real images: captions, or names of classes."""
    if split.captions is not None:
        return split.captions.strings()
    if not split.num_classes:
        raise ConfigError(f"quality.judge: {split.name} has neither captions nor classes")
    return named_classes(run, split.labels)


def named_classes(run: Experiment, labels: np.ndarray) -> list[str]:
    """Names of classes, as captions have them."""
    names = caption_information.class_names(run)
    return [names[k] for k in labels]
