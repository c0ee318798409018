"""Runs edits over all rows of a canvas, by one model or by the stages of a cascade in turn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from diffusion_jax import rng
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment
from diffusion_jax.experiment.sampling import sampling_method
from diffusion_jax.model import Model
from diffusion_jax.networks.autoencoders.base import is_pointwise
from diffusion_jax.process.decoders.base import Decoder
from diffusion_jax.runtime import memory
from diffusion_jax.runtime.progress import progress
from diffusion_jax.runtime.sharding import batched, put, put_key, replicated
from diffusion_jax.sampling import generate
from diffusion_jax.sampling.edits._masks import in_blocks, latent_mask, patches
from diffusion_jax.sampling.edits.base import Brush, Canvas, Edit, Layout
from diffusion_jax.sampling.method import Method
from diffusion_jax.types import Params


@dataclass(frozen=True)
class Painted:
    """Results of an edit.

    Attributes:
        images: output of the final step, `[R, H, W, C]`, with the source wherever the mask is 0.
        methods: sampling method of each stage of a cascade; one for a single run.
    """

    images: np.ndarray
    methods: tuple[Method, ...]


def by_run(
    experiment: Experiment, params: Params, edit: Edit, layouts: Sequence[Layout]
) -> Painted:
    """Runs an edit by the model of a run, or by each stage of a cascade on its part of the images.

    The results of each stage are the input of the next. If a mask touches a block of pixels that
    the cascade reduces to one, the whole block is repainted; at the end the source is restored
    wherever the mask is 0.

    Args:
        layouts: one for each stage, which differ in the condition only.

    Raises:
        ConfigError: the edit cannot be used with the model, or not on parts of images.
    """
    c, stages, layout = experiment.config, experiment.stages, layouts[-1]
    if not stages:
        method = sampling_method.build(experiment, params, edit)
        model, mesh = experiment.model, experiment.mesh
        drawn = paint(model, params, edit, layout, method, c.sample, mesh)
        return Painted(drawn, (method,))
    canvas = layout.canvas
    if canvas.extra or canvas.image.shape[1:] != experiment.source.shape:
        raise ConfigError(
            f"{c.edit.method} joins or widens images, which the stages of a cascade cannot do "
            "separately; use an edit of single images, or a run with view='whole()'"
        )
    in_time = hasattr(stages[-1].model.view, "span")
    grown = canvas.mask if in_time else in_blocks(canvas.mask, 2 ** (len(stages) - 1))
    methods = tuple(sampling_method.build(s, p, edit) for s, p in zip(stages, params, strict=True))
    drawn, given = np.zeros(0), {}
    for i, (stage, p, method) in enumerate(zip(stages, params, methods, strict=True)):
        view = stage.model.view
        part = np.asarray(view(jnp.asarray(canvas.image))[0])
        mask = np.asarray(view(grown)[0]) if in_time else patches(grown, part.shape[1:3])
        cond = layouts[i].canvas.cond | given
        if given and c.sample.low_gamma is not None:
            cond["low_gamma"] = np.full(len(part), c.sample.low_gamma, np.float32)
        own = Layout(
            canvas._replace(image=part, mask=mask, cond=cond), layout.columns,
            None if layout.shared is None else mask[0],
        )  # fmt: skip
        name = f"edit {stage.config.view}" if i else "edit"
        painted = paint(stage.model, p, edit, own, method, c.sample, stage.mesh, name)
        if painted.dtype != np.uint8:
            raise ConfigError(
                f"final={c.final} does not return levels, which a cascade needs: use "
                "final='decode()'"
            )
        drawn = np.asarray(view.join(painted, given))
        given = {"low": drawn}
    return Painted(composite(drawn, canvas, experiment.model.decoder), methods)


def paint(
    model: Model,
    params: Params,
    edit: Edit,
    layout: Layout,
    method: Method,
    sample: Any,
    mesh: Mesh,
    name: str = "edit",
) -> np.ndarray:
    """Runs an edit over all rows of a canvas, in equal batches over all devices.

    Args:
        model: the model.
        params: its weights.
        edit: the edit.
        layout: sources and masks.
        method: the sampling method.
        sample: settings with `batch` and `seed`.
        mesh: the devices.
        name: name of the random stream, and of the progress report.

    Returns:
        The output of `method.final`, `[R, H, W, C]`, with the source wherever the mask is 0.
    """
    canvas, count = layout.canvas, len(layout.canvas.image)
    latents = model.latent_shape(canvas.image.shape[1:])
    alone = is_pointwise(model.space)
    shared = None if layout.shared is None else latent_mask(layout.shared, latents, alone)
    if sample.batch < 1:
        raise ConfigError(f"sample.batch={sample.batch} must be at least 1")
    size = -(-min(sample.batch, count) // mesh.devices.size) * mesh.devices.size

    def one(params: Params, helpers: dict, canvas: Canvas, key: jax.Array) -> jax.Array:
        brush = Brush(model, params, method, method.helpers.context(model, helpers), shared)
        x = brush.latents(canvas.image)
        given = generate.in_model_space(model, params, canvas.cond, canvas.keys(key))
        canvas = canvas._replace(cond=given)
        return edit.paint(brush, canvas._replace(image=x, mask=canvas.mask.astype(x.dtype)), key)

    compiled = memory.checked(
        jax.jit(one, out_shardings=replicated(mesh)), mesh.local_devices[0],
        "an edit", "lower --config.sample.batch",
    )  # fmt: skip
    key, out = put_key(rng.stream(jax.random.key(sample.seed), name), mesh), []
    numbered = canvas._replace(
        mask=latent_mask(canvas.mask, latents, alone), row=np.arange(count, dtype=np.int32)
    )
    with progress(name, count, every=10.0) as bar:
        for start in range(0, count, size):
            rows = np.minimum(np.arange(start, start + size), count - 1)
            part = jax.tree.map(lambda a: put(np.asarray(a)[rows], batched(mesh)), numbered)  # noqa: B023
            drawn = compiled(params, method.helpers.params, part, key)
            out.append(jax.device_get(drawn)[: count - start])
            bar.at(min(start + size, count))
    if not model.traits.pixels and out[0].dtype != np.uint8:
        raise ConfigError(
            "final='identity()' returns latents, which cannot be joined with the source; use "
            "decode()"
        )
    return composite(np.concatenate(out), canvas, model.decoder)


def composite(drawn: np.ndarray, canvas: Canvas, decoder: Decoder) -> np.ndarray:
    """The results, with the source wherever the mask is 0."""
    source = canvas.image
    if drawn.dtype != source.dtype:  # final="identity()" keeps real numbers
        source = np.asarray(decoder.encode(source))
    return np.where(canvas.mask == 0.0, source, drawn).astype(drawn.dtype)
