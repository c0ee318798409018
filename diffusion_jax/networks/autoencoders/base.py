"""The contract of an autoencoder: what lies between images and what diffuses.

`q(y | x) = N(mean, std^2)` gives the latent y of an image, which the diffusion takes for its data;
`z_0 = alpha_0 y + sigma_0 eps` is what it ends with, and the image is read from `y_0 = z_0/alpha_0`
by `P(x | y_0)`. Images come as data in model space, as the decoder of the run encodes them.

Beside the methods there may be declared `trained = False` (its weights come from a checkpoint and
stay as they are), `rate`, what its learning rate is multiplied by, and `pointwise = True` where
every latent sees the values at its own place alone. Undeclared: trained, 1, not pointwise. One
whose latents are a vector for each level has `vectors(params)` `[V, dims]`, all of one length, for
`prediction='levels'`.
"""

from typing import Any, Protocol, runtime_checkable

from diffusion_jax import registry
from diffusion_jax.types import Array, Params


@runtime_checkable
class Autoencoder(Protocol):
    """Images to latents, and probabilities of images given noisy latents.

    Attributes:
        noisy: whether it gives a standard deviation.
        discrete: whether `log_probs` gives every level its probability.
        sequential: whether a channel's law depends on the channels before it (`heads.base`).
        gamma_min: -log SNR of the least noise that suits its latents.
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
        """The shape of one latent, for images of `shape`; `ConfigError` where there is none."""
        ...

    def init(self, key: Array, shape: tuple[int, ...]) -> Params:
        """Initial parameters for images of `shape`; an empty dict if none."""
        ...

    def encode(
        self, params: Params, x: Array, keys: Array | None = None
    ) -> tuple[Array, Array | None]:
        """Mean and standard deviation of y, of one shape; None for no noise at all.

        `keys` are one dropout key per example, or None.
        """
        ...

    def log_prob(
        self, params: Params, x: Array, y_0: Array, gamma_0: Array, keys: Array | None = None
    ) -> Array:
        """`log P(x | y_0)`, nats, `[B]`."""
        ...

    def log_probs(self, params: Params, x: Array, y_0: Array, gamma_0: Array) -> Array:
        """The same of every level of every value, `[B, H, W, C, V]`.

        If it is sequential, channel c is given the channels of `x` before it; else `x` is not used.
        """
        ...

    def decode(self, params: Params, y_0: Array) -> Array:
        """The most probable image, as stored (uint8)."""
        ...


def build(spec: str | registry.Spec, **known: Any) -> Autoencoder:
    """An autoencoder from its string, told what is known of images and settings.

    Args:
        spec: the plug-in string.
        **known: for parameters of `make` that the string does not set. `shape` is that of the
            images; their `channels` are not offered, for those of an autoencoder are its latents'.

    Raises:
        SpecError: see `registry.build`.
    """
    known.pop("channels", None)
    return registry.build("autoencoders", spec, **known)


def is_trained(autoencoder: Autoencoder) -> bool:
    """Whether training moves its weights."""
    return bool(getattr(autoencoder, "trained", True))


def is_pointwise(autoencoder: Autoencoder) -> bool:
    """Whether a latent sees the values at its own place alone."""
    return bool(getattr(autoencoder, "pointwise", False))


def rate_of(autoencoder: Autoencoder) -> float:
    """What the learning rate is multiplied by for its weights."""
    return float(getattr(autoencoder, "rate", 1.0))
