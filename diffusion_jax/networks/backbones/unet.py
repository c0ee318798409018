"""A multi-resolution U-Net: the DDPM++ family (Ho et al. 2020; Song et al. 2021).

On large images it is much cheaper than VDM's network, and slightly worse in likelihood at equal
size.
"""

from diffusion_jax.allowed import Count, Counts, Finite, Levels, Rate, Whole
from diffusion_jax.networks.layers.blocks import compute_dtype
from diffusion_jax.networks.layers.unet import UNet, check_position
from diffusion_jax.networks.text_encoders.base import TextEncoder


def make(
    width: Count = 128,
    mults: Counts = (1, 2, 2),
    blocks: Count = 2,
    attention: tuple[Count, ...] = (16,),
    heads: Count = 1,
    dropout: Rate = 0.1,
    fourier: bool = True,
    remat: bool = False,
    patch: Count = 1,
    level_features: Whole = 0,
    position: str = "none",
    smallest_group: Count = 2,
    channels: Count = 3,
    levels: Levels = 256,
    num_classes: Whole = 0,
    augment: Whole = 0,
    low: Whole = 0,
    gamma_min: Finite = -13.3,
    gamma_max: Finite = 5.0,
    dtype: str = "float32",
    text: TextEncoder | None = None,
) -> UNet:
    """A multi-resolution U-Net.

    Args:
        width: channels at full resolution.
        mults: channel multiplier of each resolution, full resolution first.
        blocks: residual blocks per resolution on the way down (one more on the way up).
        attention: heights at which attention follows every block (the middle always has it).
        heads: number of attention heads.
        dropout: rate in the residual blocks.
        fourier: add Fourier features to the input.
        remat: recompute activations in the backward pass.
        patch: side of the square of pixels at one position: with 2 the network processes 28x28
            pixels as 14x14 positions of four, at a quarter of the cost at the same width.
        level_features: size of an embedding of each value's posterior over levels given its own `z`
            (`LevelEmbedding`); 0 for none.
        position: position embedding added to the input, `"sincos"` or `"learned"`. With `"none"`
            the network can infer positions only from the distance to the border, which is too
            little for texts such as "top left".
        smallest_group: smallest number of channels in a group of the norms. Small groups normalise
            away the class or text conditioning; try 8.
        channels: image channels.
        levels: number of grey levels of the data.
        num_classes: number of classes to condition on; 0 for none.
        augment: length of the augmentation vector; 0 for none.
        low: channels of the smaller image it is conditioned on; 0 for none.
        gamma_min: gamma at which the time embedding is 0.
        gamma_max: gamma at which it is 1.
        dtype: `"float32"` or `"bfloat16"` arithmetic.
        text: encoder of captions, or None; with it every attention is followed by one to the text.

    Returns:
        The Linen module. It raises `ConfigError` for images that cannot be halved often enough.
    """
    return UNet(
        width, tuple(mults), blocks, tuple(attention), heads, dropout, fourier, remat, patch,
        level_features, channels, levels, num_classes, augment, low, gamma_min,
        gamma_max, compute_dtype(dtype), text, check_position("unet", position, width),
        smallest_group,
    )  # fmt: skip
