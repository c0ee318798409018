"""`--mode=sample`: samples from a checkpoint, as a PNG grid and an npz of the arrays."""

import functools
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffusion_jax.cli.modes import _records
from diffusion_jax.data.base import Source
from diffusion_jax.experiment import Experiment
from diffusion_jax.experiment.sampling import (
    compiled_sampler,
    generators,
    low_images,
    priors,
    run_sampler,
)
from diffusion_jax.runtime import image_grids, terminal, untrusted
from diffusion_jax.runtime.distributed import say
from diffusion_jax.runtime.formatting import json_text
from diffusion_jax.runtime.storage import alone, write_arrays
from diffusion_jax.sampling import generate
from diffusion_jax.training import restore
from diffusion_jax.training.state import ema_key
from diffusion_jax.types import Params

READS = ("sampling", "sample", "eval", "stages")
WRITES = ("samples",)
_WIDE = 96  # width in pixels of an image with a caption
_ROWS = 8  # number of images shown at every level of a cascade


def run(experiment: Experiment) -> None:
    """Samples from the newest (or the given) checkpoint; writes `samples/<step>.png` and `.npz`."""
    check(experiment)
    if not (experiment.stages or generators.generates(experiment)):
        low_images.named(experiment)
        priors.need(experiment)
    params, record = experiment.loaded
    sample(experiment, params, record["step"], record, show=experiment.config.sample.preview)


def check(experiment: Experiment) -> None:
    """Checks the sampling settings, before anything expensive happens."""
    run_sampler.check(experiment)
    if not generators.generates(experiment):
        generate.labels_for(experiment.model, 1, tuple(experiment.config.sample.labels))


def _class_name(source: Source, number: int) -> str:
    if number < len(source.classes):
        return source.classes[number]
    return f"{number}" if number < source.num_classes else "no class"


def sample(
    experiment: Experiment,
    params: Params,
    step: int,
    record: dict[str, Any] | None = None,
    show: bool = False,
    quiet: bool = False,
) -> np.ndarray:
    """Draws samples with given weights and writes them; other samples are not overwritten.

    Args:
        experiment: the run.
        params: the weights.
        step: name of the files.
        record: record of the weights; by default the first average of this run.
        show: whether to show a few samples on the terminal too, if it can.
        quiet: whether to hide the progress bar.

    Returns:
        The picture that was written, uint8 `[H, W, 3]`.
    """
    # During training, a later stage of a cascade or an unCLIP decoder gets its input from the data.
    otherwise = "" if record else f"split:{experiment.config.eval.split}"
    record = record or _trained(experiment, step)
    c, draw = experiment.config.sample, run_sampler.compiled(experiment, params, otherwise)
    levels = draw.all_levels(c.seed, quiet) if isinstance(draw, compiled_sampler.Chain) else ()
    drawn = levels[-1] if levels else draw(c.seed, quiet)
    labels, method = draw.labels, draw.method
    source, captions, classes = experiment.source, [], 0
    pixels = 3 * _WIDE // 2 if draw.captions else 64  # captions need space
    medium = source.medium
    shape = medium.stills(draw.levels(drawn[:1]), source.levels).shape[1:]
    few = draw.levels(drawn[: image_grids.most(shape, pixels=pixels)])
    shown = medium.stills(few, source.levels)
    if labels is not None:
        classes = len(c.labels) or source.num_classes
        captions = [_class_name(source, int(k)) for k in labels[: len(shown)]]
    under = draw.captions[: len(shown)]
    columns = image_grids.columns_for(len(shown), shown.shape[1:], classes)
    picture = image_grids.grid(
        shown, source.levels, columns, _WIDE if under else 64, captions=captions, under=under
    )
    path, kept = experiment.workdir / "samples" / f"{step}.npz", ()
    if jax.process_index() == 0:
        how = draw.describe() | {"seed": c.seed, "images": c.num}
        how |= {k: record[k] for k in ("weights", "checkpoint")}
        precision = experiment.config.eval.matmul_precision or "device default"
        how |= {"matmul_precision": precision}
        extra = {"method": json_text(how)} | ({} if labels is None else {"label": labels})
        extra |= {"caption": np.asarray(draw.captions)} if under else {}
        if source.scale:  # levels represent measured values: add those
            extra |= {"measured": source.measured(draw.levels(drawn))}
        extra |= _records.attribution(experiment)
        with alone(path.parent):
            path = _records.unused(path, functools.partial(_is_of, extra))
            image_grids.save_png(path.with_suffix(".png"), picture)
            kept = medium.keep(path.with_suffix(""), few, source.levels, c.format)
            if levels and drawn.ndim == 4:  # strips of videos show which frames were first
                side = _side_by_side(levels)
                beside = path.with_name(f"{path.stem}_levels.png")
                image_grids.save_png(beside, image_grids.grid(side, source.levels, len(levels)))
            write_arrays(path, image=drawn, gammas=method.gammas, step=step, **extra)
    if show and jax.process_index() == 0:
        terminal.show(shown, source.levels, classes if classes <= 20 else 0)
    how = draw.describe()
    guided = f", guidance {how['guidance']}" if "guidance" in how else ""
    guided += f", given {how['given']}" if "given" in how else ""
    say(
        f"{c.num} samples ({how['sampler']}, {how['network_calls']} network calls{guided}) "
        f"written to {', '.join([str(path.with_suffix('.png')), *(p.name for p in kept)])} "
        f"and {path.name}"
    )
    return picture


def _side_by_side(levels: Sequence[np.ndarray]) -> np.ndarray:
    """The first images at every level of a cascade, all enlarged to the final size."""
    size = levels[-1].shape[1]
    few = [a[:_ROWS].repeat(size // a.shape[1], 1).repeat(size // a.shape[1], 2) for a in levels]
    return np.stack(few, axis=1).reshape(-1, *few[-1].shape[1:])


def _trained(experiment: Experiment, step: int) -> dict[str, Any]:
    """The record of the weights with which a run samples during training."""
    folder = experiment.workdir / restore.FOLDER / str(step)
    return {"weights": ema_key(experiment.config.ema[0]), "checkpoint": str(folder)}


def _is_of(extra: dict[str, Any], path: Path) -> bool:
    """Whether the samples at `path` were drawn as `extra` describes, and may be overwritten."""
    try:
        with path.open("rb") as raw:
            found = untrusted.npz(raw)
            return all(np.array_equal(found.get(k), v) for k, v in extra.items())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return False
