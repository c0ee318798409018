"""`--mode=edit`: inpainting, outpainting, blending, SDEdit and interpolation of given images."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax import registry
from diffusion_jax.cli.modes import _edit_inputs
from diffusion_jax.data.media.base import Medium
from diffusion_jax.data.media.image import IMAGE
from diffusion_jax.data.views.base import stages_of
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment
from diffusion_jax.experiment.sampling import (
    compiled_sampler,
    edit_scores,
    editing,
    run_sampler,
    sampling_method,
)
from diffusion_jax.model import require
from diffusion_jax.runtime import image_grids
from diffusion_jax.runtime.distributed import say
from diffusion_jax.runtime.storage import write_arrays, write_json
from diffusion_jax.sampling.edits.base import Layout

READS = ("edit", "sampling", "sample", "eval", "stages")
WRITES = ("edits",)

_SHOWN = 40  # maximum number of rows of the contact sheet


def run(experiment: Experiment) -> None:
    """Edits the images named in the configuration; writes `edits/<step>_<edit>_<input>/`."""
    c = experiment.config
    edit = registry.build("edits", c.edit.method)
    parts = experiment.stages or (experiment,)
    view = experiment.model.view
    if experiment.stages and experiment.model.from_latent:
        raise ConfigError(
            "editing takes a run of latents on its own, or a cascade: the model of images given "
            f"latents ({parts[-1].workdir}) would redraw them; use --workdir={parts[0].workdir}"
        )
    given = experiment.model.given_shape(experiment.source.shape)
    if not experiment.stages and (view.halvings or given is not None):
        raise ConfigError(
            f"this run (view {c.view}) models a part of each {experiment.source.medium.name} and "
            f"cannot edit whole ones; give all stages, --config.stages={stages_of(view)}, or use a "
            "run with view='whole()'"
        )
    for part in parts:
        require(
            part.model, "editing", "use a model with one gamma per image",
            per_pixel_gamma=False, latent=0,
        )  # fmt: skip
    run_sampler.check(experiment)
    if experiment.stages:
        sampling_method.check_levels(experiment, "a cascade puts together")
    if not experiment.model.traits.pixels:
        sampling_method.check_levels(experiment, "the source of an edited latent needs")
    every = _edit_inputs.read(experiment, edit)
    inputs = every[-1]
    edit_scores.check(experiment, edit, inputs)
    layouts = [edit.lay_out(one) for one in every]
    layout = layouts[-1]
    params, record = experiment.loaded
    with jax.default_matmul_precision(c.eval.matmul_precision or None):
        painted = editing.by_run(experiment, params, edit, layouts)
        drawn, method = painted.images, painted.methods[-1]
        shown = _levels(experiment, drawn)
        found = edit_scores.scores(experiment, edit, inputs, layout, shown)
    calls = sum(m.calls(s.model) for m, s in zip(painted.methods, parts, strict=True))
    folder = _new_folder(
        experiment.workdir / "edits" / f"{record['step']}_{_edit_inputs.name(experiment)}"
    )
    if jax.process_index() == 0:
        _write(experiment, layout, shown, folder)
        write_arrays(
            folder / "results.npz", image=drawn, source=layout.canvas.image,
            mask=layout.canvas.mask, gammas=method.gammas, **layout.canvas.cond,
        )  # fmt: skip
        how = compiled_sampler.describe(experiment, method) | {"network_calls": calls}
        settings = c.edit.to_dict() | {"labels": list(c.sample.labels), "seed": c.sample.seed}
        write_json(
            folder / "record.json",
            {
                "edit": settings,
                "sampling": how,
                "matmul_precision": c.eval.matmul_precision or "device default",
                "model": record,
                **({"judged": found} if found else {}),
            },
        )
    say(
        f"{c.edit.method}: {len(drawn)} results ({c.sampler}, {calls} network calls "
        f"along the plan, guidance {c.guidance}) written to {folder}"
    )
    for line in edit_scores.lines(found):
        say(f"  {line}")


def _new_folder(folder: Path) -> Path:
    """The folder, or the first of `folder_2`, `folder_3`, ... that does not exist yet."""
    free, n = folder, 1
    while free.exists() or not _made(free):
        n += 1
        free = folder.with_name(f"{folder.name}_{n}")
    return free


def _made(folder: Path) -> bool:
    """Makes the folder; returns False if another process was faster."""
    if jax.process_index() == 0:
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            return False
    return True


def _levels(experiment: Experiment, drawn: np.ndarray) -> np.ndarray:
    """Results as grey levels; `final="identity()"` keeps real numbers."""
    if drawn.dtype == np.uint8:
        return drawn
    return np.asarray(experiment.model.decoder.decode(jnp.asarray(drawn)))


def _write(experiment: Experiment, layout: Layout, shown: np.ndarray, folder: Path) -> None:
    """Writes each result as an image, and a contact sheet with the sources."""
    levels, medium = experiment.source.levels, experiment.source.medium
    for i in range(len(shown)):
        still = image_grids.grid(medium.stills(shown[i : i + 1], levels), levels, 1, pixels=1)
        image_grids.save_png(folder / f"{i:04d}.png", still)
        kind = experiment.config.sample.format
        medium.keep(folder / f"{i:04d}", shown[i : i + 1], levels, kind)
    image_grids.save_png(folder / "sheet.png", sheet(layout, shown, levels, medium))


def sheet(layout: Layout, drawn: np.ndarray, levels: int, medium: Medium = IMAGE) -> np.ndarray:
    """A row for each source: itself, the part that is kept (or the other end), and the results.

    Args:
        layout: sources and masks.
        drawn: results as levels, uint8 `[R, H, W, C]`.
        levels: number of levels.
        medium: medium of the data.

    Returns:
        A picture, uint8 `[H', W', 3]`, of at most 40 rows.
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
        elif "image" in canvas.extra:  # the other end of an interpolation
            tiles.append(canvas.extra["image"][start])
        tiles += list(drawn[start : start + columns])
    shown = medium.stills(np.stack(tiles).astype(np.uint8), levels)
    return image_grids.grid(shown, levels, len(tiles) // len(starts))
