"""A convolutional autoencoder with an exact distribution of images: `conv()`.

Its noise is fixed, or learned per value as in a VAE. Fixed means that the encoder is deterministic
and the only noise is the diffusion's sigma_0; the latents cannot collapse, because shrinking ones
would drown in that noise.

It is trained in a separate run, which a diffusion of its latents names as `checkpoint`. There the
latents are standardised per channel, `y = (h - shift) / scale`; since images are discrete, a bound
in terms of y is still a bound.
"""

from dataclasses import dataclass
from typing import cast

import jax
import jax.numpy as jnp

from diffusion_jax import registry
from diffusion_jax.allowed import Count, Counts, Levels, NotNegative, Rate
from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.autoencoders import _conv
from diffusion_jax.networks.heads import base as heads
from diffusion_jax.networks.heads.base import Head
from diffusion_jax.networks.layers.blocks import Dtype, compute_dtype
from diffusion_jax.registry import Spec
from diffusion_jax.types import Array, Params

STANDARD = "standard"  # parameters that are measured, not trained


@dataclass(frozen=True)
class Conv:
    """See the module docstring; `make` documents the settings.

    Attributes:
        image_channels: channels of the images.
        trained: whether its weights are trained.
        rate: factor of the learning rate for its weights.
        checkpoint: the run of its weights; empty for a random initialisation.
    """

    head: Head
    widths: tuple[int, ...]
    blocks: int
    channels: int
    noisy: bool
    attention: bool
    dropout: float
    dtype: Dtype
    image_channels: int
    trained: bool
    rate: float
    checkpoint: str
    discrete: bool = True
    gamma_min: float = -5.0

    @property
    def sequential(self) -> bool:
        """Whether the head is sequential."""
        return self.head.sequential

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Height and width are halved once for each width after the first."""
        down, (height, width, _) = len(self.widths) - 1, shape
        if (height | width) % 2**down:
            times = next(n for n in range(down, -1, -1) if not (height | width) % 2**n)
            few = ("not be halved", "be halved once", "be halved twice")
            can = few[times] if times < 3 else f"be halved {times} times"
            raise ConfigError(
                f"autoencoder conv: {height}x{width} can {can}, and widths={self.widths} ask for "
                f"{down} halvings; give at most {times + 1} widths"
            )
        return (height >> down, width >> down, self.channels)

    def init(self, key: Array, shape: tuple[int, ...]) -> Params:
        """`{"encoder", "decoder", "standard": {"shift", "scale"}}`."""
        k_encoder, k_decoder = jax.random.split(key)
        x, y = jnp.zeros((1, *shape)), jnp.zeros((1, *self.latent_shape(shape)))
        one = jnp.ones(self.channels)
        return {
            "encoder": self._encoder.init(k_encoder, x)["params"],
            "decoder": self._decoder.init(k_decoder, y)["params"],
            STANDARD: {"shift": jnp.zeros_like(one), "scale": one},
        }

    def encode(
        self, params: Params, x: Array, keys: Array | None = None
    ) -> tuple[Array, Array | None]:
        """Mean and standard deviation of standardised latents."""
        out = self._encoder.apply({"params": params["encoder"]}, x, keys)
        mean, log_std = cast(tuple[Array, Array | None], out)
        shift, scale = _standard(params)
        return (mean - shift) / scale, None if log_std is None else jnp.exp(log_std) / scale

    def log_prob(
        self, params: Params, x: Array, y_0: Array, gamma_0: Array, keys: Array | None = None
    ) -> Array:
        """The head's log-probability of the image, nats, `[B]`."""
        image = heads.levels_of(x, self.head.levels)
        log_p = self.head.log_prob(self._out(params, y_0, keys), image)
        return log_p.sum(axis=tuple(range(1, log_p.ndim)))

    def log_probs(self, params: Params, x: Array, y_0: Array, gamma_0: Array) -> Array:
        """The head's log-probabilities of every level."""
        image = heads.levels_of(x, self.head.levels)
        return self.head.log_probs(self._out(params, y_0), image)

    def decode(self, params: Params, y_0: Array) -> Array:
        """The head's most probable image."""
        out = self._out(params, y_0)
        shape = (*out.shape[:-1], self.image_channels)
        return heads.fill(
            lambda image: self.head.log_probs(out, image), shape, self.sequential, heads.likeliest
        )

    def _out(self, params: Params, y_0: Array, keys: Array | None = None) -> Array:
        shift, scale = _standard(params)
        out = self._decoder.apply({"params": params["decoder"]}, y_0 * scale + shift, keys)
        assert isinstance(out, jax.Array)
        return out

    @property
    def _encoder(self) -> _conv.Encoder:
        return _conv.Encoder(
            self.widths, self.blocks, self.channels, self.noisy, self.attention, self.dropout,
            self.dtype,
        )  # fmt: skip

    @property
    def _decoder(self) -> _conv.Decoder:
        outputs = self.head.outputs(self.image_channels)
        return _conv.Decoder(
            self.widths, self.blocks, outputs, self.attention, self.dropout, self.dtype
        )


def _standard(params: Params) -> tuple[Array, Array]:
    standard = jax.lax.stop_gradient(params[STANDARD])
    return standard["shift"], standard["scale"]


def make(
    widths: Counts = (32, 64, 64),
    channels: Count = 8,
    blocks: Count = 1,
    noise: str = "learned",
    head: Spec = Spec("logistic"),  # noqa: B008  (immutable)
    attention: bool = True,
    dropout: Rate = 0.0,
    checkpoint: str = "",
    train: bool | None = None,
    rate: NotNegative = 1.0,
    sha256: str = "",
    levels: Levels = 256,
    shape: Counts = (32, 32, 3),
    dtype: str = "float32",
) -> Conv:
    """A convolutional autoencoder.

    Args:
        widths: channels at each size, from that of the images down; images are halved between them.
        channels: channels of the latents.
        blocks: residual blocks at each size; the decoder has one more.
        noise: `"learned"` for a standard deviation of every value, or `"fixed"` for no noise but
            the diffusion's own at gamma_min.
        head: distribution of images: `logistic(mixtures=3)`, `categorical()`, `bernoulli()`.
        attention: whether there is attention at the smallest size, if that is at most 8x8.
        dropout: rate in the blocks in training.
        checkpoint: a run that trained one; its weights and its settings (those above) are used.
        train: whether to train it; None: only if there is no checkpoint.
        rate: factor of the learning rate for its weights.
        sha256: SHA-256 of the checkpoint's weights, recorded by the run that loaded them.
        levels: number of grey levels of the data.
        shape: shape of the images.
        dtype: `"float32"` or `"bfloat16"` arithmetic.
    """
    if noise not in ("learned", "fixed"):
        raise ConfigError(f"autoencoder conv: noise={noise!r}; allowed: learned, fixed")
    if len(shape) != 3:
        raise ConfigError(f"autoencoder conv: shape={shape} is not that of an image")
    built = registry.build("heads", head, levels=levels, channels=shape[-1])
    return Conv(
        built, tuple(widths), blocks, channels, noise == "learned", attention, dropout,
        compute_dtype(dtype), shape[-1], not checkpoint if train is None else train, rate,
        checkpoint,
    )  # fmt: skip
