"""The contract of an autoencoder, between images and the latents that diffuse.

`q(y | x) = N(mean, std^2)` is the latent y of an image, and the data of the diffusion. That ends at
`z_0 = alpha_0 y + sigma_0 eps`, and the image is read from `y_0 = z_0 / alpha_0` by `P(x | y_0)`.
Images are data in model space, as encoded by the run's decoder.

Optional attributes: `trained = False`, if its weights come from a checkpoint and are frozen
(default: trained); `rate`, a factor of its learning rate (default 1); `pointwise = True`, if every
latent depends only on the values at its own position (default False). An autoencoder whose latents
are a vector for each level has `vectors(params)` `[V, dims]`, all of the same length, for
`prediction='levels'`.
"""

from typing import Any, Protocol, runtime_checkable

from diffusion_jax import registry
from diffusion_jax.types import Array, Params


@runtime_checkable
class Autoencoder(Protocol):
    """Maps images to latents, and noisy latents to probabilities of images.

    Attributes:
        noisy: whether the encoder has a standard deviation.
        discrete: whether there is `log_probs`, with a probability for every level.
        sequential: whether a channel's distribution depends on the channels before it (see
            `heads.base`).
        gamma_min: -log SNR of the lowest noise that suits its latents.
    """

    @property
    def noisy(self) -> bool: ...  # noqa: D102

    @property
    def discrete(self) -> bool: ...  # noqa: D102

    @property
    def sequential(self) -> bool: ...  # noqa: D102

    @property
    def gamma_min(self) -> float: ...  # noqa: D102

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one latent, for images of `shape`; `ConfigError` if that does not fit."""
        ...

    def init(self, key: Array, shape: tuple[int, ...]) -> Params:
        """Initial parameters for images of `shape`; may be an empty dict."""
        ...

    def encode(
        self, params: Params, x: Array, keys: Array | None = None
    ) -> tuple[Array, Array | None]:
        """Mean and standard deviation of y, of the same shape; the latter is None without noise.

        `keys` are one dropout key per example, or None.
        """
        ...

    def log_prob(
        self, params: Params, x: Array, y_0: Array, gamma_0: Array, keys: Array | None = None
    ) -> Array:
        """`log P(x | y_0)`, nats, `[B]`."""
        ...

    def log_probs(self, params: Params, x: Array, y_0: Array, gamma_0: Array) -> Array:
        """Log-probabilities of every level of every value, `[B, H, W, C, V]`.

        If it is sequential, channel c is conditioned on the channels of `x` before it; otherwise
        `x` is ignored.
        """
        ...

    def decode(self, params: Params, y_0: Array) -> Array:
        """The most probable image, as stored (uint8)."""
        ...


def build(spec: str | registry.Spec, **known: Any) -> Autoencoder:
    """An autoencoder from its plug-in string and the context of the run.

    Args:
        spec: the plug-in string.
        **known: values for parameters of `make` that the string does not set. `shape` is that of
            the images; `channels` is ignored, because an autoencoder's `channels` are those of its
            latents.

    Raises:
        SpecError: see `registry.build`.
    """
    known.pop("channels", None)
    return registry.build("autoencoders", spec, **known)


def is_trained(autoencoder: Autoencoder) -> bool:
    """Whether its weights are trained."""
    return bool(getattr(autoencoder, "trained", True))


def is_pointwise(autoencoder: Autoencoder) -> bool:
    """Whether every latent depends only on the values at its own position."""
    return bool(getattr(autoencoder, "pointwise", False))


def rate_of(autoencoder: Autoencoder) -> float:
    """The factor of the learning rate for its weights."""
    return float(getattr(autoencoder, "rate", 1.0))
