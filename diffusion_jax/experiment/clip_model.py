"""A CLIP trained by another run, as functions of clean images and of texts."""

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

# Images per device and call: the last bits of embeddings, which are data, depend on it.
_EACH = 256
_KEPT = 8  # number of sets of images whose embeddings are cached


@dataclass(frozen=True)
class Clip:
    """Both encoders of a CLIP, for clean images (at its smallest gamma).

    Attributes:
        name: the run.
        shape: shape of the images it was trained on.
        levels: number of levels of those images.
        size: length of an embedding.
        digest: SHA-256 of its weights.
        images: levels `[N, H, W, C]` -> embeddings, float32 `[N, size]`, not normalised.
        texts: prompts -> embeddings, likewise; brackets in prompts are weights, see
            `text_encoders.base.escaped`.
        see: `images` as a traceable function, `(params, levels [B, H, W, C]) -> [B, size]`.
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
    """Opens the CLIP of a run.

    Args:
        checkpoint: the run.
        setting: the setting that names it, for messages.
        data_dir: folder of its data.
        data: data of the images to embed; a message suggests how to train a CLIP for them.
        known: SHA-256 of the weights if they are prescribed; no other CLIP is then suggested.

    Raises:
        ConfigError: there is no run, or it is not a CLIP.
    """
    moved = f"; the SHA-256 of its weights is {known[:8]}..: give its new path" if known else ""
    run = other_runs.opened(
        setting, checkpoint, None if known else "clip:clean", data_dir, _like(data), moved
    )
    held = run.task.holds
    if held != "clip" or run.text is None:
        what = "a clip of a list of captions" if held == "clip" else f"a {held}"
        raise ConfigError(
            f"{checkpoint} holds {what}; embeddings need a CLIP that reads the captions of its "
            "data: train one as in configs/scenes_clip.py"
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

    cache: dict[str, np.ndarray] = {}

    def images(levels: np.ndarray) -> np.ndarray:
        which = hashlib.sha256(np.ascontiguousarray(levels).data).hexdigest()
        if which not in cache:
            while len(cache) >= _KEPT:
                cache.pop(next(iter(cache)))
            cache[which] = np.concatenate(list(extractor(levels, "embeddings")))
        return cache[which]

    def texts(strings: Sequence[str]) -> np.ndarray:
        distinct = list(dict.fromkeys(strings))
        tokens = prompts(text, distinct)
        number = {s: i for i, s in enumerate(distinct)}
        vectors = np.asarray(read(params, as_read(text, tokens.ids), tokens.weight))
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
    """The data if there is a packaged unCLIP (and so a CLIP) for them; else `scenes()`."""
    name = registry.parse(data).name
    return data if f"{name}_unclip" in packaged.names() else "scenes()"
