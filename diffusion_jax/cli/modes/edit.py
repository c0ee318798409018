"""`--mode=edit`: inpainting, outpainting, blending, SDEdit and interpolation of given images."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from diffusion_jax import registry, rng
from diffusion_jax.cli.modes import _edit_inputs
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment, drawing
from diffusion_jax.model import Model, require
from diffusion_jax.process.decoders.base import Decoder
from diffusion_jax.runtime import images, memory
from diffusion_jax.runtime.distributed import say
from diffusion_jax.runtime.progress import progress
from diffusion_jax.runtime.sharding import batched, put, put_key, replicated
from diffusion_jax.runtime.storage import write_arrays, write_json
from diffusion_jax.sampling.edits._latents import latent_mask
from diffusion_jax.sampling.edits.base import Brush, Canvas, Edit, Layout
from diffusion_jax.sampling.method import Method
from diffusion_jax.types import Params

READS = ("edit", "sampling", "sample", "eval")
WRITES = ("edits",)

_SHOWN = 40  # lines of the picture at most


def run(experiment: Experiment) -> None:
    """Edits the images that the configuration names; writes `edits/<step>_<edit>_<input>/`."""
    c = experiment.config
    edit = registry.build("edits", c.edit.method)
    shape, view = experiment.source.shape, experiment.model.view
    if view.halvings or view.given_shape(shape) is not None:
        raise ConfigError(
            f"this run (view {c.view}) models a part of each image and cannot edit whole ones; use "
            "a run with view='whole()'"
        )
    require(
        experiment.model, "editing", "use a model with one gamma per image",
        per_pixel_gamma=False, latent=0,
    )  # fmt: skip
    drawing.check(experiment)
    layout = edit.lay_out(_edit_inputs.read(experiment))
    params, record = experiment.loaded
    method = drawing.build(experiment, params, edit)
    drawn = paint(experiment.model, params, edit, layout, method, c.sample, experiment.mesh)
    folder = _new_folder(
        experiment.workdir / "edits" / f"{record['step']}_{_edit_inputs.name(experiment)}"
    )
    if jax.process_index() == 0:
        _write(experiment, layout, drawn, folder)
        write_arrays(
            folder / "results.npz", image=drawn, source=layout.canvas.image,
            mask=layout.canvas.mask, gammas=method.gammas, **layout.canvas.cond,
        )  # fmt: skip
        asked = c.edit.to_dict() | {"labels": list(c.sample.labels), "seed": c.sample.seed}
        write_json(
            folder / "record.json",
            {"edit": asked, "sampling": drawing.describe(experiment, method), "model": record},
        )
    say(
        f"{c.edit.method}: {len(drawn)} results ({c.sampler}, {method.calls(experiment.model)} "
        f"network calls along the plan, guidance {c.guidance}) written to {folder}"
    )


def paint(
    model: Model,
    params: Params,
    edit: Edit,
    layout: Layout,
    method: Method,
    sample: object,
    mesh: Mesh,
) -> np.ndarray:
    """Runs an edit over all rows of a canvas, in equal batches over all devices.

    `sample` has the `batch` and the `seed`. Returns what `method.final` gives, `[R, H, W, C]`, with
    the source wherever the mask is 0.
    """
    canvas, count = layout.canvas, len(layout.canvas.image)
    latents = model.z_shape(canvas.image.shape[1:])
    shared = None if layout.shared is None else latent_mask(layout.shared, latents)
    if sample.batch < 1:
        raise ConfigError(f"sample.batch={sample.batch} must be at least 1")
    size = -(-min(sample.batch, count) // mesh.devices.size) * mesh.devices.size

    def one(params: Params, helpers: dict, canvas: Canvas, key: jax.Array) -> jax.Array:
        brush = Brush(model, params, method, method.helpers.context(model, helpers), shared)
        x = brush.latents(canvas.image)
        return edit.paint(brush, canvas._replace(image=x, mask=canvas.mask.astype(x.dtype)), key)

    compiled = memory.checked(
        jax.jit(one, out_shardings=replicated(mesh)), mesh.local_devices[0],
        "an edit", "lower --config.sample.batch",
    )  # fmt: skip
    key, out = put_key(rng.stream(jax.random.key(sample.seed), "edit"), mesh), []
    numbered = canvas._replace(
        mask=latent_mask(canvas.mask, latents), row=np.arange(count, dtype=np.int32)
    )
    with progress("edit", count, every=10.0) as bar:
        for start in range(0, count, size):
            rows = np.minimum(np.arange(start, start + size), count - 1)
            part = jax.tree.map(lambda a: put(np.asarray(a)[rows], batched(mesh)), numbered)  # noqa: B023
            drawn = compiled(params, method.helpers.params, part, key)
            out.append(jax.device_get(drawn)[: count - start])
            bar.at(min(start + size, count))
    if not model.traits.pixels and out[0].dtype != np.uint8:
        raise ConfigError("final='identity()' gives latents, which no source fits; use decode()")
    return composite(np.concatenate(out), canvas, model.decoder)


def composite(drawn: np.ndarray, canvas: Canvas, decoder: Decoder) -> np.ndarray:
    """The results, with the source itself wherever nothing was to be painted."""
    source = canvas.image
    if drawn.dtype != source.dtype:  # final="identity()" keeps real numbers
        source = np.asarray(decoder.encode(source))
    return np.where(canvas.mask == 0.0, source, drawn).astype(drawn.dtype)


def _new_folder(folder: Path) -> Path:
    """The folder, or the first of `folder_2`, `folder_3`, ... that is free: nothing is lost."""
    free, n = folder, 1
    while free.exists():
        n += 1
        free = folder.with_name(f"{folder.name}_{n}")
    if jax.process_index() == 0:
        free.mkdir(parents=True)
    return free


def _write(experiment: Experiment, layout: Layout, drawn: np.ndarray, folder: Path) -> None:
    """The results as pictures of their own size, and all of them beside their sources."""
    shown = drawn
    if shown.dtype != np.uint8:
        shown = np.asarray(experiment.model.decoder.decode(jnp.asarray(shown)))
    levels = experiment.source.levels
    for i, image in enumerate(shown):
        images.save_png(folder / f"{i:04d}.png", images.grid(image[None], levels, 1, pixels=1))
    images.save_png(folder / "sheet.png", sheet(layout, shown, levels))


def sheet(layout: Layout, drawn: np.ndarray, levels: int) -> np.ndarray:
    """One line for each source: itself, what of it is kept (or the other end), and its results.

    `drawn` are levels, uint8 `[R, H, W, C]`. Returns a picture, uint8 `[H', W', 3]`, of at most 40
    lines.
    """
    canvas, columns = layout.canvas, layout.columns
    grey = (levels - 1) // 2
    tiles = []
    starts = range(0, min(len(drawn), _SHOWN * columns), columns)
    for start in starts:
        source, mask = canvas.image[start], canvas.mask[start]
        tiles.append(source)
        if not canvas.mask.all():
            tiles.append(np.round(source * (1.0 - mask) + grey * mask))
        elif "image" in canvas.extra:  # the other end of a line of frames
            tiles.append(canvas.extra["image"][start])
        tiles += list(drawn[start : start + columns])
    return images.grid(np.stack(tiles).astype(np.uint8), levels, len(tiles) // len(starts))
