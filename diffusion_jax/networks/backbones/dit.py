"""A diffusion transformer: patches as tokens, conditioned by adaLN-zero (Peebles & Xie 2023).

As in the other networks here, Fourier features are added to the input, and `z` to the output, which
is zero at initialisation.
"""

from typing import cast

import flax.linen as nn
import jax.numpy as jnp

from diffusion_jax.allowed import Count, Embedding, Finite, Levels, Positive, Rate, Whole
from diffusion_jax.networks.layers import block_stack, patches, transformer
from diffusion_jax.networks.layers.blocks import Dtype, compute_dtype
from diffusion_jax.networks.layers.embed import Conditioning, image_inputs
from diffusion_jax.networks.layers.text import read
from diffusion_jax.networks.text_encoders.base import TextEncoder
from diffusion_jax.types import Array, Cond


class DiT(nn.Module):
    """See the module docstring; `make` documents the settings."""

    width: int
    depth: int
    heads: int
    patch: int
    ratio: float
    position: str
    qk_norm: bool
    share: bool
    skip: bool
    dropout: float
    drop_path: float
    fourier: bool
    embed: int
    attention: str
    scan: bool
    remat: bool
    channels: int
    levels: int
    num_classes: int
    augment: int
    low: int
    gamma_min: float
    gamma_max: float
    memory: Whole | None
    devices: Count
    dtype: Dtype
    text: TextEncoder | None = None

    @nn.compact
    def __call__(self, z: Array, gamma: Array, cond: Cond, keys: Array | None = None) -> Array:
        """The prediction at latents `z` `[B,H,W,C]`, `gamma` `[B]`; shape and type of `z`."""
        grid = patches.grid_of("dit", z.shape, self.patch, self.width)
        kept = 1 if keys is None or self.remat else self.depth
        transformer.check_memory(
            "dit", grid[0] * grid[1], self.heads, len(z), kept, self.memory, self.devices
        )
        text, cond = read(self.text, cond, z.shape[0])
        context = None if text is None else (text.tokens, text.bias)
        c = Conditioning(
            self.embed, self.num_classes, self.augment, False, self.gamma_min, self.gamma_max,
            self.dtype, self.low > 0, name="cond",
        )(gamma, cond).astype(z.dtype)  # fmt: skip
        h = patches.patchify(image_inputs(z, cond, self.levels, self.fourier, self.low), self.patch)
        first = nn.Dense(self.width, kernel_init=transformer.XAVIER, dtype=self.dtype, name="in")
        h, angles = patches.place(self, first(h).astype(z.dtype), self.position, grid, self.heads)

        block = transformer.AdaptiveBlock(
            self.heads, self.ratio, self.dropout, self.qk_norm, self.attention, self.share,
            self.dtype, parent=None,
        )  # fmt: skip
        modulation = c
        if self.share:
            modulation = nn.Dense(
                6 * self.width, kernel_init=transformer.ZEROS, name="modulation"
            )(c)  # fmt: skip
        text_inputs = () if context is None else (0.0, None, context)
        params = block_stack.block_params(
            self, "blocks", block, self.depth, h, modulation, angles, *text_inputs
        )
        rates = jnp.linspace(0.0, self.drop_path, self.depth, dtype=z.dtype)
        h, _ = block_stack.run(
            lambda p, h, k: cast(
                Array, block.apply({"params": p[0]}, h, modulation, angles, p[1], k, context)
            ),
            (params, rates), h, keys, None, self.scan, self.remat,
        )  # fmt: skip

        zeros = transformer.ZEROS
        last = nn.Dense(2 * self.width, kernel_init=zeros, name="modulation_out")(c)
        h = transformer.modulate(transformer.normalise(h), *jnp.split(last, 2, -1))
        h = nn.Dense(self.patch**2 * self.channels, kernel_init=zeros, name="out")(h)
        out = patches.unpatchify(h, grid, self.patch)
        return out + z if self.skip and out.shape == z.shape else out


def make(
    width: Count = 384,
    depth: Count = 12,
    heads: Count = 6,
    patch: Count = 2,
    ratio: Positive = 4.0,
    position: str = "sincos",
    qk_norm: bool | str = "auto",
    share: bool = False,
    skip: bool = True,
    dropout: Rate = 0.1,
    drop_path: Rate = 0.0,
    fourier: bool = True,
    embed: Embedding | None = None,
    attention: str = "xla",
    scan: bool | str = "auto",
    remat: bool = False,
    channels: Count = 3,
    levels: Levels = 256,
    num_classes: Whole = 0,
    augment: Whole = 0,
    low: Whole = 0,
    gamma_min: Finite = -13.3,
    gamma_max: Finite = 5.0,
    dtype: str = "float32",
    platform: str = "cpu",
    memory: Whole | None = None,
    devices: Count = 1,
    text: TextEncoder | None = None,
) -> DiT:
    """A diffusion transformer; the defaults are DiT-S/2 (32M parameters).

    Args:
        width: values per token.
        depth: number of blocks.
        heads: number of attention heads.
        patch: side of the square of pixels in one token; 1 or 2 for the best bits/dim.
        ratio: hidden values of the MLPs per value of a token.
        position: `"sincos"` (fixed, DiT's), `"rope"` (axial, in the attention), `"learned"` or
            `"none"`.
        qk_norm: whether to normalise queries and keys; `"auto"`: in bfloat16, for stability.
        share: one modulation layer for all blocks, and an offset for each (adaLN-single); saves up
            to a third of the parameters.
        skip: add `z` to the output. Use it for eps prediction and for pixels; without it and with
            `prediction='v'` the initial model is exactly the prior N(0, I).
        dropout: rate on the attention's output and inside the MLPs.
        drop_path: rate at which training drops a branch of the last block (stochastic depth); it
            falls linearly to 0 at the first.
        fourier: add Fourier features to the input.
        embed: size of the time embedding; a quarter of `width` if None.
        attention: `"xla"`, or `"cudnn"` for a fused kernel for bfloat16 on a GPU.
        scan: run the blocks by `lax.scan` (short compilation); `"auto"`: on TPU. Neither this nor
            `remat` changes parameters or results.
        remat: recompute activations in the backward pass.
        channels: image channels.
        levels: number of grey levels of the data.
        num_classes: number of classes to condition on; 0 for none.
        augment: length of the augmentation vector; 0 for none.
        low: channels of the smaller image it is conditioned on; 0 for none.
        gamma_min: gamma at which the time embedding is 0.
        gamma_max: gamma at which it is 1.
        dtype: `"float32"` or `"bfloat16"` arithmetic of the matrix products.
        platform: platform of the devices it will run on: `"cpu"`, `"gpu"` or `"tpu"`.
        memory: memory of each device in bytes; None if unknown.
        devices: number of devices.
        text: encoder of captions, or None; with it every self-attention is followed by attention to
            the text.

    Returns:
        The Linen module. It raises `ConfigError` for images that `patch` does not cover, and for
        attention that does not fit into memory.

    Raises:
        SpecError: the settings do not fit together.
    """
    size = transformer.check_heads("dit", width, heads, attention, dtype, platform)
    return DiT(
        width, depth, heads, patch, ratio, patches.check_position("dit", position, size, width),
        block_stack.decide("dit: qk_norm", qk_norm, dtype == "bfloat16"), share, skip, dropout,
        drop_path, fourier, embed or max(width // 4, 4), attention,
        block_stack.decide("dit: scan", scan, platform == "tpu"), remat, channels, levels,
        num_classes, augment, low, gamma_min, gamma_max, memory, devices, compute_dtype(dtype),
        text,
    )  # fmt: skip
