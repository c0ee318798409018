"""What the codec asks of a trained model: compiled once, the same functions in both directions.

Encoder and decoder must compute bit-identical numbers. XLA's results depend on the shape of a batch
(on the CPU, 16 images at once and one at a time differ in most last bits), so every call here has
one pinned batch shape, padded with zeros. Latents cross the border as float64 and are rounded to
float32 for the network; everything after the network is float64 arithmetic in numpy.
"""

import copy
import hashlib
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from diffusion_jax.errors import CodecError
from diffusion_jax.model import Model, require
from diffusion_jax.process import given_latent
from diffusion_jax.types import Array, Cond, Params

# XLA on GPUs chooses kernels by timing them unless told not to.
_GPU = {
    "xla_gpu_deterministic_ops": True,
    "xla_gpu_exclude_nondeterministic_ops": True,
    "xla_gpu_autotune_level": 0,
}


def machine() -> dict[str, str]:
    """What must agree between the machine that writes a file and the one that reads it."""
    import jaxlib

    return {
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "device": jax.devices()[0].device_kind,
    }


def fingerprint(params: Params, settings: dict[str, Any]) -> str:
    """SHA-256 over every weight with its name and shape, and the settings that give them meaning.

    Args:
        settings: JSON-able.

    Returns:
        The digest in hexadecimal.
    """
    digest = hashlib.sha256(repr(sorted(settings.items())).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        a = np.asarray(jax.device_get(leaf))
        digest.update(f"{jax.tree_util.keystr(path)} {a.dtype} {a.shape}".encode())
        digest.update(np.ascontiguousarray(a).tobytes())
    return digest.hexdigest()


class Latents(NamedTuple):
    """Data as they diffuse, float64 `[n, values]`: their mean, and the deviation of their noise.

    The deviation is None for data that have no noise of their own.
    """

    mean: np.ndarray
    std: np.ndarray | None


class Network:
    """A model with its weights and one batch shape.

    Args:
        params: its weights; one device computes, whatever mesh they were on.
        shape: of one image; of a model of a part of it too.
        batch: images per call, always.

    Raises:
        ConfigError: the codec cannot code with this model.
    """

    def __init__(self, model: Model, params: Params, shape: tuple[int, ...], batch: int):
        require(
            model, "the codec", "use decoder='categorical()', and a schedule other than mulan()",
            discrete=True, latent=0,
        )  # fmt: skip
        device = jax.devices()[0]
        options = _GPU if device.platform == "gpu" else None
        self.model, self.image, self.batch = model, tuple(shape), batch
        self.shape, self._low = tuple(model.z_shape(self.image)), None
        self.part = tuple(model.shape(self.image))
        self.params = jax.device_put(params, device)
        calls = (self._predict, self._data, self._shift, self._pixels, self._gammas)
        self._calls = {f.__name__: jax.jit(f, compiler_options=options) for f in calls}

    def given(self, low: np.ndarray | None) -> "Network":
        """The same network, told the smaller images of its next calls, or latents `y_0`.

        Those are uint8 and float32, `[n, h, w, C]`.
        """
        told = copy.copy(self)
        told._low = low
        return told

    def parts(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """What of images `[n, H, W, C]` it models, and the smaller images it is told, or None."""
        part, given = self.model.view(images)
        return np.asarray(part), np.asarray(given["low"]) if given else None

    def join(self, part: np.ndarray, low: np.ndarray | None) -> np.ndarray:
        """The inverse of `parts` at the model's level: `part` is `[n, values]`."""
        shaped = part.reshape(-1, *self.part)
        return np.asarray(self.model.view.join(shaped, {} if low is None else {"low": low}))

    @property
    def values(self) -> int:
        """Values of the latents of one image; of pixels, of what it models of the image."""
        return math.prod(self.shape)

    @property
    def passes(self) -> tuple[slice, ...]:
        """The values of an image in the order of coding: each part is given those before it."""
        channels = self.part[-1] if self.model.space.sequential else 1
        return tuple(slice(c, None, channels) for c in range(channels))

    @property
    def markov(self) -> bool:
        """Whether the forward chain does not see the data: what Bit-Swap's order needs."""
        return not self.model.traits.time_dependent_data

    def warm_up(self, labels: bool) -> None:
        """Compiles everything; `labels` says whether the network is told any."""
        z = np.zeros((1, self.values))
        known = np.zeros(1, np.int32) if labels else None
        told = self.model.given_shape(self.image)
        if told is not None and self._low is None:
            kind = np.float32 if self.model.from_latent else np.uint8
            self.given(np.zeros((1, *told), kind)).warm_up(labels)
            return
        self.predict(z, 0.0, known)
        self.shift(z, 0.0, known)
        image = np.zeros((1, math.prod(self.part)), np.uint8)
        self.data(image)
        self.pixels(z, 0.0, 1.0, image)

    def gammas(self, timesteps: int) -> np.ndarray:
        """The gammas at times `i / timesteps`, float64 `[timesteps + 1]`."""
        times = (np.arange(timesteps + 1) / timesteps).astype(np.float32)
        return self._call("_gammas", times)

    def predict(
        self, z: np.ndarray, gamma: float, labels: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """`(x_hat, eps_hat)` at latents `z` `[n, values]`.

        Args:
            z: latents.
            gamma: their gamma.
            labels: int32 `[n]`; None for an unconditional model.

        Returns:
            float64, `[n, values]` each.

        Raises:
            CodecError: a prediction is not finite.
        """
        found = self._call("_predict", self._pad(z), np.float32(gamma), self._cond(labels, len(z)))
        x, eps = (self._flat(a, len(z)) for a in found)
        if not (np.isfinite(x).all() and np.isfinite(eps).all()):
            raise CodecError("the network predicts values that are not finite: check its weights")
        return x, eps

    def data(self, images: np.ndarray) -> Latents:
        """Images `[n, ...]` in model space, or their latents."""
        mean, std = self._call("_data", self._pad(images, images.dtype, self.part))
        n = len(images)
        return Latents(self._flat(mean, n), None if std is None else self._flat(std, n))

    def shift(self, x: np.ndarray, gamma: float, labels: np.ndarray | None) -> np.ndarray:
        """What the encoder adds to data `x` `[n, values]` at `gamma`, float64."""
        if self.markov:
            return np.zeros_like(x)
        args = self._pad(x), np.float32(gamma), self._cond(labels, len(x))
        return self._flat(self._call("_shift", *args), len(x))

    def pixels(
        self, z_0: np.ndarray, gamma_0: float, alpha_0: float, images: np.ndarray
    ) -> np.ndarray:
        """`log p(pixel | z_0)` of every level, nats, float64 `[n, values of an image, levels]`.

        Of `images` `[n, ...]` only the `passes` before a value's own are looked at.
        """
        given = self._pad(images, np.uint8, self.part)
        found = self._call("_pixels", self._pad(z_0 / alpha_0), np.float32(gamma_0), given)
        return found[: len(z_0)].reshape(len(z_0), math.prod(self.part), -1)

    # What is compiled: the parameters come first, everything has the pinned shape.

    def _predict(self, params: Params, z: Array, gamma: Array, cond: Cond) -> tuple[Array, Array]:
        pred = self.model.denoiser(params)(
            z, gamma, given_latent.condition(self.model, params, cond)
        )
        return pred.x, pred.eps

    def _data(self, params: Params, images: Array) -> tuple[Array, Array | None]:
        coded = self.model.coded(params, self.model.decoder.encode(images))
        return coded.mean, coded.std

    def _shift(self, params: Params, x: Array, gamma: Array, cond: Cond) -> Array:
        return self.model.shift(params, x, gamma, given_latent.condition(self.model, params, cond))

    def _pixels(self, params: Params, y: Array, gamma_0: Array, images: Array) -> Array:
        return self.model.log_probs(params, self.model.decoder.encode(images), y, gamma_0)

    def _gammas(self, params: Params, t: Array) -> Array:
        return self.model.schedule.gamma(params["schedule"], t)

    def _call(self, name: str, *args: Any) -> Any:
        found = jax.device_get(self._calls[name](self.params, *args))
        return jax.tree.map(lambda a: a.astype(np.float64), found)

    def _pad(
        self, a: np.ndarray, dtype: Any = np.float32, shape: tuple[int, ...] = ()
    ) -> np.ndarray:
        out = np.zeros((self.batch, *(shape or self.shape)), dtype)
        out[: len(a)] = a.reshape(-1, *out.shape[1:])
        return out

    def _flat(self, a: np.ndarray, n: int) -> np.ndarray:
        return a[:n].reshape(n, self.values)

    def _cond(self, labels: np.ndarray | None, n: int) -> Cond:
        told = {"label": None if labels is None else np.asarray(labels, np.int32), "low": self._low}
        out = {}
        for name, a in told.items():
            if a is not None:
                out[name] = np.zeros((self.batch, *a.shape[1:]), a.dtype)
                out[name][:n] = a
        return jax.tree.map(jnp.asarray, out)
