"""What a CLIP sees in images: as data of a prior, and as what a decoder is told (unCLIP).

The settings `data='embeddings(checkpoint=..., of=...)'` and `embedding='runs/clip'` name a CLIP.
Where it is, from any folder, its SHA-256 and the scale of each value on the training images become
part of the configuration, so that a run never takes another; where it is may be said anew.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from diffusion_jax import registry, saved_config
from diffusion_jax.data import vectors
from diffusion_jax.data.base import Source, Split
from diffusion_jax.data.vectors import Scale
from diffusion_jax.errors import ConfigError, SpecError
from diffusion_jax.experiment import clip_model
from diffusion_jax.experiment.clip_model import Clip
from diffusion_jax.registry import Spec
from diffusion_jax.runtime.distributed import say
from diffusion_jax.runtime.storage import is_bucket, place

if TYPE_CHECKING:
    from diffusion_jax.experiment import Experiment

_OWN = ("sha256", "mean", "std")  # what a run fills in


@dataclass(frozen=True)
class Embedder:
    """Vectors of a CLIP as a network is told of them.

    Attributes:
        clip: gives them.
        scale: of their values.
    """

    clip: Clip
    scale: Scale

    def of_images(self, images: np.ndarray) -> np.ndarray:
        """What the network is told of images (levels), float32 `[N, D + 1]`."""
        return self.of_raw(self.clip.images(images))

    def of_raw(self, raw: np.ndarray) -> np.ndarray:
        """The same of vectors `[N, D]`: put on levels as those that a prior draws."""
        return vectors.with_presence(vectors.standard_of(self.scale.levels(raw)))

    def texts(self, strings: Sequence[str]) -> np.ndarray:
        """The CLIP's vectors `[N, D]` of texts."""
        return self.clip.texts(strings)

    def raw(self, told: np.ndarray) -> np.ndarray:
        """The vectors `[N, D]` of what the network is told."""
        return self.scale.raw(vectors.without_presence(told))


def data(run: "Experiment", spec: str) -> Source:
    """The data set of a plug-in string; one of embeddings can open its CLIP."""
    c = run.config
    return registry.build(
        "data", spec, data_dir=c.data_dir, workers=c.data_workers, open_clip=run.clip
    )


def of(run: "Experiment") -> Embedder | None:
    """What gives a run its embeddings, `config.embedding`; None for a run without.

    Raises:
        ConfigError: the CLIP is of other images, or no longer the one that the run began with.
    """
    c = run.config
    if not c.embedding:
        return None
    known = _written(c.embedding).kwargs
    clip = _fitting(run, str(known["checkpoint"]), run.data)
    if "sha256" not in known:
        return Embedder(clip, vectors.measured(_training(clip, run.data)))
    check_digest("embedding", str(known["checkpoint"]), clip.digest, str(known["sha256"]))
    return Embedder(clip, Scale(tuple(known["mean"]), tuple(known["std"])))


def check_digest(who: str, name: str, found: str, wanted: str) -> None:
    """Refuses (`ConfigError`) a CLIP, by the name of its run, of other weights than those known."""
    if found != wanted:
        raise ConfigError(
            f"{who}: the weights in {name} have changed since this run began ({found[:8]}.., then "
            f"{wanted[:8]}..): train this run anew"
        )


def digest(run: "Experiment") -> str:
    """SHA-256 of the CLIP whose vectors a run draws, or is told; empty for none."""
    c = run.config
    spec = _named(registry.parse(c.data))
    if spec.name != "embeddings":
        spec = _written(c.embedding) if c.embedding else Spec("clip")
    name = spec.kwargs.get("checkpoint", "")
    return str(spec.kwargs.get("sha256") or (run.clip(str(name)).digest if name else ""))


def checkpoint(config: ConfigDict) -> str:
    """The CLIP's run that `config.embedding` names."""
    return str(_written(config.embedding).kwargs["checkpoint"])


def check_same(run: "Experiment", other: "Experiment", name: str) -> None:
    """Refuses (`ConfigError`) a second run, called `name`, whose network is told something else."""
    mine, theirs = (_told(r.config.embedding) for r in (run, other))
    if mine == theirs:
        return
    say = [f"embedding={checkpoint(r.config)!r}" if r.config.embedding else "no embedding"
           for r in (other, run)]  # fmt: skip
    raise ConfigError(
        f"{name} has {say[0]}, this run {say[1]}: give one that is told the same, with vectors of "
        "the same CLIP and the same scale, or two without"
    )


def _told(embedding: str) -> Any:
    """What vectors a network is told, wherever the CLIP lies; None for none."""
    if not embedding:
        return None
    known = _written(embedding).kwargs
    return {k: v for k, v in known.items() if k != "checkpoint"} if "sha256" in known else known


def source(run: "Experiment", found: Source) -> Source:
    """A data set with what the run's network is told of each image."""
    if not run.config.embedding:
        return found

    @functools.lru_cache
    def load(name: str) -> Split:
        split, told = found.split(name), of(run)
        assert told is not None
        images = np.asarray(split.everything()["image"])
        return dataclasses.replace(split, embedding=told.of_images(images))

    return dataclasses.replace(found, load=load)


def check_network(run: "Experiment") -> None:
    """Refuses (`ConfigError`) what does not go together with embeddings."""
    c, built = run.config, run.model
    if not built.embedding:
        return
    if run.augment.size or registry.parse(c.augment).name != "none":
        raise ConfigError(
            f"augment={c.augment!r}: an embedding is of the image as it is; use augment='none()'"
        )
    shape = tuple(run.source.shape)
    z, given = jnp.zeros((2, *built.z_shape(shape))), built.given_shape(shape)
    others = {} if given is None else {"low": jnp.zeros((2, *given))}
    others |= {"latent": jnp.zeros((2, built.traits.latent))} if built.traits.latent else {}
    others |= {name: jnp.zeros(2) for name in built.cond_scalars}

    def weights(told: dict[str, Any]) -> int:
        made = jax.eval_shape(built.network.init, jax.random.key(0), z, jnp.zeros(2), others | told)
        return len(jax.tree.leaves(made))

    told = {"embedding": jnp.zeros((2, built.embedding))}
    if weights(told) == weights({}):
        raise ConfigError(
            f"embedding={checkpoint(c)!r}, but network {c.network} "
            "does not look at cond['embedding']; unet, dit and all that embed gamma by "
            "`Conditioning` do"
        )


def settle(run: "Experiment") -> None:
    """Writes what the runs named by `data` and `embedding` say of a CLIP into the configuration."""
    c = run.config
    spec = _named(registry.parse(c.data))
    if spec.name == "embeddings" and not spec.kwargs.get("sha256"):
        c.data = str(_settled(run, "data", spec))
        vars(run).pop("data", None)
    if c.embedding:
        spec = _written(c.embedding)
        if not spec.kwargs.get("sha256"):
            c.embedding = str(_settled(run, "embedding", spec))


def opener(run: "Experiment") -> Callable[[str], Clip]:
    """Opens a CLIP by its run, each once; the first mistake is one of the setting that names it."""
    c = run.config
    spec = _written(c.embedding) if c.embedding else _named(registry.parse(c.data))
    setting = "embedding" if c.embedding else "data: checkpoint"
    of = c.data if c.embedding else str(spec.kwargs.get("of") or c.data)
    known = str(spec.kwargs.get("sha256", ""))

    @functools.cache
    def open_clip(name: str) -> Clip:
        return clip_model.opened(name, setting, c.data_dir, of, known)

    return open_clip


def _named(spec: Spec) -> Spec:
    """`embeddings(...)` with its arguments by name."""
    if spec.name != "embeddings":
        return spec
    given = dict(zip(("checkpoint", "of"), spec.args, strict=False))
    return Spec(spec.name, spec.args[2:], {**given, **spec.kwargs})


def _written(embedding: str) -> Spec:
    """The setting, a path or what a run has made of it: `clip(checkpoint=..., sha256=..., ...)`."""
    try:
        spec = registry.parse(embedding)
    except SpecError:
        spec = Spec("")
    if spec.name == "clip" and spec.kwargs.get("checkpoint"):
        return spec
    return Spec("clip", (), {"checkpoint": embedding})


def _before(run: "Experiment", field: str, spec: Spec) -> Spec | None:
    """What a run that has begun with such a setting knows of its CLIP, or nothing."""
    saved = saved_config.find(place(run.checkpoint) if run.checkpoint else run.workdir)
    if saved is None:
        return None
    text = str(saved_config.read(saved)[field])
    old = _written(text) if field == "embedding" else _named(registry.parse(text))
    mine, theirs = (
        (s.name, s.args, {k: v for k, v in s.kwargs.items() if k not in (*_OWN, "checkpoint")})
        for s in (spec, old)
    )
    return old if mine == theirs and old.kwargs.get("sha256") else None


def _settled(run: "Experiment", field: str, spec: Spec) -> Spec:
    """The specification with the CLIP's place, its digest and the scale of its values."""
    if spec.name == "embeddings" and not isinstance(spec.kwargs.get("of"), Spec):
        data(run, str(spec))  # says what is missing
    name, before = str(spec.kwargs["checkpoint"]), _before(run, field, spec)
    there = {"checkpoint": name if is_bucket(name) else str(place(name))}
    if before is not None:
        same = place(str(before.kwargs["checkpoint"])) == place(name)
        if same or run.clip(name).digest == before.kwargs["sha256"]:
            return Spec(before.name, before.args, {**before.kwargs, **there})
    images = data(run, str(spec.kwargs["of"])) if spec.name == "embeddings" else run.data
    clip = _fitting(run, name, images)
    raw = _training(clip, images)
    scale = vectors.measured(raw)
    say(
        f"embeddings of {name}: {len(scale)} values, {vectors.clipped(scale, raw):.2%} of them "
        f"beyond {vectors.SPAN:g} deviations of {images.name}/train, and clipped"
    )
    known = {"sha256": clip.digest, "mean": scale.mean, "std": scale.std}
    return Spec(spec.name, spec.args, {**spec.kwargs, **there, **known})


def _training(clip: Clip, images: Source) -> np.ndarray:
    return clip.images(np.asarray(images.split("train").everything()["image"]))


def _fitting(run: "Experiment", name: str, images: Source) -> Clip:
    """The CLIP, if it sees images of this kind."""
    clip = run.clip(name)
    mine = (tuple(images.shape), images.levels)
    if mine != (clip.shape, clip.levels):
        raise ConfigError(
            f"{name} sees images of {clip.shape} with {clip.levels} levels, {images.name} has "
            f"{mine[0]} with {mine[1]}"
        )
    return clip
