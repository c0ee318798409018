"""The exact discrete decoder of VDM, for any number of levels and channels.

`P(x_i = k | z_0) = softmax_k(-1/2 e^{-gamma_0} (z_0i / alpha_0 - level_k)^2)` independently per
value (Kingma et al. 2021, equation 8). Levels are the bin centres `2 (k + 1/2) / V - 1`.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Float

from diffusion_jax.allowed import Levels
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Categorical:
    """Data are integers 0 .. levels-1.

    Attributes:
        levels: number of grey levels V.
    """

    levels: int

    def centres(self) -> Array:
        """The V levels in model space, inside (-1, 1)."""
        return self.encode(jnp.arange(self.levels))

    def encode(self, image: Array) -> Array:
        """Integers to bin centres, in the default float type."""
        return 2.0 * (image.astype(jnp.result_type(float)) + 0.5) / self.levels - 1.0

    def decode(self, y: Array) -> Array:
        """The most probable level, uint8: the nearest bin."""
        return jnp.clip(self._index(y), 0, self.levels - 1).astype(jnp.uint8)

    def log_prob(
        self, x: Float[Array, " b *d"], y: Float[Array, " b *d"], gamma_0: Float[Array, ""]
    ) -> Float[Array, " b"]:
        """Sum over values of the log-probability of the true bin, nats, `[B]`."""
        true = jnp.clip(self._index(x), 0, self.levels - 1)
        log_p = jnp.take_along_axis(self.log_probs(y, gamma_0), true[..., None], axis=-1)
        return log_p.sum(axis=tuple(range(1, log_p.ndim)))

    def log_probs(
        self, y: Float[Array, " b *d"], gamma_0: Float[Array, ""]
    ) -> Float[Array, " b *d v"]:
        """Log-probabilities of every level at every value, nats; codecs need them."""
        return jax.nn.log_softmax(
            -0.5 * jnp.exp(-gamma_0) * jnp.square(y[..., None] - self.centres())
        )

    def _index(self, x: Array) -> Array:
        return jnp.round((x + 1.0) * (0.5 * self.levels) - 0.5).astype(jnp.int32)


def make(levels: Levels) -> Categorical:
    """The discrete decoder for data with `levels` levels (2 to 256)."""
    return Categorical(levels)
