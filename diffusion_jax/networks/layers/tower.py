"""A convolutional tower: noisy images in, one vector each out; the body of every guide."""

import flax.linen as nn
import jax

from diffusion_jax.networks.layers.blocks import Dtype, ResBlock, fold_keys, group_norm
from diffusion_jax.networks.layers.conv import conv3x3
from diffusion_jax.networks.layers.embed import Conditioning
from diffusion_jax.networks.layers.patches import need_images
from diffusion_jax.types import Array, Cond


class Tower(nn.Module):
    """Residual blocks at falling resolution, then the mean over positions.

    Attributes:
        width: channels at full resolution.
        mults: channel multiplier of each resolution; images are halved between them.
        blocks: residual blocks per resolution.
        dropout: rate in the blocks.
        num_classes: classes it is told; 0 for none.
        gamma_min: gamma at which the time embedding is 0.
        gamma_max: gamma at which it is 1.
        dtype: arithmetic type.
    """

    width: int
    mults: tuple[int, ...]
    blocks: int
    dropout: float
    num_classes: int
    gamma_min: float
    gamma_max: float
    dtype: Dtype

    @nn.compact
    def __call__(self, z: Array, gamma: Array, cond: Cond, keys: Array | None = None) -> Array:
        """Features `[B, width * mults[-1]]` of latents `[B,H,W,C]` at `gamma` `[B]`."""
        need_images("the network that guides", z.shape)
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
        h = nn.swish(group_norm(h.shape[-1], self.dtype, "norm_out")(h))
        return h.mean((1, 2)).astype(jax.numpy.result_type(z))
