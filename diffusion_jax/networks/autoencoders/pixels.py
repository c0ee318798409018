"""No autoencoder: the data themselves diffuse, and the run's decoder scores them."""

from dataclasses import dataclass
from typing import Any

from diffusion_jax.types import Array, Params, least_noise


@dataclass(frozen=True)
class Pixels:
    """`y = x`, without noise."""

    decoder: Any  # a Decoder; it may have `log_probs` and `levels`
    noisy: bool = False
    sequential: bool = False
    pointwise: bool = True

    @property
    def discrete(self) -> bool:
        """Whether the decoder has probabilities of levels."""
        return hasattr(self.decoder, "log_probs")

    @property
    def gamma_min(self) -> float:
        """The default for the number of levels."""
        return least_noise(getattr(self.decoder, "levels", 256))

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the data."""
        return tuple(shape)

    def init(self, key: Array, shape: tuple[int, ...]) -> Params:
        """No parameters."""
        return {}

    def encode(self, params: Params, x: Array, keys: Array | None = None) -> tuple[Array, None]:
        """The data."""
        return x, None

    def log_prob(
        self, params: Params, x: Array, y_0: Array, gamma_0: Array, keys: Array | None = None
    ) -> Array:
        """The decoder's log-probability, nats, `[B]`."""
        return self.decoder.log_prob(x, y_0, gamma_0)

    def log_probs(self, params: Params, x: Array, y_0: Array, gamma_0: Array) -> Array:
        """The decoder's log-probabilities of every level."""
        return self.decoder.log_probs(y_0, gamma_0)

    def decode(self, params: Params, y_0: Array) -> Array:
        """The decoder's most probable data."""
        return self.decoder.decode(y_0)


def make(decoder: Any = None) -> Pixels:
    """No autoencoder; `decoder` is the run's."""
    return Pixels(decoder)
