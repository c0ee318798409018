"""Samples from a model: any number, in equal batches over all devices, compiled once."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from diffusion_jax import rng
from diffusion_jax.errors import ConfigError
from diffusion_jax.grids.base import Grid
from diffusion_jax.guidance.base import Context, Guidance
from diffusion_jax.model import Model
from diffusion_jax.progress import progress
from diffusion_jax.samplers.base import Sampler
from diffusion_jax.sampling import for_sampler, integrate
from diffusion_jax.schedules.base import LATENT, endpoints, inverse, latent_size
from diffusion_jax.sharding import batched, put, replicated
from diffusion_jax.types import Array, Cond, Params, Pred, alpha


def plan(model: Model, params: Params, grid: Grid, steps: int) -> np.ndarray:
    """The gammas of a run, `[steps + 1]` float64, between the model's own end points.

    Args:
        model: the model.
        params: its weights.
        grid: the grid.
        steps: number of steps.

    Returns:
        The plan.

    Raises:
        ConfigError: fewer than one step.
    """
    if steps < 1:
        raise ConfigError(f"sample.steps={steps} must be at least 1")
    gamma_0, gamma_1 = jax.device_get(endpoints(model.schedule, params["schedule"]))

    def gamma_of_t(t: np.ndarray) -> np.ndarray:
        return np.asarray(model.schedule.gamma(params["schedule"], jnp.asarray(t)))

    return grid(float(gamma_0), float(gamma_1), steps, gamma_of_t)


def labels_for(model: Model, num: int, wanted: tuple[int, ...]) -> np.ndarray | None:
    """The class of each sample: `wanted` in turn, or every class in turn.

    Args:
        model: the model.
        num: number of samples.
        wanted: classes to cycle through; empty for all.

    Returns:
        int32 `[num]`, or None for an unconditional model.

    Raises:
        ConfigError: a class that does not exist, or classes asked of an unconditional model.
    """
    if not model.num_classes:
        if wanted:
            raise ConfigError(f"sample.labels={wanted}: this model is unconditional")
        return None
    for label in wanted:
        if not 0 <= label < model.num_classes:
            raise ConfigError(
                f"sample.labels: {label} is out of range; there are classes 0 .. "
                f"{model.num_classes - 1}"
            )
    cycle = np.asarray(wanted or range(model.num_classes), np.int32)
    return np.resize(cycle, num)


def _context(model: Model) -> Context:
    return Context(null=model.null if model.num_classes else None)


def check_guidance(model: Model, guidance: Guidance) -> None:
    """Refuses guidance that does not fit the model, before anything is compiled.

    Args:
        model: the model.
        guidance: the guidance; it raises `ConfigError` if it does not fit.
    """

    def never_called(z: Array, gamma: Array, cond: Cond) -> Pred:
        raise AssertionError("a guidance must not call its denoiser while it is built")

    guidance(never_called, _context(model))


def _paths(
    model: Model, params: Params, gammas: np.ndarray, cond: dict, key: Array, n: int
) -> tuple[Array, dict]:
    """The plan of every pixel, and the condition, for a latent drawn from the schedule's prior.

    The scalar plan is read as times of the representative curve. Without a latent it is the plan.
    """
    size = latent_size(model.schedule)
    if not size:
        return gammas, cond
    latent = jax.random.normal(key, (n, size))
    times = inverse(model.schedule, params["schedule"], jnp.asarray(gammas, latent.dtype))
    times = times.at[0].set(1.0).at[-1].set(0.0)  # bisection stops short of the ends
    given = {**params["schedule"], LATENT: latent}
    path = jax.vmap(lambda t: model.schedule.gamma(given, t))(times)
    return path, {**cond, "latent": latent}


def check_sampler(model: Model, sampler: Sampler) -> None:
    """Refuses a sampler that does not fit the model's encoder, before anything is compiled.

    Args:
        model: the model.
        sampler: the sampler; `sampling.for_sampler` raises `ConfigError` if it does not fit.
    """
    for_sampler(None, model.encoder.mean_coefficient, sampler)


def compile_sampler(
    model: Model, guidance: Guidance, sampler: Sampler, gammas: np.ndarray, mesh: Mesh
) -> Callable:
    """The jitted `(params, noise_key, cond, shape) -> images` of one batch.

    Args:
        model: the model.
        guidance: how to guide it.
        sampler: the sampler.
        gammas: the plan.
        mesh: the device mesh.

    Returns:
        The function; `shape` is static and the result is what the decoder's `decode` gives.

    Raises:
        ConfigError: the plan moves up, which has no meaning for a model with an encoder: the noise
            to add would depend on the image.
    """
    context = _context(model)
    if model.encoder.mean_coefficient and np.any(np.diff(gammas) > 0):
        raise ConfigError("plans that move up in gamma need a model without an encoder")

    def run(params: Params, key: Array, cond: dict, shape: tuple[int, ...]) -> Array:
        path, cond = _paths(model, params, gammas, cond, rng.stream(key, "latent"), shape[0])
        guided = guidance(model.denoiser(params), context)
        denoise = for_sampler(
            lambda z, gamma: guided(z, gamma, cond), model.encoder.mean_coefficient, sampler
        )
        z = jax.random.normal(rng.stream(key, "start"), shape)
        z = jax.lax.with_sharding_constraint(z, batched(mesh))
        z = integrate(denoise, sampler, path, z, rng.stream(key, "path"))
        return model.decoder.decode(z / alpha(jnp.asarray(gammas[-1])))

    return jax.jit(run, static_argnums=3, out_shardings=replicated(mesh))


def generate(
    params: Params,
    run: Callable,
    shape: tuple[int, ...],
    labels: np.ndarray | None,
    num: int,
    batch: int,
    seed: int,
    mesh: Mesh,
) -> np.ndarray:
    """Draws `num` images.

    Args:
        params: the weights, replicated over `mesh`.
        run: from `compile_sampler`.
        shape: shape of one image.
        labels: class of each image, or None.
        num: how many.
        batch: images per call; rounded up to a multiple of the devices.
        seed: seed of the noise.
        mesh: the device mesh.

    Returns:
        uint8 `[num, *shape]`.

    Raises:
        ConfigError: `num` or `batch` is not positive.
    """
    if num < 1 or batch < 1:
        raise ConfigError(f"sample.num={num} and sample.batch={batch} must be at least 1")
    devices = mesh.devices.size
    batch = -(-min(batch, num) // devices) * devices
    root = jax.random.key(seed)
    out = []
    with progress("sample", num, every=10.0) as bar:
        for start in range(0, num, batch):
            cond = {}
            if labels is not None:
                rows = np.minimum(np.arange(start, start + batch), num - 1)
                cond["label"] = put(labels[rows], batched(mesh))
            key = jax.device_put(rng.stream(root, "sample", start), replicated(mesh))
            images = run(params, key, cond, (batch, *shape))
            out.append(jax.device_get(images)[: num - start])
            bar.at(min(start + batch, num))
    return np.concatenate(out)
