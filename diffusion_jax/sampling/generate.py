"""Samples from a model: any number, in equal batches over all devices, compiled once."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from diffusion_jax import rng
from diffusion_jax.data import passes
from diffusion_jax.denoiser import with_condition
from diffusion_jax.errors import ConfigError
from diffusion_jax.model import Model
from diffusion_jax.process import given_latent
from diffusion_jax.process.conditioning_augmentation import noised
from diffusion_jax.process.schedules.base import LATENT, endpoints, inverse
from diffusion_jax.runtime import memory
from diffusion_jax.runtime.progress import progress
from diffusion_jax.runtime.sharding import batched, local, put, put_key, replicated
from diffusion_jax.sampling import loop
from diffusion_jax.sampling.encoder_corrections import for_corrector, for_sampler, lifting
from diffusion_jax.sampling.final_steps.base import Readout
from diffusion_jax.sampling.grids.base import Grid
from diffusion_jax.sampling.guidance.base import Context
from diffusion_jax.sampling.loop import Constrain
from diffusion_jax.sampling.method import Method, check_method
from diffusion_jax.types import Array, Cond, Params, Pred, expand


def plan(model: Model, params: Params, grid: Grid, steps: int) -> np.ndarray:
    """The gammas of a run, `[steps + 1]` float64, between the model's own end points.

    Raises:
        ConfigError: fewer than one step.
    """
    if steps < 1:
        raise ConfigError(f"steps={steps} must be at least 1")
    schedule = local(params["schedule"])
    gamma_0, gamma_1 = endpoints(model.schedule, schedule)

    def gamma_of_t(t: np.ndarray) -> np.ndarray:
        return np.asarray(model.schedule.gamma(schedule, jnp.asarray(t)))

    return grid(float(gamma_0), float(gamma_1), steps, gamma_of_t)


def labels_for(model: Model, num: int, wanted: tuple[int, ...]) -> np.ndarray | None:
    """The class of each of `num` samples, cycling through `wanted`, or through all if it is empty.

    Returns:
        int32 `[num]`, or None for an unconditional model.

    Raises:
        ConfigError: a class does not exist, or the model is unconditional and classes are wanted.
    """
    return cycle(model.num_classes, num, wanted)


def cycle(classes: int, num: int, wanted: tuple[int, ...]) -> np.ndarray | None:
    """`labels_for` a given number of classes; 0 for an unconditional model."""
    if not classes:
        if wanted:
            raise ConfigError(
                f"sample.labels={wanted}: this model is unconditional; leave sample.labels out, or "
                "train with --config.conditional=True on data with classes"
            )
        return None
    for label in wanted:
        if not 0 <= label < classes:
            raise ConfigError(
                f"sample.labels: {label} is out of range; there are classes 0 .. {classes - 1}"
            )
    return np.resize(np.asarray(wanted or range(classes), np.int32), num)


def _paths(
    model: Model, params: Params, gammas: np.ndarray, cond: dict, key: Array, n: int
) -> tuple[Array | np.ndarray, dict]:
    """The plan of every pixel and the condition, for a latent drawn from the schedule's prior.

    The scalar plan is interpreted as times on the representative curve. A schedule without a latent
    leaves both unchanged.
    """
    size = model.traits.latent
    if not size:
        return gammas, cond
    latent = rng.normal(key, (n, size))
    times = inverse(model.schedule, params["schedule"], jnp.asarray(gammas, latent.dtype))
    times = times.at[0].set(1.0).at[-1].set(0.0)  # bisection stops short of the ends
    schedule = {**params["schedule"], LATENT: latent}
    path = jax.vmap(lambda t: model.schedule.gamma(schedule, t))(times)
    return path, {**cond, "latent": latent}


def guide(
    model: Model, params: Params, method: Method, context: Context, cond: Cond, key: Array, n: int
) -> tuple[Callable[[Array, Array], Pred], Array | np.ndarray]:
    """The guided denoiser with its condition bound, and the plan.

    Args:
        params: weights of the model.
        method: how to sample.
        context: context of the guidance.
        key: PRNG key of the run, or one per example.
        n: number of examples.

    Returns:
        `(z, gamma) -> Pred`, before `encoder_corrections.for_sampler`; and the gammas,
        `[steps + 1]`, or `[steps + 1, n, ...]` (one plan per pixel) if the schedule has a latent.
    """
    path, cond = _paths(model, params, method.gammas, cond, rng.stream(key, "latent"), n)
    guided = method.guidance(model.denoiser(params), context)
    return with_condition(guided, cond), path


def draw(
    model: Model,
    params: Params,
    method: Method,
    context: Context,
    z: Array,
    cond: Cond,
    key: Array,
    constrain: Constrain | None = None,
) -> Array:
    """Runs the plan from the latent `z` at its start; a pure function, to be jitted by the caller.

    Args:
        context: context of the guidance, see `Helpers.context`.
        z: latent at `method.gammas[0]`, `[B, ...]`.
        key: PRNG key for the sampler's noise, or one per example.
        constrain: `(z, gamma, key) -> z` after every step, or None.

    Returns:
        The output of `method.final`.
    """
    guided, path = guide(model, params, method, context, cond, key, z.shape[0])
    c = model.traits.mean_coefficient
    denoise = for_sampler(guided, c, method.sampler)
    key = rng.stream(key, "path")
    lift = lifting(guided, c)
    correct = for_corrector(method.correct, c, method.sampler)
    done = loop.run(denoise, method.sampler, path, z, key, constrain, correct, lift)
    end = expand(jnp.asarray(path[-1], z.dtype), z)
    reader = Readout(model, params, _each(rng.stream(key, "final"), z.shape[0]))
    return method.final(done.denoise, done.end, end, reader)


def _each(key: Array, n: int) -> Array:
    """One key per example."""
    return key if key.ndim else rng.per_example(key, n)


def in_model_space(model: Model, params: Params, cond: Cond, key: Array) -> Cond:
    """The condition with `"low"` (a cascade's small images, or latents) in model space.

    Small images (uint8) are encoded and receive noise at `low_gamma`. If images (uint8) are passed
    instead of latents, one latent is sampled for each.
    """
    if "low" not in cond:
        return cond
    if model.from_latent and cond["low"].dtype == jnp.uint8:
        x = model.decoder.encode(cond["low"])
        return {**cond, "low": given_latent.draw(model, params, x, key)}
    cond = given_latent.condition(model, params, cond)
    return noised(cond, cond["low_gamma"], rng.stream(key, "low")) if "low_gamma" in cond else cond


def compile_sampler(model: Model, method: Method, mesh: Mesh) -> Callable:
    """The jitted `(params, key, cond, shape) -> images` of one batch; `shape` is static.

    In the condition, small images `"low"` are levels (uint8), and latents are `y_0`.

    The result is the output of `method.final`, replicated over the mesh.

    Raises:
        ConfigError: see `method.check_method`.
    """
    check_method(model, method)

    def run(
        params: Params, helpers: dict, key: Array, ids: Array, cond: Cond, shape: tuple[int, ...]
    ) -> Array:
        key = rng.keyed(key, ids)
        z = rng.normal(rng.stream(key, "start"), shape)
        z = jax.lax.with_sharding_constraint(z, batched(mesh))
        context = method.helpers.context(model, helpers)
        return draw(
            model, params, method, context, z, in_model_space(model, params, cond, key), key
        )

    compiled = memory.checked(
        jax.jit(run, static_argnums=5, out_shardings=replicated(mesh)), mesh.local_devices[0],
        "sampling", "lower --config.sample.batch",
    )  # fmt: skip

    def call(
        params: Params, key: Array, cond: Cond, shape: tuple[int, ...], ids: Array | None = None
    ) -> Array:
        ids = jnp.arange(shape[0]) if ids is None else ids
        return compiled(params, method.helpers.params, key, ids, cond, shape)

    return call


def generate(
    params: Params,
    run: Callable,
    shape: tuple[int, ...],
    labels: np.ndarray | None,
    num: int,
    batch: int,
    seed: int,
    mesh: Mesh,
    quiet: bool = False,
    given: dict[str, np.ndarray] | None = None,
    stream: str = "sample",
    label: str = "sample",
) -> np.ndarray:
    """Draws `num` images; each depends only on the seed and its own index.

    Args:
        params: the weights, replicated over `mesh`.
        run: the compiled sampler, from `compile_sampler`.
        shape: shape of one image.
        labels: class of each image, or None.
        num: number of images.
        batch: images per call, rounded up to a multiple of the devices; does not change the images.
        quiet: whether to print no progress.
        given: other conditions, one row per image: `"low"` (levels, uint8) and `"low_gamma"` for a
            later stage of a cascade.
        stream: name of the stream of random numbers.
        label: label of the progress report.

    Returns:
        The outputs of the final step, `[num, *shape]`; uint8 unless that is `identity()`.

    Raises:
        ConfigError: `num` or `batch` is not positive.
    """
    if num < 1 or batch < 1:
        raise ConfigError(f"num={num} and batch={batch} must be at least 1")
    devices = mesh.devices.size
    batch = -(-min(batch, num) // devices) * devices
    key = put_key(rng.stream(jax.random.key(seed), stream), mesh)

    conditions = {**({} if labels is None else {"label": labels}), **(given or {})}

    def results() -> Iterator[Array]:
        for start in range(0, num, batch):
            ids = np.minimum(np.arange(start, start + batch, dtype=np.int32), num - 1)
            cond = {k: put(v[ids], batched(mesh)) for k, v in conditions.items()}
            yield run(params, key, cond, (batch, *shape), put(ids, batched(mesh)))

    out = []
    with progress(label, num, every=10.0, show=not quiet) as bar:
        for images in passes.fetched(results()):
            out.append(images)
            bar.at(min(len(out) * batch, num))
    return np.concatenate(out)[:num]
