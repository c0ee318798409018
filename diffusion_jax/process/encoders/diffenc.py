"""DiffEnc's trainable encoder (Nielsen et al. 2024): `x_t = x + sigma_t^2 (y(x, gamma_t) - x)`.

y is a small U-Net that is zero at initialisation: a new encoder is `alpha_t^2 x`.
"""

from dataclasses import dataclass
from typing import cast

import jax
import jax.numpy as jnp

from diffusion_jax.allowed import Count, Finite, Rate, Whole
from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.layers.encoder_unet import KINDS, EncoderUNet
from diffusion_jax.types import Array, Cond, Params, expand


@dataclass(frozen=True)
class DiffEnc:
    """The trainable encoder.

    Attributes:
        network: the network y, with values in [-1, 1].
        mean_coefficient: see `Encoder`.
    """

    network: EncoderUNet
    mean_coefficient: float = 1.0

    def init(self, key: Array, shape: tuple[int, ...]) -> Params:
        """Parameters of y."""
        return self.network.init(key, jnp.zeros((2, *shape)), jnp.zeros(2), {})["params"]

    def inner(
        self, params: Params, x: Array, gamma: Array, cond: Cond, keys: Array | None
    ) -> tuple[Array, Array]:
        """`(y, dy / d gamma)` by one forward-mode pass: one dropout mask serves both."""
        gamma = _per_image(gamma, x)

        def y(g: Array) -> Array:
            return cast(Array, self.network.apply({"params": params}, x, g, cond, keys))

        return jax.jvp(y, (gamma,), (jnp.ones_like(gamma),))

    def shift(
        self, params: Params, x: Array, gamma: Array, cond: Cond, keys: Array | None
    ) -> Array:
        """`sigma^2 (y - x)`."""
        gamma = _per_image(gamma, x)
        y = cast(Array, self.network.apply({"params": params}, x, gamma, cond, keys))
        return jax.nn.sigmoid(expand(gamma, x)) * (y - x)

    def __call__(
        self, params: Params, x: Array, gamma: Array, cond: Cond, keys: Array | None
    ) -> tuple[Array, Array]:
        """`x_gamma` and `sigma^2 (alpha^2 (y - x) + dy / d gamma)`."""
        y, dy = self.inner(params, x, gamma, cond, keys)
        g = expand(jnp.asarray(gamma), x)
        s2 = jax.nn.sigmoid(g)
        return x + s2 * (y - x), s2 * (jax.nn.sigmoid(-g) * (y - x) + dy)


def _per_image(gamma: Array, x: Array) -> Array:
    gamma = jnp.asarray(gamma)
    if gamma.ndim > 1:
        raise ConfigError("diffenc: needs a schedule with one gamma per image, not per pixel")
    return jnp.broadcast_to(gamma, x.shape[:1])


def make(
    kind: str = "unet",
    blocks: Count = 2,
    width: Count = 64,
    dropout: Rate = 0.1,
    scalar: bool = False,
    smallest_group: Count = 2,
    channels: Count = 3,
    num_classes: Whole = 0,
    augment: Whole = 0,
    gamma_min: Finite = -13.3,
    gamma_max: Finite = 5.0,
) -> DiffEnc:
    """The trainable encoder; the defaults are the published "-2" (1.9M parameters).

    It always computes in float32: its derivative enters the bound.

    Args:
        kind: `"unet"`, or `"unet_mult_res"` (published for 4 and 8 blocks).
        blocks: residual blocks in the downward path (N in "DiffEnc-32-N").
        width: channels at full resolution, doubled at each downsampling; also the size of the time
            embedding.
        dropout: dropout rate in the residual blocks.
        scalar: accept a raw scalar condition, as published checkpoints do.
        smallest_group: fewest channels in a group of the norms; 1 in published checkpoints.
        channels: number of image channels.
        num_classes: number of classes to condition on; 0 for none.
        augment: length of the augmentation vector; 0 for none.
        gamma_min: gamma at which the input of the time embedding is 0.
        gamma_max: gamma at which the input of the time embedding is 1.

    Raises:
        ConfigError: unknown kind.
    """
    if kind not in KINDS:
        raise ConfigError(f"diffenc: kind={kind!r} is not valid; allowed: {', '.join(KINDS)}")
    return DiffEnc(
        EncoderUNet(
            kind, blocks, width, dropout, scalar, smallest_group, channels, num_classes, augment,
            gamma_min, gamma_max,
        )
    )  # fmt: skip
