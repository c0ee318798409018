"""CLIP embeddings of images: as the data of a prior, and as the conditioning of a decoder (unCLIP).

The settings `data='embeddings(checkpoint=..., of=...)'` and `embedding='runs/clip'` name a CLIP.
Its absolute path, its SHA-256 and the scale of each value on the training images become part of
the configuration, so that a run never uses another CLIP; only the path may be changed later.
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

_OWN = ("sha256", "mean", "std")  # arguments that a run fills in


@dataclass(frozen=True)
class Embedder:
    """Embeddings of a CLIP, standardised as the network receives them.

    Attributes:
        clip: the CLIP.
        scale: scale of the values.
    """

    clip: Clip
    scale: Scale

    def of_images(self, images: np.ndarray) -> np.ndarray:
        """The network's input for images (levels), float32 `[N, D + 1]`."""
        return self.of_raw(self.clip.images(images))

    def of_raw(self, raw: np.ndarray) -> np.ndarray:
        """The network's input for embeddings `[N, D]`, quantised like those of a prior."""
        return vectors.with_presence(vectors.standard_of(self.scale.levels(raw)))

    def texts(self, strings: Sequence[str]) -> np.ndarray:
        """The CLIP's embeddings `[N, D]` of texts."""
        return self.clip.texts(strings)

    def raw(self, inputs: np.ndarray) -> np.ndarray:
        """The embeddings `[N, D]` of inputs of the network."""
        return self.scale.raw(vectors.without_presence(inputs))


def data(run: "Experiment", spec: str) -> Source:
    """Builds the data set of a plug-in string; `embeddings()` can open its CLIP."""
    c = run.config
    return registry.build(
        "data", spec, data_dir=c.data_dir, workers=c.data_workers, open_clip=run.clip
    )


def of(run: "Experiment") -> Embedder | None:
    """The embedder of `config.embedding`; None for a run without embeddings.

    Raises:
        ConfigError: the CLIP is for other images, or is not the one that the run began with.
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
    """Raises ConfigError if the weights of the CLIP in run `name` have changed."""
    if found != wanted:
        raise ConfigError(
            f"{who}: the weights in {name} have changed since this run began ({found[:8]}.., then "
            f"{wanted[:8]}..): train this run again"
        )


def digest(run: "Experiment") -> str:
    """SHA-256 of the CLIP whose embeddings a run models or is conditioned on; empty for none."""
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
    """Raises ConfigError if a second run, called `name`, is conditioned on other embeddings."""
    mine, theirs = (_identity(r.config.embedding) for r in (run, other))
    if mine == theirs:
        return
    shown = [f"embedding={checkpoint(r.config)!r}" if r.config.embedding else "no embedding"
             for r in (other, run)]  # fmt: skip
    raise ConfigError(
        f"{name} has {shown[0]}, this run {shown[1]}: give two runs with embeddings of the same "
        "CLIP and the same scale, or two without"
    )


def _identity(embedding: str) -> Any:
    """Identifies the embeddings of a network, without the path of the CLIP; None for none."""
    if not embedding:
        return None
    known = _written(embedding).kwargs
    return {k: v for k, v in known.items() if k != "checkpoint"} if "sha256" in known else known


def source(run: "Experiment", found: Source) -> Source:
    """The data set `found`, with an embedding of each image if the run uses them."""
    if not run.config.embedding:
        return found

    @functools.lru_cache
    def load(name: str) -> Split:
        split, embedder = found.split(name), of(run)
        assert embedder is not None
        images = np.asarray(split.everything()["image"])
        return dataclasses.replace(split, embedding=embedder.of_images(images))

    return dataclasses.replace(found, load=load)


def check_network(run: "Experiment") -> None:
    """Raises ConfigError if augmentation or network are incompatible with embeddings."""
    c, built = run.config, run.model
    if not built.embedding:
        return
    if run.augment.size or registry.parse(c.augment).name != "none":
        raise ConfigError(
            f"augment={c.augment!r}: embeddings are of the original images; use augment='none()'"
        )
    shape = tuple(run.source.shape)
    z, given = jnp.zeros((2, *built.z_shape(shape))), built.given_shape(shape)
    others = {} if given is None else {"low": jnp.zeros((2, *given))}
    others |= {"latent": jnp.zeros((2, built.traits.latent))} if built.traits.latent else {}
    others |= {name: jnp.zeros(2) for name in built.cond_scalars}

    def count(cond: dict[str, Any]) -> int:
        every = others | cond
        params = jax.eval_shape(built.network.init, jax.random.key(0), z, jnp.zeros(2), every)
        return len(jax.tree.leaves(params))

    if count({"embedding": jnp.zeros((2, built.embedding))}) == count({}):
        raise ConfigError(
            f"embedding={checkpoint(c)!r}, but network {c.network} "
            "does not read cond['embedding']; unet, dit and all others that embed gamma by "
            "`Conditioning` do"
        )


def settle(run: "Experiment") -> None:
    """Fills in digest and scale of the CLIP named by `data` or `embedding`."""
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
    """A cached function that opens a CLIP by its run; errors name the setting that refers to it."""
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
    """`embeddings(...)` with its positional arguments as keywords."""
    if spec.name != "embeddings":
        return spec
    given = dict(zip(("checkpoint", "of"), spec.args, strict=False))
    return Spec(spec.name, spec.args[2:], {**given, **spec.kwargs})


def _written(embedding: str) -> Spec:
    """The setting `embedding`, a path or resolved, as `clip(checkpoint=..., sha256=..., ...)`."""
    try:
        spec = registry.parse(embedding)
    except SpecError:
        spec = Spec("")
    if spec.name == "clip" and spec.kwargs.get("checkpoint"):
        return spec
    return Spec("clip", (), {"checkpoint": embedding})


def _before(run: "Experiment", field: str, spec: Spec) -> Spec | None:
    """The resolved setting in the saved configuration, if it agrees with `spec`; else None."""
    saved = saved_config.find(place(run.checkpoint) if run.checkpoint else run.workdir)
    if saved is None:
        return None
    text = str(saved_config.read(saved)[field])
    old = _written(text) if field == "embedding" else _named(registry.parse(text))
    same = _without_filled(spec) == _without_filled(old)
    return old if same and old.kwargs.get("sha256") else None


def _without_filled(spec: Spec) -> tuple[Any, ...]:
    """A specification without the path of the CLIP and the arguments that a run fills in."""
    kwargs = {k: v for k, v in spec.kwargs.items() if k not in (*_OWN, "checkpoint")}
    return spec.name, spec.args, kwargs


def _settled(run: "Experiment", field: str, spec: Spec) -> Spec:
    """The specification with the path of the CLIP, its digest and the scale of its values."""
    if spec.name == "embeddings" and not isinstance(spec.kwargs.get("of"), Spec):
        data(run, str(spec))  # raises the error of the plug-in
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
        f"embeddings of {name}: {len(scale)} values; {vectors.clipped(scale, raw):.2%} are beyond "
        f"{vectors.SPAN:g} standard deviations of {images.name}/train, and clipped"
    )
    filled = {"sha256": clip.digest, "mean": scale.mean, "std": scale.std}
    return Spec(spec.name, spec.args, {**spec.kwargs, **there, **filled})


def _training(clip: Clip, images: Source) -> np.ndarray:
    return clip.images(np.asarray(images.split("train").everything()["image"]))


def _fitting(run: "Experiment", name: str, images: Source) -> Clip:
    """Opens the CLIP; `ConfigError` unless it is for images of this shape."""
    clip = run.clip(name)
    mine = (tuple(images.shape), images.levels)
    if mine != (clip.shape, clip.levels):
        raise ConfigError(
            f"{name} is for images of {clip.shape} with {clip.levels} levels, {images.name} has "
            f"{mine[0]} with {mine[1]}"
        )
    return clip
