"""Our real programs, traced for devices that are not here."""

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any


def make_job(config: Any, on: list) -> Any:
    """The job of `main`, on devices that are not here.

    An autoencoder's settings are those of its checkpoint; a line says so where that is not here.

    Raises:
        ConfigError: it trains no diffusion model.
    """
    from diffusion_jax import registry, saved_config
    from diffusion_jax.errors import ConfigError
    from diffusion_jax.experiment import Experiment, latents
    from diffusion_jax.runtime.sharding import make_mesh
    from diffusion_jax.runtime.storage import place

    if registry.parse(config.task).name != "diffusion":
        raise ConfigError(
            f"task={config.task}: only training steps of diffusion() are compiled here; those of "
            "guides, students and GANs are smaller than their networks' diffusion"
        )

    class Elsewhere(Experiment):
        """A job whose mesh is not made of this machine's devices."""

        @functools.cached_property
        def mesh(self) -> Any:
            """The mesh over the devices given."""
            return make_mesh(on, self.config.mesh)

    job = Elsewhere(config, Path("unused").absolute())
    spec = registry.parse(config.autoencoder)
    name = spec.kwargs.get("checkpoint")
    if name and not spec.kwargs.get("sha256"):
        if saved_config.find(place(name)) is None:
            print(
                f"note: {name} is not here: taken for {spec} as it stands, with the defaults of "
                "what it leaves out; to compile the real one, write all of its settings"
            )
        else:
            config.autoencoder = str(latents.with_settings(job, spec))
    return job


def _abstract(tree: Any, shardings: Any) -> Any:
    """Shapes with shardings (one for all, or a tree of them), in place of arrays."""
    import jax

    if isinstance(shardings, jax.sharding.Sharding):
        shardings = jax.tree.map(lambda _: shardings, tree)
    return jax.tree.map(
        lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), tree, shardings
    )


def lower_train(experiment: Any, images: int, steps: int) -> tuple[Any, str]:
    """Traces the training step of `modes.train` for the job's devices.

    Args:
        experiment: the job.
        images: size of the training set; it lies on the devices if it fits `resident_mib`.
        steps: steps in one dispatch.

    Returns:
        The traced program, and what one call of it does.
    """
    import jax
    import jax.numpy as jnp

    from diffusion_jax.runtime.sharding import batched, check_batch, placed, replicated
    from diffusion_jax.training import state as state_lib
    from diffusion_jax.training.compile import compile_steps, fresh_meter
    from diffusion_jax.training.tasks.diffusion import make_recipe

    c, mesh = experiment.config, experiment.mesh
    check_batch(c.batch, mesh, c.accumulate)
    # The recipe asks which backend is here; the program is for another.
    recipe = dataclasses.replace(make_recipe(experiment), unroll=False)
    whole, shape = replicated(mesh), experiment.source.shape

    def initial() -> Any:
        params = experiment.model.init(jax.random.key(c.seed), shape)
        return state_lib.init(
            params, recipe.optimizer, tuple(c.ema), recipe.proposal.init(), recipe.frozen
        )

    shapes = jax.eval_shape(initial)
    place = placed(mesh, shapes)
    state = _abstract(shapes, place)
    meter = _abstract(jax.eval_shape(lambda: fresh_meter(recipe)), whole)
    resident = images * math.prod(shape) <= c.resident_mib * 2**20
    several = steps > 1
    lead = (steps,) if several else ()
    image = shape
    if resident:
        rows, index, sharding = (images,), (*lead, c.batch), whole
        image = (math.prod(shape),)
    else:
        rows, index = (*lead, c.batch), lead or (1,)
        spec = batched(mesh).spec
        spec = jax.sharding.PartitionSpec(None, *spec) if several else spec
        sharding = jax.sharding.NamedSharding(mesh, spec)
    data = {"image": jax.ShapeDtypeStruct((*rows, *image), jnp.uint8, sharding=sharding),
            "label": jax.ShapeDtypeStruct(rows, jnp.int32, sharding=sharding)}  # fmt: skip
    indices = jax.ShapeDtypeStruct(index, jnp.int32, sharding=whole)
    run = compile_steps(recipe, mesh, shape if resident else None, several, place)
    where = "data on the chips" if resident else "data streamed"
    return run.trace(state, meter, data, indices), f"{steps} x {c.batch} images, {where}"


def lower_sample(experiment: Any) -> tuple[Any, str]:
    """Traces the sampler of `modes.sample` for the job's devices.

    Args:
        experiment: the job.

    Returns:
        The traced program, and what one call of it does.
    """
    import jax

    from diffusion_jax.experiment.sampling import sampling_method
    from diffusion_jax.runtime.sharding import replicated
    from diffusion_jax.sampling import generate

    c, mesh = experiment.config, experiment.mesh
    # The plan depends on the schedule's weights, which are few: these exist, the others do not.
    schedule = {"schedule": experiment.model.schedule.init(jax.random.key(c.seed))}
    method = sampling_method.build(experiment, schedule)
    run = jax.jit(generate.compile_sampler(experiment.model, method, mesh), static_argnums=3)
    size = mesh.devices.size
    batch = -(-min(c.sample.batch, c.sample.num or c.sample.batch) // size) * size
    cond = _told(experiment, batch)
    params = _abstract(experiment.shapes(), replicated(mesh))
    key = _abstract(jax.eval_shape(lambda: jax.random.key(0)), replicated(mesh))
    traced = run.trace(
        params, key, cond, (batch, *experiment.model.z_shape(experiment.source.shape))
    )
    return traced, f"{batch} images, {c.sample.steps} steps of {c.sampler}"


def _told(experiment: Any, batch: int) -> dict[str, Any]:
    """Shapes of all that a sampler is told beside the noise: classes, texts, smaller images."""
    import jax
    import jax.numpy as jnp

    from diffusion_jax.experiment import texts
    from diffusion_jax.runtime.sharding import batched

    model, c = experiment.model, experiment.config.sample
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {}
    if model.num_classes:
        shapes["label"] = ((batch,), jnp.int32)
    given = model.given_shape(experiment.source.shape)
    if given is not None:  # levels, or latents as another model draws them
        shapes["low"] = ((batch, *given), jnp.float32 if model.from_latent else jnp.uint8)
        if c.low_gamma is not None:
            shapes["low_gamma"] = ((batch,), jnp.float32)
    if model.embedding:
        shapes["embedding"] = ((batch, model.embedding), jnp.float32)
    for name, array in texts.conditions(experiment, [""]).items():
        shapes[name] = ((batch, *array.shape[1:]), array.dtype)
    rows = batched(experiment.mesh)
    return {k: jax.ShapeDtypeStruct(s, t, sharding=rows) for k, (s, t) in shapes.items()}
