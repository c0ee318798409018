"""A CLIP that another run has trained, as a function of clean images and of texts."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax import packaged, registry
from diffusion_jax.errors import ConfigError
from diffusion_jax.evaluation import extract
from diffusion_jax.evaluation.features.base import Features
from diffusion_jax.experiment import latents, other_runs
from diffusion_jax.networks.text_encoders.base import as_read, prompts
from diffusion_jax.types import Array, Params

if TYPE_CHECKING:
    from diffusion_jax.experiment import Experiment

# Images per device and call: vectors are data, and their last bits depend on it.
_EACH = 256


_KEPT = 8  # sets of images whose vectors are remembered


@dataclass(frozen=True)
class Clip:
    """Both encoders of a CLIP, asked about clean images at its smallest gamma.

    Attributes:
        name: the run.
        shape: of the images it was trained on.
        levels: of those.
        size: values of a vector.
        digest: SHA-256 of its weights.
        images: vectors of images, levels `[N, H, W, C]`, before they are brought to unit length:
            float32 `[N, size]`.
        texts: the same of prompts: brackets in them are weights, see `text_encoders.base.escaped`.
        see: `images` to be traced, `(params, levels [B, H, W, C]) -> [B, size]`.
        params: its weights.
    """

    name: str
    shape: tuple[int, ...]
    levels: int
    size: int
    digest: str
    images: Callable[[np.ndarray], np.ndarray]
    texts: Callable[[Sequence[str]], np.ndarray]
    see: Callable[[Params, Array], Array]
    params: Params


def opened(
    checkpoint: str,
    setting: str = "clip: checkpoint",
    data_dir: str = "",
    data: str = "scenes()",
    known: str = "",
) -> Clip:
    """The CLIP of a run.

    Args:
        checkpoint: the run.
        setting: that names it, for messages.
        data_dir: of its data.
        data: of the images it is to see, by which a message says how to train one.
        known: SHA-256 of the weights that are meant, if they are known: no other CLIP will do.

    Raises:
        ConfigError: there is no run, or it holds something else.
    """
    moved = f"; the SHA-256 of its weights is {known[:8]}..: say where it is now" if known else ""
    run = other_runs.opened(
        setting, checkpoint, None if known else "clip:clean", data_dir, _like(data), moved
    )
    held = run.task.holds
    if held != "clip" or run.text is None:
        what = "a clip of a list of captions" if held == "clip" else f"a {held}"
        raise ConfigError(
            f"{checkpoint} holds {what}; embeddings are those of a CLIP that reads the captions of "
            "its data: train one as in configs/scenes_clip.py"
        )
    need_whole(run, checkpoint)
    source, text, network = run.source, run.text, run.task.network(run)
    params, _ = run.weights()
    encode = registry.build("decoders", run.config.decoder, levels=source.levels).encode
    gamma = run.offered()["gamma_min"]

    def see(params: Params, images: Array) -> Array:
        with jax.default_matmul_precision("highest"):
            return network.embed_image(params, encode(images), jnp.full(len(images), gamma))

    read = jax.jit(network.embed_text)
    one = jax.ShapeDtypeStruct((1, *source.shape), jnp.uint8)
    size = jax.eval_shape(see, params, one).shape[-1]
    digest = latents.digest(params)
    features = Features("clip", size, see, digest, params)
    extractor = extract.extractor(features, run.mesh, _EACH * run.mesh.devices.size)

    found: dict[str, np.ndarray] = {}

    def images(levels: np.ndarray) -> np.ndarray:
        which = hashlib.sha256(np.ascontiguousarray(levels).data).hexdigest()
        if which not in found:
            while len(found) >= _KEPT:
                found.pop(next(iter(found)))
            found[which] = np.concatenate(list(extractor(levels, "embeddings")))
        return found[which]

    def texts(strings: Sequence[str]) -> np.ndarray:
        known = list(dict.fromkeys(strings))
        asked = prompts(text, known)
        number = {s: i for i, s in enumerate(known)}
        vectors = np.asarray(read(params, as_read(text, asked.ids), asked.weight))
        return vectors[[number[s] for s in strings]]

    shape = tuple(source.shape)
    return Clip(checkpoint, shape, source.levels, size, digest, images, texts, see, params)


def need_whole(run: "Experiment", name: str) -> None:
    """Refuses (`ConfigError`) a network, called `name`, that has not seen whole images."""
    c = run.config
    pairs = (("view", "whole", "a part of each image"), ("autoencoder", "pixels", "latents"))
    for field, plain, seen in pairs:
        if registry.parse(c[field]).name != plain:
            raise ConfigError(
                f"{name} was trained on {seen} ({field}={c[field]!r}), and here it is asked about "
                f"whole images: train one with {field}='{plain}()'"
            )


def _like(data: str) -> str:
    """The data if we have an unCLIP of them, and so a CLIP that fits; else scenes."""
    name = registry.parse(data).name
    return data if f"{name}_unclip" in packaged.names() else "scenes()"
