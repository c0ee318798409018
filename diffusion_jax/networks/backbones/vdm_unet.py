"""VDM's U-Net: identical residual blocks without downsampling (Kingma et al. 2021, appendix B).

`depth` blocks down, three in the middle (residual, attention, residual) and `depth + 1` up, each of
which receives one skip. Fourier features are added to the input, and `z` to the output.
"""

from typing import cast

import flax.linen as nn
import jax.numpy as jnp

from diffusion_jax.allowed import Count, Embedding, Finite, Levels, Rate, Whole
from diffusion_jax.networks.layers import block_stack
from diffusion_jax.networks.layers.blocks import (
    Attention,
    Dtype,
    ResBlock,
    compute_dtype,
    fold_keys,
    group_norm,
)
from diffusion_jax.networks.layers.conv import conv3x3
from diffusion_jax.networks.layers.embed import Conditioning, image_inputs
from diffusion_jax.networks.layers.patches import need_images
from diffusion_jax.types import Array, Cond


class Stage(nn.Module):
    """A residual block, followed by attention if `attention` is set."""

    width: int
    dropout: float
    attention: bool
    smallest_group: int
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Array, c: Array, keys: Array | None = None) -> Array:
        """Applies the stage to `x` `[B,H,W,C]`."""
        same = {"dtype": self.dtype, "smallest_group": self.smallest_group}
        x = ResBlock(self.width, self.dropout, **same, name="block")(x, c, keys)
        return Attention(**same, name="attn")(x) if self.attention else x


class VDMUNet(nn.Module):
    """See the module docstring; `make` documents the settings."""

    width: int
    depth: int
    attention: bool
    dropout: float
    fourier: bool
    embed: int
    scalar: bool
    scan: bool
    remat: bool
    smallest_group: int
    channels: int
    levels: int
    num_classes: int
    augment: int
    low: int
    gamma_min: float
    gamma_max: float
    dtype: Dtype

    skip = True  # class attribute, not a field: z is always added to the output

    @nn.compact
    def __call__(self, z: Array, gamma: Array, cond: Cond, keys: Array | None = None) -> Array:
        """The prediction at latents `z` `[B,H,W,C]`, `gamma` `[B]`; shape and type of `z`."""
        need_images("vdm_unet", z.shape)
        c = Conditioning(
            self.embed, self.num_classes, self.augment, self.scalar, self.gamma_min,
            self.gamma_max, self.dtype, self.low > 0, name="cond",
        )(gamma, cond)  # fmt: skip
        h = image_inputs(z, cond, self.levels, self.fourier, self.low)
        first = h = conv3x3(self.width, dtype=self.dtype, name="conv_in")(h)

        def stage(attention: bool) -> Stage:
            return Stage(
                self.width, self.dropout, attention, self.smallest_group, self.dtype, parent=None
            )

        def run(side: str, n: int, h: Array, salt: int, skips: list | Array | None) -> tuple:
            block = stage(self.attention)
            x = h if skips is None else jnp.concatenate([h, h], axis=-1)
            params = block_stack.block_params(self, side, block, n, x, c)
            return block_stack.run(
                lambda p, h, k: cast(Array, block.apply({"params": p}, h, c, k)),
                params, h, fold_keys(keys, salt), skips, self.scan, self.remat,
            )  # fmt: skip

        h, skips = run("down", self.depth, h, 0, None)
        for i, attention in enumerate((True, False)):
            mid = stage(attention)
            params = block_stack.params_of(self, f"mid_{i}", mid, h, c)
            h = cast(Array, mid.apply({"params": params}, h, c, fold_keys(keys, 2 + i)))
        skips = skips[::-1]  # last in, first out; the input convolution's output comes last
        skips = jnp.concatenate([skips, first[None]]) if self.scan else [*skips, first]
        h, _ = run("up", self.depth + 1, h, 1, skips)

        norm = group_norm(self.width, self.dtype, "norm_out", smallest=self.smallest_group)
        h = nn.swish(norm(h)).astype(z.dtype)
        out = conv3x3(self.channels, kernel_init=nn.initializers.zeros, name="conv_out")(h)
        return out + z if out.shape == z.shape else out


def make(
    width: Count = 128,
    depth: Count = 32,
    attention: bool = False,
    dropout: Rate = 0.1,
    fourier: bool = True,
    embed: Embedding | None = None,
    scalar: bool = False,
    scan: bool | str = "auto",
    remat: bool | str = "auto",
    smallest_group: Count = 2,
    channels: Count = 3,
    levels: Levels = 256,
    num_classes: Whole = 0,
    augment: Whole = 0,
    low: Whole = 0,
    gamma_min: Finite = -13.3,
    gamma_max: Finite = 5.0,
    dtype: str = "float32",
    platform: str = "cpu",
) -> VDMUNet:
    """VDM's network; the defaults are VDM-32 (30.6M parameters).

    Args:
        width: number of channels in all blocks.
        depth: number L of blocks on the way down (L + 1 on the way up).
        attention: whether attention follows every block, not only in the middle.
        dropout: rate in the residual blocks.
        fourier: add Fourier features to the input.
        embed: size of the time embedding; `width` if None.
        scalar: take a raw scalar condition, as published checkpoints do.
        scan: run identical blocks by `lax.scan` (short compilation); `"auto"`: on TPU. Neither this
            nor `remat` changes parameters or results.
        remat: recompute activations in the backward pass (less memory, about a fifth more work);
            `"auto"`: on TPU, whose smallest chips could not train VDM-32 otherwise.
        smallest_group: smallest number of channels in a group of the norms; 1 in published
            checkpoints, which differ from ours at 32 channels.
        channels: image channels.
        levels: number of grey levels of the data.
        num_classes: number of classes to condition on; 0 for none.
        augment: length of the augmentation vector; 0 for none.
        low: channels of the smaller image it is conditioned on; 0 for none.
        gamma_min: gamma at which the time embedding is 0.
        gamma_max: gamma at which it is 1.
        dtype: `"float32"` or `"bfloat16"` arithmetic.
        platform: platform of the devices it will run on: `"cpu"`, `"gpu"` or `"tpu"`.

    Raises:
        SpecError: `scan` or `remat` is not True, False or `"auto"`.
    """
    on_tpu = platform == "tpu"
    scan = block_stack.decide("vdm_unet: scan", scan, on_tpu)
    remat = block_stack.decide("vdm_unet: remat", remat, on_tpu)
    return VDMUNet(
        width, depth, attention, dropout, fourier, embed or width, scalar, scan, remat,
        smallest_group, channels, levels, num_classes, augment, low, gamma_min, gamma_max,
        compute_dtype(dtype),
    )  # fmt: skip
