"""Images as rows of tokens, and position embeddings."""

import math

import flax.linen as nn
import jax.numpy as jnp

from diffusion_jax.errors import ConfigError, SpecError
from diffusion_jax.types import Array

POSITIONS = ("sincos", "rope", "learned", "none")


def fold(x: Array, patch: int) -> Array:
    """Space to depth: `[B,H,W,C]` to `[B, H/patch, W/patch, patch^2 C]`."""
    b, height, width, channels = x.shape
    rows, columns = height // patch, width // patch
    x = x.reshape(b, rows, patch, columns, patch, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, rows, columns, patch * patch * channels)


def unfold(x: Array, patch: int) -> Array:
    """The inverse of `fold`."""
    b, rows, columns, _ = x.shape
    x = x.reshape(b, rows, columns, patch, patch, -1)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, rows * patch, columns * patch, -1)


def patchify(x: Array, patch: int) -> Array:
    """`[B,H,W,C]` to `[B, H/patch * W/patch, patch^2 C]`, row by row."""
    x = fold(x, patch)
    return x.reshape(len(x), -1, x.shape[-1])


def unpatchify(tokens: Array, grid: tuple[int, int], patch: int) -> Array:
    """The inverse of `patchify`, for `grid = (H/patch, W/patch)`."""
    return unfold(tokens.reshape(len(tokens), *grid, -1), patch)


def grid_of(
    who: str, shape: tuple[int, ...], patch: int, width: int | float = math.inf
) -> tuple[int, int]:
    """Rows and columns of patches in images `[B,H,W,C]`.

    Args:
        who: name of the network, for the message.
        shape: shape of the images.
        patch: side of a patch.
        width: largest number of values in a patch.

    Raises:
        ConfigError: the shape is not that of images, patches do not cover them, or a patch has
            more values than a token.
    """
    need_images(who, shape)
    _, height, across, channels = shape
    sizes = math.gcd(height, across)
    if sizes % patch:
        divide = (p for p in range(1, sizes + 1) if sizes % p == 0)
        fit = [str(p) for p in divide if p == 1 or (2 * p <= sizes and p * p * channels <= width)]
        raise ConfigError(
            f"{who}: {height}x{across} images are not covered by patches of {patch}x{patch}; "
            f"use patch={' or '.join(fit)}"
        )
    if patch * patch * channels > width:
        raise ConfigError(
            f"{who}: a patch of {patch}x{patch} pixels has {patch * patch * channels} values, more "
            f"than width={width}; use a smaller patch or a larger width"
        )
    return height // patch, across // patch


def need_images(who: str, shape: tuple[int, ...]) -> None:
    """Raises ConfigError unless latents of this shape are images `[B,H,W,C]`.

    Args:
        who: name of the network, for the message.
        shape: shape of the latents.
    """
    if len(shape) != 4:
        raise ConfigError(
            f"{who} takes images [B,H,W,C], not {list(shape)}; for videos use video_unet(), or "
            "stacked_frames(of=...) around a network for images"
        )


def check_position(who: str, position: str, size: int, width: int) -> str:
    """Returns `position` after checking it.

    Args:
        who: name of the network, for the message.
        position: one of `POSITIONS`.
        size: values per head.
        width: values per token.

    Raises:
        SpecError: the position is unknown, or does not fit these sizes.
    """
    if position not in POSITIONS:
        raise SpecError(f"{who}: position={position!r}; allowed: {', '.join(POSITIONS)}")
    if position == "rope" and size % 4:
        raise SpecError(
            f"{who}: position='rope' rotates two pairs of values at a time: the size of a head "
            f"(width / heads = {size}) must be divisible by 4"
        )
    if position == "sincos" and width % 4:
        raise SpecError(f"{who}: position='sincos' needs a width divisible by 4, not {width}")
    return position


def sincos(grid: tuple[int, int], width: int) -> Array:
    """DiT's fixed position embedding, `[rows * columns, width]`.

    Half of the values encode the column, half the row, each at `width / 4` frequencies with base
    10,000.
    """
    rows, columns = jnp.meshgrid(jnp.arange(grid[0]), jnp.arange(grid[1]), indexing="ij")
    omega = 10000.0 ** -(jnp.arange(width // 4) / (width // 4))
    angles = [a.reshape(-1, 1) * omega for a in (columns, rows)]
    return jnp.concatenate([f(a) for a in angles for f in (jnp.sin, jnp.cos)], axis=-1)


def rope_angles(grid: tuple[int, int], heads: int, size: int) -> Array:
    """Angles of an axial rotary embedding, `[rows * columns, heads, size / 2]`.

    Half of a head's pairs rotate with the row, half with the column. Coordinates lie in [-1, 1]
    along the longer side; frequencies are spaced evenly in their logarithm from pi to 10 pi, and no
    two heads share one (as in k-diffusion).
    """
    n = heads * size // 4
    steps = jnp.arange(n).reshape(size // 4, heads).T / n
    frequencies = math.pi * 10.0**steps  # [heads, size / 4]
    longer = max(grid)
    ends = ((2 * jnp.arange(n) + 1 - n) / longer for n in grid)
    places = jnp.meshgrid(*ends, indexing="ij")
    return jnp.concatenate([p.reshape(-1, 1, 1) * frequencies for p in places], axis=-1)


def rotate(x: Array, angles: Array) -> Array:
    """Rotates pairs of values of `x` `[B, N, heads, size]` by `angles` `[N, heads, size / 2]`.

    Value i is paired with value i + size / 2. The result is at least float32.
    """
    a, b = jnp.split(x.astype(jnp.promote_types(x.dtype, jnp.float32)), 2, axis=-1)
    cos, sin = jnp.cos(angles).astype(a.dtype), jnp.sin(angles).astype(a.dtype)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def place(
    owner: nn.Module, tokens: Array, position: str, grid: tuple[int, int], heads: int
) -> tuple[Array, Array | None]:
    """Adds position information to tokens `[B, N, width]`.

    Args:
        owner: the network, which holds the learned embedding.
        tokens: tokens of the image.
        position: one of `POSITIONS`.
        grid: rows and columns of tokens.
        heads: number of attention heads.

    Returns:
        The tokens with their position embedding, and the angles by which attention rotates queries
        and keys (None except for `"rope"`).
    """
    width = tokens.shape[-1]
    if position == "rope":
        return tokens, rope_angles(grid, heads, width // heads)
    if position == "sincos":
        return tokens + sincos(grid, width).astype(tokens.dtype), None
    if position == "learned":
        table = owner.param("position", nn.initializers.normal(0.02), tokens.shape[1:])
        return tokens + table.astype(tokens.dtype), None
    return tokens, None
