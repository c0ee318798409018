"""`--mode=sample`: images from a checkpoint, as a PNG grid and an npz of the arrays."""

import jax
import numpy as np

from diffusion_jax.data.base import Source
from diffusion_jax.experiment import Experiment, drawing
from diffusion_jax.runtime import images, terminal
from diffusion_jax.runtime.distributed import say
from diffusion_jax.runtime.storage import write_arrays
from diffusion_jax.runtime.wording import json_text
from diffusion_jax.sampling import generate
from diffusion_jax.types import Params

READS = ("sampling", "sample", "eval")


def run(experiment: Experiment) -> None:
    """Samples from the newest (or the named) checkpoint; writes `samples/<step>.png` and `.npz`."""
    check(experiment)
    params, record = experiment.loaded
    sample(experiment, params, record["step"], show=experiment.config.sample.preview)


def check(experiment: Experiment) -> None:
    """Refuses sampling settings that cannot work, before anything expensive happens."""
    drawing.check(experiment)
    generate.labels_for(experiment.model, 1, tuple(experiment.config.sample.labels))


def _class_name(source: Source, number: int) -> str:
    if number < len(source.classes):
        return source.classes[number]
    return f"{number}" if number < source.num_classes else "no class"


def sample(
    experiment: Experiment, params: Params, step: int, show: bool = False, quiet: bool = False
) -> np.ndarray:
    """Draws samples with given weights and writes them.

    Args:
        step: names the files.
        show: a few of them on the terminal too, if it can.
        quiet: no progress report.

    Returns:
        The picture that was written, uint8 `[H, W, 3]`.
    """
    c, draw = experiment.config.sample, drawing.compiled(experiment, params)
    drawn, labels, method = draw(c.seed, quiet), draw.labels, draw.method
    source, captions, classes = experiment.source, [], 0
    shown = draw.levels(drawn[: images.most(source.shape)])
    if labels is not None:
        classes = len(c.labels) or experiment.model.num_classes
        captions = [_class_name(source, int(k)) for k in labels[: len(shown)]]
    columns = images.columns_for(len(shown), source.shape, classes)
    picture = images.grid(shown, source.levels, columns, captions=captions)
    path = experiment.workdir / "samples" / f"{step}.png"
    if jax.process_index() == 0:
        images.save_png(path, picture)
        extra = {} if labels is None else {"label": labels}
        extra["method"] = json_text(drawing.describe(experiment, method) | {"seed": c.seed})
        write_arrays(
            path.with_suffix(".npz"), image=drawn, gammas=method.gammas, step=step, **extra
        )
    if show and jax.process_index() == 0:
        terminal.show(shown, source.levels, classes if classes <= 20 else 0)
    say(
        f"{c.num} samples ({experiment.config.sampler}, {method.calls(experiment.model)} "
        f"network calls, guidance {experiment.config.guidance}) written to {path} and "
        f"{path.with_suffix('.npz').name}"
    )
    return picture
