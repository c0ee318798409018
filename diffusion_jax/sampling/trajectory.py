"""Latents and predictions along a sampling run, and pictures of them."""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax import rng
from diffusion_jax.model import Model
from diffusion_jax.runtime import image_grids
from diffusion_jax.runtime.storage import write_picture
from diffusion_jax.sampling import loop
from diffusion_jax.sampling.encoder_corrections import for_corrector, for_sampler, lifting
from diffusion_jax.sampling.final_steps.base import Readout
from diffusion_jax.sampling.generate import guide
from diffusion_jax.sampling.method import Method
from diffusion_jax.types import Array, Cond, Params, expand

_MILLISECONDS = 90  # per frame
_HOLD = 1600  # milliseconds for the last frame
_BAR = 4  # height of the progress bar, pixels


@dataclass(frozen=True)
class Trajectory:
    """A sampling run at F of its noise levels, from noise to data.

    Attributes:
        gammas: noise levels, `[F]`.
        latents: z, rounded to the decoder's levels, `[F, B, H, W, C]`.
        guesses: x_hat(z), rounded likewise (guidance without momentum); the last are the samples.
        levels: number of grey levels.
    """

    gammas: np.ndarray
    latents: np.ndarray
    guesses: np.ndarray
    levels: int


def record(
    model: Model,
    params: Params,
    method: Method,
    cond: Cond,
    key: Array,
    shape: tuple[int, ...],
    levels: int,
    frames: int,
) -> Trajectory:
    """Draws samples and records up to `frames` (at least 2) of the noise levels on the way.

    For a few images: every process runs it alone, on one device. The noise is that of
    `generate.compile_sampler` with the same key, so the samples are the first of its batch.

    Args:
        method: how to sample; must have passed `method.check_method`.
        shape: shape of the latents, `(B, H, W, C)`.
        levels: number of grey levels of the data.
    """
    steps = len(method.gammas) - 1
    kept = np.unique(np.round(np.linspace(0, steps, frames)).astype(int))

    @jax.jit
    def run(params: Params, helpers: dict, key: Array, cond: Cond) -> tuple[Array, Array]:
        key = rng.per_example(key, shape[0])
        context = method.helpers.context(model, helpers)
        guided, plan = guide(model, params, method, context, cond, key, shape[0])
        c = model.traits.mean_coefficient
        denoise = for_sampler(guided, c, method.sampler)
        z = rng.normal(rng.stream(key, "start"), shape)
        along = rng.stream(key, "path")
        correct = for_corrector(method.correct, c, method.sampler)
        options = {"correct": correct, "lift": lifting(guided, c), "keep": True}
        done = loop.run(denoise, method.sampler, plan, z, along, **options)
        assert done.latents is not None
        zs = done.latents[kept]
        at = jnp.stack([expand(g, z) for g in jnp.asarray(plan, z.dtype)[kept]])
        guesses = jax.lax.map(lambda row: guided(*row).x, (zs, at))
        reader = Readout(model, params, rng.stream(along, "final"))
        shown = [jax.lax.map(reader.decode, a) for a in (zs, guesses)]
        # The final step may return real numbers rather than levels.
        end = method.final(done.denoise, zs[-1], at[-1], reader)
        end = end if end.dtype == jnp.uint8 else reader.decode(end)
        return shown[0].at[-1].set(end), shown[1].at[-1].set(end)

    here = jax.device_get((params, method.helpers.params))
    latents, guesses = jax.device_get(run(*here, key, cond))
    return Trajectory(method.gammas[kept], latents, guesses, levels)


def movie(trajectory: Trajectory) -> list[np.ndarray]:
    """Frames, uint8 `[H', W', 3]`: latents above their predictions, and a progress bar."""
    out, last, levels = [], len(trajectory.gammas) - 1, trajectory.levels
    for i, (z, x) in enumerate(zip(trajectory.latents, trajectory.guesses, strict=True)):
        sheet = image_grids.grid(np.concatenate([z, x]), levels, columns=len(z), pixels=48)
        bar = np.full((_BAR, sheet.shape[1], 3), 64, np.uint8)
        bar[:, : round(sheet.shape[1] * i / last)] = (96, 160, 240)
        out.append(np.concatenate([sheet, bar]))
    return out


def strip(trajectory: Trajectory, columns: int = 8, examples: int = 2) -> np.ndarray:
    """A still of the run, uint8 `[H', W', 3]`: time runs to the right, latents above predictions.

    It shows `columns` noise levels of `examples` samples.
    """
    latents, guesses = trajectory.latents, trajectory.guesses
    at = np.unique(np.round(np.linspace(0, len(trajectory.gammas) - 1, columns)).astype(int))
    count = min(examples, latents.shape[1])
    rows = [a[at, i] for i in range(count) for a in (latents, guesses)]
    return image_grids.grid(np.concatenate(rows), trajectory.levels, columns=len(at))


def save_webp(path: Path, frames: list[np.ndarray]) -> None:
    """Writes a looping animation of uint8 `[H, W, 3]` frames that pauses on the last."""
    from PIL import Image

    first, *rest = [Image.fromarray(f) for f in frames]
    durations = [_MILLISECONDS] * len(rest) + [_HOLD]
    # Enlarged pixels compress well without loss; photographs do not.
    lossless = sum(f.nbytes for f in frames) < 16 * 2**20
    write_picture(
        path, first, format="webp", save_all=True, append_images=rest, duration=durations, loop=0,
        lossless=lossless, quality=80, method=4,
    )  # fmt: skip
