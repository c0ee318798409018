"""U-ViT: a transformer whose early and late blocks are joined by long skips (Bao et al. 2023).

The conditions are tokens among those of the patches. As in the other networks here, Fourier
features are added to the input, and `z` to the output, which is zero at initialisation.
"""

from typing import cast

import flax.linen as nn
import jax.numpy as jnp

from diffusion_jax.allowed import Count, Embedding, Finite, Levels, Positive, Rate, Whole
from diffusion_jax.errors import SpecError
from diffusion_jax.networks.layers import block_stack, patches, transformer
from diffusion_jax.networks.layers.blocks import Dtype, compute_dtype, fold_keys
from diffusion_jax.networks.layers.conv import conv3x3
from diffusion_jax.networks.layers.embed import Conditioning, image_inputs
from diffusion_jax.types import Array, Cond


class UViT(nn.Module):
    """See the module docstring; `make` documents the settings."""

    width: int
    depth: int
    heads: int
    patch: int
    ratio: float
    position: str
    qk_norm: bool
    skip: bool
    conv: bool
    cond_tokens: int
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

    @nn.compact
    def __call__(self, z: Array, gamma: Array, cond: Cond, keys: Array | None = None) -> Array:
        """The prediction at latents `z` `[B,H,W,C]`, `gamma` `[B]`; shape and type of `z`."""
        grid = patches.grid_of("uvit", z.shape, self.patch, self.width)
        extra = self.cond_tokens
        kept = 1 if keys is None or self.remat else self.depth + 1
        transformer.check_memory(
            "uvit", grid[0] * grid[1] + extra, self.heads, len(z), kept, self.memory, self.devices
        )
        c = Conditioning(
            self.embed, self.num_classes, self.augment, False, self.gamma_min, self.gamma_max,
            self.dtype, self.low > 0, name="cond",
        )(gamma, cond).astype(z.dtype)  # fmt: skip
        c = nn.Dense(extra * self.width, name="cond_tokens")(c).reshape(-1, extra, self.width)
        h = patches.patchify(image_inputs(z, cond, self.levels, self.fourier, self.low), self.patch)
        first = nn.Dense(self.width, kernel_init=transformer.XAVIER, dtype=self.dtype, name="in")
        h, angles = patches.place(self, first(h).astype(z.dtype), self.position, grid, self.heads)
        if angles is not None:
            angles = jnp.concatenate([jnp.zeros((extra, *angles.shape[1:])), angles])
        h = jnp.concatenate([c, h], axis=1)

        block = transformer.PlainBlock(
            self.width, self.heads, self.ratio, self.dropout, self.qk_norm, self.attention,
            self.dtype, parent=None,
        )  # fmt: skip
        half = self.depth // 2
        rates = jnp.linspace(0.0, self.drop_path, self.depth + 1, dtype=z.dtype)

        def run(side: str, first: int, n: int, h: Array, skips: list | Array | None) -> tuple:
            x = h if skips is None else jnp.concatenate([h, h], axis=-1)
            params = block_stack.block_params(self, side, block, n, x, angles)
            return block_stack.run(
                lambda p, h, k: cast(Array, block.apply({"params": p[0]}, h, angles, p[1], k)),
                (params, rates[first : first + n]), h, fold_keys(keys, first), skips, self.scan,
                self.remat,
            )  # fmt: skip

        h, skips = run("down", 0, half, h, None)
        h, _ = run("mid", half, 1, h, None)
        h, _ = run("up", half + 1, half, h, skips[::-1])  # last in, first out

        h = nn.LayerNorm(epsilon=1e-5, name="norm_out")(h[:, extra:])
        zeros, identity = nn.initializers.zeros, nn.initializers.delta_orthogonal()
        h = nn.Dense(self.patch**2 * self.channels, kernel_init=zeros, name="out")(h)
        out = patches.unpatchify(h, grid, self.patch)
        if self.conv:
            out = conv3x3(self.channels, kernel_init=identity, name="conv_out")(out)
        return out + z if self.skip and out.shape == z.shape else out


def make(
    width: Count = 512,
    depth: Count = 12,
    heads: Count = 8,
    patch: Count = 2,
    ratio: Positive = 4.0,
    position: str = "learned",
    qk_norm: bool | str = "auto",
    skip: bool = True,
    conv: bool = True,
    cond_tokens: Count = 1,
    dropout: Rate = 0.0,
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
) -> UViT:
    """U-ViT; the defaults are the published U-ViT-S/2 for CIFAR-10 (44M parameters in its blocks).

    Args:
        width: values per token.
        depth: number of blocks besides the middle one; even.
        heads: number of attention heads.
        patch: side of the square of pixels in one token.
        ratio: hidden values of the MLPs per value of a token.
        position: `"learned"` (U-ViT's), `"sincos"`, `"rope"` or `"none"`.
        qk_norm: whether to normalise queries and keys; `"auto"`: in bfloat16, for stability.
        skip: add `z` to the output; use False for latents that are not pixels.
        conv: whether a 3x3 convolution over pixels comes last; use False for latents.
        cond_tokens: number of tokens for time, class and augmentation. On a TPU choose it so that
            the total number of tokens is a multiple of 8.
        dropout: rate on the attention's output and inside the MLPs.
        drop_path: rate at which training drops a branch of the last block (stochastic depth); it
            falls linearly to 0 at the first.
        fourier: add Fourier features to the input.
        embed: size of the time embedding; a quarter of `width` if None.
        attention: `"xla"`, or `"cudnn"` for a fused kernel for bfloat16 on a GPU.
        scan: run identical blocks by `lax.scan` (short compilation); `"auto"`: on TPU. Neither this
            nor `remat` changes parameters or results.
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

    Returns:
        The Linen module. It raises `ConfigError` for images that `patch` does not cover, and for
        attention that does not fit into memory.

    Raises:
        SpecError: the settings do not fit together.
    """
    if depth % 2 or depth < 2:
        raise SpecError(
            f"uvit: depth={depth} cannot be split into two halves joined by long skips (the middle "
            f"block is extra); use depth={max(depth - 1, 2)} or {max(depth + 1, 4)}"
        )
    size = transformer.check_heads("uvit", width, heads, attention, dtype, platform)
    return UViT(
        width, depth, heads, patch, ratio, patches.check_position("uvit", position, size, width),
        block_stack.decide("uvit: qk_norm", qk_norm, dtype == "bfloat16"), skip, conv, cond_tokens,
        dropout, drop_path, fourier, embed or max(width // 4, 4), attention,
        block_stack.decide("uvit: scan", scan, platform == "tpu"), remat, channels, levels,
        num_classes, augment, low, gamma_min, gamma_max, memory, devices, compute_dtype(dtype),
    )  # fmt: skip
