"""`--mode=sample`: images from a checkpoint, as a PNG grid and an npz of the arrays."""

import json

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.cli.modes import _method
from diffusion_jax.experiment import Job
from diffusion_jax.runtime import images, terminal
from diffusion_jax.runtime.distributed import say
from diffusion_jax.runtime.storage import write_arrays
from diffusion_jax.sampling import generate
from diffusion_jax.types import Params

_SHOWN = 400  # images in a grid at most


def run(job: Job) -> None:
    """Samples from the newest (or the named) checkpoint; writes `samples/<step>.png` and `.npz`.

    Args:
        job: the job.
    """
    params, record = job.weights(job.config.eval.weights)
    sample(job, params, record["step"], show=job.config.sample.preview)


def check(job: Job) -> None:
    """Refuses sampling settings that cannot work, before anything expensive happens.

    Args:
        job: the job.
    """
    _method.check(job)
    generate.labels_for(job.model, 1, tuple(job.config.sample.labels))


def sample(
    job: Job, params: Params, step: int, show: bool = False, quiet: bool = False
) -> np.ndarray:
    """Draws samples with given weights and writes them.

    Args:
        job: the job.
        params: the weights.
        step: names the files.
        show: a few of them on the terminal too, if it can.
        quiet: no progress report.

    Returns:
        The picture that was written, uint8 `[H, W, 3]`.
    """
    c = job.config.sample
    method = _method.build(job, params)
    run_batch = generate.compile_sampler(job.model, method, job.mesh)
    labels = generate.labels_for(job.model, c.num, tuple(c.labels))
    drawn = generate.generate(
        params, run_batch, job.source.shape, labels, c.num, c.batch, c.seed, job.mesh, quiet
    )
    columns = 0
    if labels is not None:
        classes = len(c.labels) or job.model.num_classes
        columns = classes if classes <= 20 else 0
    shown = drawn[:_SHOWN]
    if shown.dtype != np.uint8:  # final="identity()" keeps real numbers
        shown = np.asarray(job.model.decoder.decode(jnp.asarray(shown)))
    picture = images.grid(shown, job.source.levels, columns)
    path = job.workdir / "samples" / f"{step}.png"
    if jax.process_index() == 0:
        images.save_png(path, picture)
        extra = {} if labels is None else {"label": labels}
        extra["method"] = json.dumps(_method.describe(job, method) | {"seed": c.seed})
        write_arrays(
            path.with_suffix(".npz"), image=drawn, gammas=method.gammas, step=step, **extra
        )
    if show and jax.process_index() == 0:
        terminal.show(shown, job.source.levels, columns)
    say(
        f"{c.num} samples ({job.config.sampler}, {method.calls(job.model)} network calls, guidance "
        f"{job.config.guidance}) written to {path} and {path.with_suffix('.npz').name}"
    )
    return picture
