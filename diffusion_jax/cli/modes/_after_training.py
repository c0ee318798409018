"""Evaluation and sampling after training, including whatever an interrupted run left undone."""

import math
import time
from collections.abc import Callable

import jax

from diffusion_jax.cli.modes import (
    _earlier,
    _eval_guide,
    _records,
    eval as eval_mode,
    report as report_mode,
    sample as sample_mode,
)
from diffusion_jax.experiment import Experiment
from diffusion_jax.training.metrics import Writer
from diffusion_jax.training.restore import FOLDER
from diffusion_jax.training.state import ema_key
from diffusion_jax.types import Params

_TOOK = "samples/seconds"
_CHEAP = 30.0  # seconds; the report is animated only if sampling took less


def drawn(experiment: Experiment, step: int) -> bool:
    """Whether there are samples of `step` that were drawn with the settings of the run."""
    paths = _records.numbered(experiment.workdir / "samples" / f"{step}.npz")
    return any(_earlier.drawn_alike(experiment, path) for path in paths)


def timed(writer: Writer, step: int, draw: Callable[[], None]) -> None:
    """Calls `draw`, and logs how long it took."""
    began = time.monotonic()
    draw()
    writer.scalars(step, {_TOOK: time.monotonic() - began})


def finish(experiment: Experiment, params: Params, step: int, writer: Writer) -> None:
    """Writes the final evaluation, samples and report, except those that exist already."""
    eval_mode.chosen(_FINISH, experiment)(experiment, params, step, writer)


def _finish_model(experiment: Experiment, params: Params, step: int, writer: Writer) -> None:
    """Test-set evaluation, samples and report."""
    c = experiment.config
    folder = experiment.workdir / FOLDER / str(step)
    record = {"step": step, "weights": ema_key(c.ema[0]), "checkpoint": str(folder)}
    paths = _records.numbered(eval_mode.report_path(experiment, step))
    report = _earlier.measured_alike(experiment, paths) or eval_mode.evaluate(
        experiment, params, record
    )
    names = ("bits_per_dim", "standard_error")
    _log(writer, step, c.eval.split, {k: report["result"][k] for k in names})
    _draw(experiment, params, step, writer)
    writer.flush()
    cheap = bool(c.sample.num) and writer.found.get(_TOOK, 0.0) < _CHEAP
    report_mode.after_training(
        experiment, lambda: report_mode.illustrate(experiment, params, record, cheap)
    )


def _draw(experiment: Experiment, params: Params, step: int, writer: Writer) -> None:
    if experiment.config.sample.num and not drawn(experiment, step):
        timed(writer, step, lambda: writer.image(
            step, "samples", sample_mode.sample(experiment, params, step)
        ))  # fmt: skip


def _log(writer: Writer, step: int, split: str, metrics: dict[str, float | None]) -> None:
    """Logs the metrics of a report, unless already logged."""
    if jax.process_index():
        return
    values = {f"{split}/{k}": math.nan if v is None else v for k, v in metrics.items()}
    if not values.keys() <= writer.found.keys():
        writer.scalars(step, values)


def _finish_guide(experiment: Experiment, params: Params, step: int, writer: Writer) -> None:
    """Evaluation at every noise level, and the report."""
    c = experiment.config
    paths = _records.numbered(eval_mode.report_path(experiment, step))
    report = _earlier.measured_alike(experiment, paths)
    if report is None:
        folder = experiment.workdir / FOLDER / str(step)
        record = {"step": step, "weights": ema_key(c.ema[0]), "checkpoint": str(folder)}
        report = _eval_guide.evaluate(experiment, params, record)
    _log(writer, step, c.eval.split, report["mean"])
    writer.flush()
    report_mode.after_training(experiment)


def _finish_drawn(experiment: Experiment, params: Params, step: int, writer: Writer) -> None:
    """Samples and report, for tasks without a metric on data."""
    _draw(experiment, params, step, writer)
    writer.flush()
    report_mode.after_training(experiment)


_FINISH = {
    "bits_per_dim": _finish_model,
    "loss_by_gamma": _finish_guide,
    "agreement": _finish_drawn,
    "samples": _finish_drawn,
}
