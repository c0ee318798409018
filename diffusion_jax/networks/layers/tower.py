"""A convolutional tower from noisy images to one vector each; the body of every guide."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from diffusion_jax.networks.layers.blocks import Dtype, ResBlock, fold_keys, group_norm
from diffusion_jax.networks.layers.conv import conv3x3
from diffusion_jax.networks.layers.embed import Conditioning
from diffusion_jax.networks.layers.patches import need_images
from diffusion_jax.types import Array, Cond


class Tower(nn.Module):
    """Residual blocks at falling resolution, then means over positions.

    Attributes:
        width: channels at full resolution.
        mults: channel multiplier of each resolution; images are halved between them.
        blocks: residual blocks per resolution.
        dropout: rate in the blocks.
        num_classes: number of classes it is conditioned on; 0 for none.
        gamma_min: gamma at which the time embedding is 0.
        gamma_max: gamma at which it is 1.
        dtype: arithmetic type.
        places: the feature map is averaged over each of `places x places` parts. With 1 (the global
            mean), position information is lost, except near the border.
        groups: number of groups in the norm before the mean; if it does not divide the channels,
            their greatest common divisor. Groups as small as pairs keep little more than a sign of
            each pair in the mean, so that classes with equal signs become indistinguishable.
    """

    width: int
    mults: tuple[int, ...]
    blocks: int
    dropout: float
    num_classes: int
    gamma_min: float
    gamma_max: float
    dtype: Dtype
    places: int = 1
    groups: int = 8

    @nn.compact
    def __call__(self, z: Array, gamma: Array, cond: Cond, keys: Array | None = None) -> Array:
        """Features `[B, places^2 * width * mults[-1]]` of latents `[B,H,W,C]` at `gamma` `[B]`."""
        need_images("the guiding network", z.shape)
        c = Conditioning(
            self.width, self.num_classes, 0, False, self.gamma_min, self.gamma_max, self.dtype,
            name="cond",
        )(gamma, cond)  # fmt: skip
        h = conv3x3(self.width, dtype=self.dtype, name="conv_in")(z)
        for level, mult in enumerate(self.mults):
            if level:
                h = conv3x3(h.shape[-1], strides=(2, 2), dtype=self.dtype, name=f"shrink{level}")(h)
            for i in range(self.blocks):
                h = ResBlock(self.width * mult, self.dropout, self.dtype, name=f"block{level}_{i}")(
                    h, c, fold_keys(keys, level * self.blocks + i)
                )
        h = nn.swish(group_norm(h.shape[-1], self.dtype, "norm_out", self.groups)(h))
        if self.places == 1:
            return h.mean((1, 2)).astype(jnp.result_type(z))
        rows, columns = (jnp.asarray(shares(n, self.places), h.dtype) for n in h.shape[1:3])
        h = jnp.einsum("bhwc,ih,jw->bijc", h, rows, columns)
        return h.reshape(len(h), -1).astype(jnp.result_type(z))


def shares(size: int, parts: int) -> np.ndarray:
    """Weights `[parts, size]` of the means over each of `parts` equal parts of `size` positions.

    A position across a border contributes to both parts in proportion.
    """
    edges = np.linspace(0.0, size, parts + 1)
    left, at = edges[:-1, None], np.arange(size)
    inside = np.minimum(edges[1:, None], at + 1.0) - np.maximum(left, at)
    return np.maximum(inside, 0.0) * (parts / size)
