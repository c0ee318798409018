"""The functions of a trained model that the codec needs, compiled once for both directions.

Encoder and decoder must compute bit-identical numbers. XLA's results depend on the shape of a batch
(on the CPU, 16 images at once and one at a time differ in most last bits), so every call here uses
the same batch shape, padded with zeros. Latents are passed as float64 and rounded to float32 for
the network; everything after the network is float64 arithmetic in numpy.
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

# By default XLA chooses GPU kernels by timing them.
_GPU = {
    "xla_gpu_deterministic_ops": True,
    "xla_gpu_exclude_nondeterministic_ops": True,
    "xla_gpu_autotune_level": 0,
}


def machine() -> dict[str, str]:
    """Versions and device, which must agree between the machines that write and read a file."""
    import jaxlib

    return {
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "device": jax.devices()[0].device_kind,
    }


def fingerprint(params: Params, settings: dict[str, Any]) -> str:
    """SHA-256 of all weights, with their names and shapes, and of the settings that define them.

    Args:
        params: weights of the model.
        settings: JSON-able settings.

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
    """What diffuses, pixels or latents: mean and standard deviation, float64 `[n, values]`.

    The standard deviation is None for data without noise.
    """

    mean: np.ndarray
    std: np.ndarray | None


class Network:
    """A model with its weights and one batch shape.

    Args:
        params: weights of the model; moved to a single device, whatever mesh they were on.
        shape: shape of one whole image, also for a model of a part of it.
        batch: number of images in every call.

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
        """The same network, conditioned on low-resolution images or on latents `y_0`.

        Images are uint8, latents float32, `[n, h, w, C]`.
        """
        conditioned = copy.copy(self)
        conditioned._low = low
        return conditioned

    def parts(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The modelled part of images `[n, H, W, C]`, and what it is conditioned on, or None."""
        part, cond = self.model.view(images)
        return np.asarray(part), np.asarray(cond["low"]) if cond else None

    def join(self, part: np.ndarray, low: np.ndarray | None) -> np.ndarray:
        """The inverse of `parts`, for `part` of shape `[n, values]`."""
        shaped = part.reshape(-1, *self.part)
        return np.asarray(self.model.view.join(shaped, {} if low is None else {"low": low}))

    @property
    def values(self) -> int:
        """Number of values that diffuse for one image: of its latents or of its modelled pixels."""
        return math.prod(self.shape)

    @property
    def passes(self) -> tuple[slice, ...]:
        """The values of an image in coding order: each part is conditioned on those before it."""
        channels = self.part[-1] if self.model.space.sequential else 1
        return tuple(slice(c, None, channels) for c in range(channels))

    @property
    def markov(self) -> bool:
        """Whether the forward chain does not depend on the data, as Bit-Swap requires."""
        return not self.model.traits.time_dependent_data

    def warm_up(self, labels: bool) -> None:
        """Compiles all functions; `labels`: whether the network receives labels."""
        z = np.zeros((1, self.values))
        label = np.zeros(1, np.int32) if labels else None
        low_shape = self.model.given_shape(self.image)
        if low_shape is not None and self._low is None:
            kind = np.float32 if self.model.from_latent else np.uint8
            self.given(np.zeros((1, *low_shape), kind)).warm_up(labels)
            return
        self.predict(z, 0.0, label)
        self.shift(z, 0.0, label)
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
            gamma: gamma of the latents.
            labels: int32 `[n]`; None for an unconditional model.

        Returns:
            float64, `[n, values]` each.

        Raises:
            CodecError: a prediction is not finite.
        """
        pred = self._call("_predict", self._pad(z), np.float32(gamma), self._cond(labels, len(z)))
        x, eps = (self._flat(a, len(z)) for a in pred)
        if not (np.isfinite(x).all() and np.isfinite(eps).all()):
            raise CodecError("the network predicts values that are not finite: check its weights")
        return x, eps

    def data(self, images: np.ndarray) -> Latents:
        """Images `[n, ...]` in model space, or their latents."""
        mean, std = self._call("_data", self._pad(images, images.dtype, self.part))
        n = len(images)
        return Latents(self._flat(mean, n), None if std is None else self._flat(std, n))

    def shift(self, x: np.ndarray, gamma: float, labels: np.ndarray | None) -> np.ndarray:
        """The shift by the diffusion encoder of data `x` `[n, values]` at `gamma`, float64."""
        if self.markov:
            return np.zeros_like(x)
        args = self._pad(x), np.float32(gamma), self._cond(labels, len(x))
        return self._flat(self._call("_shift", *args), len(x))

    def pixels(
        self, z_0: np.ndarray, gamma_0: float, alpha_0: float, images: np.ndarray
    ) -> np.ndarray:
        """`log p(pixel | z_0)` of every level, nats, float64 `[n, values of an image, levels]`.

        For each value only the earlier `passes` of `images` `[n, ...]` are used.
        """
        padded = self._pad(images, np.uint8, self.part)
        log_probs = self._call("_pixels", self._pad(z_0 / alpha_0), np.float32(gamma_0), padded)
        return log_probs[: len(z_0)].reshape(len(z_0), math.prod(self.part), -1)

    # The compiled functions: parameters come first, and all arrays have the fixed batch shape.

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
        result = jax.device_get(self._calls[name](self.params, *args))
        return jax.tree.map(lambda a: a.astype(np.float64), result)

    def _pad(
        self, a: np.ndarray, dtype: Any = np.float32, shape: tuple[int, ...] = ()
    ) -> np.ndarray:
        out = np.zeros((self.batch, *(shape or self.shape)), dtype)
        out[: len(a)] = a.reshape(-1, *out.shape[1:])
        return out

    def _flat(self, a: np.ndarray, n: int) -> np.ndarray:
        return a[:n].reshape(n, self.values)

    def _cond(self, labels: np.ndarray | None, n: int) -> Cond:
        cond = {"label": None if labels is None else np.asarray(labels, np.int32), "low": self._low}
        padded = {}
        for name, a in cond.items():
            if a is not None:
                padded[name] = np.zeros((self.batch, *a.shape[1:]), a.dtype)
                padded[name][:n] = a
        return jax.tree.map(jnp.asarray, padded)
