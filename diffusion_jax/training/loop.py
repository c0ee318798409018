"""The training loop, resumable at any step.

Validation and sampling are functions that the caller passes in.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import Mesh

from diffusion_jax.data.base import Split
from diffusion_jax.errors import NonFiniteError, Preempted, foreign
from diffusion_jax.runtime import memory
from diffusion_jax.runtime.preemption import Notice
from diffusion_jax.runtime.progress import progress
from diffusion_jax.runtime.sharding import greatest, put, replicated
from diffusion_jax.training.checkpoint import Checkpoints
from diffusion_jax.training.compile import compile_steps, fresh_meter
from diffusion_jax.training.feed import Feeder, Order
from diffusion_jax.training.meter import NEVER, Meter
from diffusion_jax.training.metrics import Writer
from diffusion_jax.training.state import State, finite
from diffusion_jax.training.tasks.base import Task

_SMALLER = (
    "lower --config.batch, raise --config.accumulate, or choose a network that is smaller or "
    "recomputes its activations (remat=True)"
)


Meta = Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Timetable:
    """How long to train, and how often to do other things; 0 means never.

    Attributes:
        steps: total number of steps.
        batch: global batch size.
        seed: seed of the data order.
        per_dispatch: steps per dispatch; 1 on CPU.
        log_every: steps between log entries.
        eval_every: steps between validations.
        save_every: steps between checkpoints.
        sample_every: steps between sample grids.
        resident_bytes: training sets up to this size are kept on the device.
        ahead: for larger sets, the number of dispatches whose data are read ahead.
        skip: batches skipped so far; step s trains on batch s + skip of the order.
        spike: a loss above this is treated as NaN.
    """

    steps: int
    batch: int
    seed: int
    per_dispatch: int
    log_every: int
    eval_every: int
    save_every: int
    sample_every: int
    resident_bytes: int
    ahead: int = 2
    skip: int = 0
    spike: float = math.inf

    @property
    def every(self) -> tuple[int, int, int, int]:
        """Steps between log entries, validations, checkpoints, sample grids."""
        return self.log_every, self.eval_every, self.save_every, self.sample_every

    def next_stop(self, step: int) -> int:
        """The first step after `step` at which something other than training happens."""
        return min([self.steps, *((step // n + 1) * n for n in self.every if n)])

    def dispatch(self, step: int) -> int:
        """Steps in the dispatch at `step`: `per_dispatch` if they fit, else 1; 0 at the end."""
        room = self.next_stop(step) - step
        return self.per_dispatch if room >= self.per_dispatch else min(room, 1)

    def owed(self, step: int, validated: bool, drawn: bool) -> tuple[str, ...]:
        """Periodic jobs due at `step` that were interrupted, to be redone when the run resumes."""
        jobs = (("validate", self.eval_every, validated), ("sample", self.sample_every, drawn))
        return tuple(name for name, n, done in jobs if step and self.due(n, step) and not done)

    def due(self, every: int, step: int) -> bool:
        """Whether a job that is done every `every` steps is due after step `step`."""
        return bool(every) and (step % every == 0 or step == self.steps)


def _reading(feed: Feeder) -> dict[str, float]:
    """Input wait and skipped images since the last call: the maximum over hosts."""
    wait, skipped = greatest((feed.clock.share(), feed.skipped))
    return {"input_wait": wait} | ({"skipped_images": skipped} if skipped else {})


def _check_finite(meter: Meter, state: State) -> None:
    """Raises `NonFiniteError` if the loss, a gradient or a weight is not finite.

    Weights may overflow in an update whose loss and gradient were finite. The step at which they
    did is unknown, so the last one is reported.
    """
    what, bad = "loss or gradient", int(jax.device_get(meter.bad_step))
    if bad == NEVER and not finite((state.params, state.ema)):
        what, bad = "a weight", int(jax.device_get(state.step)) - 1
    if bad != NEVER:
        raise NonFiniteError(
            f"{what} became NaN or infinite (or the loss exceeded config.spike) at step {bad}",
            bad,
        )


def _save_now(state: State, meter: Meter, meta: Meta, checkpoints: Checkpoints) -> None:
    """Saves, and waits until the checkpoint is complete."""
    _check_finite(meter, state)
    checkpoints.save(state, meta(), {})
    checkpoints.wait()


def _stop(state: State, meter: Meter, meta: Meta, checkpoints: Checkpoints) -> None:
    """Saves and raises `Preempted`."""
    _save_now(state, meter, meta, checkpoints)
    raise Preempted(
        f"preempted; step {int(jax.device_get(state.step))} is saved: run the same command to "
        "resume"
    )


@contextmanager
def _giving_up(
    notice: Notice, state: State, meter: Meter, meta: Meta, checkpoints: Checkpoints
) -> Iterator[None]:
    """Runs work that is abandoned, after saving the state, if the run is asked to stop."""
    try:
        with notice.interruptible():
            yield
    except Preempted:
        _stop(state, meter, meta, checkpoints)


def run(
    task: Task,
    timetable: Timetable,
    state: State,
    split: Split,
    mesh: Mesh,
    checkpoints: Checkpoints,
    writer: Writer,
    meta: Meta,
    cost: Callable[[], dict[str, float]],
    validate: Callable[[State], dict[str, float]] | None = None,
    sample: Callable[[State, int], None] | None = None,
    notice: Notice | None = None,
    given: Any = (),
    owed: tuple[str, ...] = (),
) -> State:
    """Trains from `state.step` to `timetable.steps`.

    Args:
        task: the task, whose `update` is one step.
        timetable: number of steps, and how often to log, validate, save and sample.
        state: the state to start from, placed on `mesh`.
        split: training data.
        checkpoints: where to save.
        writer: where to log.
        meta: returns the record to save with a checkpoint.
        cost: returns the resources used so far, as metrics.
        validate: `state -> metrics`; the checkpoint with the best `valid_bits_per_dim` is kept.
        sample: `(state, step) -> None`; draws and stores samples.
        notice: says whether the run has been asked to stop; None to run to the end.
        given: weights that the task uses but does not train, placed on `mesh`.
        owed: jobs to do before the first step, from `Timetable.owed`.

    Returns:
        The final state.

    Raises:
        Preempted: the run was asked to stop; the state has been saved.
        NonFiniteError: the loss, a gradient or a weight became NaN or infinite. The error names the
            step, and no checkpoint is written from that step on.
    """
    notice = notice or Notice()
    order = Order(
        timetable.batch, timetable.seed, timetable.skip, timetable.ahead, timetable.dispatch
    )
    feed = Feeder(split, order, mesh, timetable.resident_bytes)
    placement = jax.tree.map(lambda a: a.sharding, state)
    steps = {
        several: compile_steps(task, mesh, feed.resident, several, placement, timetable.spike)
        for several in (False, True)
    }
    whole = replicated(mesh)
    fresh = jax.tree.map(lambda a: put(a, whole), fresh_meter(task))
    meter = jax.tree.map(lambda a: a.copy(), fresh)
    step = int(jax.device_get(state.step))
    bits, behind, checked = "", None, set()

    def look(step: int) -> dict[str, float]:
        with _giving_up(notice, state, meter, meta, checkpoints):
            metrics = validate(state)
        writer.scalars(step, {f"valid/{k}": v for k, v in metrics.items()})
        return metrics

    def draw(step: int) -> None:
        with _giving_up(notice, state, meter, meta, checkpoints):
            sample(state, step)

    try:
        if validate is not None and "validate" in owed:
            checkpoints.measured(step, {f"valid_{k}": v for k, v in look(step).items()})
        if sample is not None and "sample" in owed:
            draw(step)
        with progress("train", timetable.steps, step) as bar:
            while step < timetable.steps:
                feed.clock.start()
                n = timetable.dispatch(step)
                data, index = feed(step, n, behind)
                if (n > 1) not in checked:
                    checked.add(n > 1)
                    with foreign("a training step cannot be traced"):
                        made = steps[n > 1].lower(state, meter, data, index, given)
                    memory.check_program(made, mesh.local_devices[0], "a training step", _SMALLER)
                # An implicit transfer between host and device would stall every step.
                with jax.transfer_guard("disallow"):
                    state, meter, value = steps[n > 1](state, meter, data, index, given)
                step += n
                if behind is not None:
                    jax.block_until_ready(behind)  # at most two dispatches in flight
                behind = value
                feed.clock.stop()
                bar.at(step, bits)
                if notice.reached(step - n + 1, step) and step < timetable.steps:
                    _stop(state, meter, meta, checkpoints)
                log, look_now, save, draw_now = (timetable.due(n, step) for n in timetable.every)
                save |= step == timetable.steps
                if log or look_now or save or draw_now:
                    _check_finite(meter, state)
                if log:
                    sums, count = jax.device_get((meter.sums, meter.count))
                    means = {k: float(v) / int(count) for k, v in sums.items()} | _reading(feed)
                    means |= cost()
                    writer.scalars(step, {f"train/{k}": v for k, v in means.items()})
                    bits = f"{means['loss']:.3f} {task.unit}"
                    meter = jax.tree.map(lambda a: a.copy(), fresh)
                valid = look(step) if validate is not None and look_now else {}
                if save:
                    writer.flush()  # first, so that metrics cover everything up to the checkpoint
                    checkpoints.save(state, meta(), {f"valid_{k}": v for k, v in valid.items()})
                if sample is not None and draw_now:
                    draw(step)
    except OSError:  # logs or samples may fail on a full disk; do not lose the steps with them
        if jax.process_count() == 1:  # with several, the others would not take part in the save
            with contextlib.suppress(Exception):
                _save_now(state, meter, meta, checkpoints)
        raise
    finally:
        feed.close()
    return state
