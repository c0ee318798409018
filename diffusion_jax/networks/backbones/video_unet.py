"""A U-Net of videos, factorised: `unet` on every frame, attention between frames after each block.

Ho et al. 2022, "Video diffusion models", with attention between frames that tells them apart by
their distance in time and adds nothing at first: weights of a `unet` of images load (`init`), and
give of each frame what they gave of an image.
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
    """A U-Net of videos `[B,T,H,W,C]`.

    Args:
        width: channels at full resolution.
        mults: channel multiplier of each resolution, full resolution first.
        blocks: residual blocks per resolution on the way down (one more on the way up).
        attention: heights at which attention within a frame follows every block (the middle always
            has it); that between frames follows every block.
        heads: attention heads.
        dropout: rate in the residual blocks.
        fourier: add Fourier features to the input.
        remat: recompute activations in the backward pass.
        patch: side of the square of pixels that is one position: with 2 the network sees 28x28
            pixels as 14x14 positions of four, and is four times cheaper at the same width.
        level_features: numbers by which each value is told what its own `z` says of its level
            (`LevelEmbedding`); 0 for none.
        position: what is added to the input that tells places apart, `"sincos"` or `"learned"`.
            Without it, `"none"`, a network knows where it is by the distance to the border at best:
            for texts such as "top left" that is too little.
        smallest_group: fewest channels in a group of the norms. A norm of few leaves little of what
            a class or a text adds to all places alike: try 8.
        channels: of a frame.
        levels: grey levels of the data.
        num_classes: classes to condition on; 0 for none.
        augment: length of the augmentation vector; 0 for none.
        low: channels of a frame that it is given; 0 for none.
        given: frames that it is given, before those it predicts: every layer sees them as frames
            without noise (or with that of `low_gamma`), so that weights of whole videos load.
        gamma_min: gamma at which the time embedding is 0.
        gamma_max: gamma at which it is 1.
        dtype: `"float32"` or `"bfloat16"` arithmetic.
        text: how captions are read, a `TextEncoder`; every attention is then followed by one to
            the text.
        time: False for no attention between frames: what it is worth is the difference.
        shape: of a video, `(T, H, W, C)`; of an image, `(H, W, C)`, it makes a network without
            attention between frames: `unet`.
        stills: the class of examples whose frames are unrelated images (`joint` data): these see
            themselves alone.

    Returns:
        The Linen module. Images that cannot be halved often enough raise `ConfigError` when it is
        initialised.
    """
    return UNet(
        width, tuple(mults), blocks, tuple(attention), heads, dropout, fourier, remat, patch,
        level_features, channels, levels, num_classes, augment, low, gamma_min,
        gamma_max, compute_dtype(dtype), text, check_position("video_unet", position, width),
        smallest_group,
        "video_unet", shape[0] if len(shape) == 4 else 0, time, stills, given,
    )  # fmt: skip
