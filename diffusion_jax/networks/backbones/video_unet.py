"""A factorised U-Net for videos: `unet` on every frame, attention between frames after each block.

Ho et al. 2022, "Video diffusion models". The attention between frames depends on their distance in
time and is zero at initialisation: the weights of a `unet` for images can be loaded (`init`), and
then give the same prediction for each frame as for an image.
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
    given: Whole = 0,
    gamma_min: Finite = -13.3,
    gamma_max: Finite = 5.0,
    dtype: str = "float32",
    text: TextEncoder | None = None,
    time: bool = True,
    shape: tuple[Count, ...] = (),
    stills: Whole | None = None,
) -> UNet:
    """A U-Net for videos `[B,T,H,W,C]`.

    Args:
        width: channels at full resolution.
        mults: channel multiplier of each resolution, full resolution first.
        blocks: residual blocks per resolution on the way down (one more on the way up).
        attention: heights at which attention within a frame follows every block (the middle always
            has it); attention between frames follows every block.
        heads: number of attention heads.
        dropout: rate in the residual blocks.
        fourier: add Fourier features to the input.
        remat: recompute activations in the backward pass.
        patch: see `unet`.
        level_features: see `unet`.
        position: see `unet`.
        smallest_group: see `unet`.
        channels: channels of a frame.
        levels: number of grey levels of the data.
        num_classes: number of classes to condition on; 0 for none.
        augment: length of the augmentation vector; 0 for none.
        low: channels of a frame that it is conditioned on; 0 for none.
        given: number of frames that it is conditioned on, before those it predicts. Every layer
            treats them as frames without noise (or with noise at `low_gamma`), so that the weights
            of a model of whole videos can be loaded.
        gamma_min: gamma at which the time embedding is 0.
        gamma_max: gamma at which it is 1.
        dtype: `"float32"` or `"bfloat16"` arithmetic.
        text: encoder of captions, or None; with it every attention is followed by one to the text.
        time: whether frames attend to each other; False for comparisons.
        shape: shape of a video, `(T, H, W, C)`; the shape `(H, W, C)` of an image makes a network
            without attention between frames, a `unet`.
        stills: class of examples whose frames are unrelated images (`joint` data) and do not attend
            to each other.

    Returns:
        The Linen module. It raises `ConfigError` for images that cannot be halved often enough.
    """
    return UNet(
        width, tuple(mults), blocks, tuple(attention), heads, dropout, fourier, remat, patch,
        level_features, channels, levels, num_classes, augment, low, gamma_min,
        gamma_max, compute_dtype(dtype), text, check_position("video_unet", position, width),
        smallest_group,
        "video_unet", shape[0] if len(shape) == 4 else 0, time, stills, given,
    )  # fmt: skip
