"""The training loop: linear, resumable at any step, no callbacks registered anywhere.

Periodic work (validation, samples) is two functions handed in by the caller.
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
    """How long to train and what to do when; 0 means never.

    Attributes:
        steps: total number of steps.
        batch: global batch size.
        seed: seed of the data order.
        per_dispatch: steps per dispatch; 1 on CPU.
        log_every: steps between log entries.
        eval_every: steps between validations.
        save_every: steps between checkpoints.
        sample_every: steps between sample grids.
        resident_bytes: training sets up to this size live on the device.
        ahead: dispatches whose data are read ahead, of larger sets.
        skip: batches left out so far: step s trains on batch s + skip of the order.
        spike: a loss above this is as bad as NaN.
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
        """Steps in the dispatch that starts at `step`: `per_dispatch`, or one; 0 at the end."""
        room = self.next_stop(step) - step
        return self.per_dispatch if room >= self.per_dispatch else min(room, 1)

    def owed(self, step: int, validated: bool, drawn: bool) -> tuple[str, ...]:
        """What a run that goes on at `step` should have done there, and was stopped in."""
        jobs = (("validate", self.eval_every, validated), ("sample", self.sample_every, drawn))
        return tuple(name for name, n, done in jobs if step and self.due(n, step) and not done)

    def due(self, every: int, step: int) -> bool:
        """Whether something that happens every `every` steps happens after step `step`."""
        return bool(every) and (step % every == 0 or step == self.steps)


def _reading(feed: Feeder) -> dict[str, float]:
    """How the data came since the last call, on the host where that went worst."""
    wait, skipped = greatest((feed.clock.share(), feed.skipped))
    return {"input_wait": wait} | ({"skipped_images": skipped} if skipped else {})


def _check_finite(meter: Meter, state: State) -> None:
    """Raises `NonFiniteError`; weights may overflow in an update whose loss and gradient did not.

    An update is told apart from the next only by its loss, so that of weights the latest is named.
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
    """Saves, and waits for it."""
    _check_finite(meter, state)
    checkpoints.save(state, meta(), {})
    checkpoints.wait()


def _stop(state: State, meter: Meter, meta: Meta, checkpoints: Checkpoints) -> None:
    """Saves and raises `Preempted`."""
    _save_now(state, meter, meta, checkpoints)
    raise Preempted(
        f"preempted; step {int(jax.device_get(state.step))} is saved, and the same command goes on"
    )


@contextmanager
def _giving_up(
    notice: Notice, state: State, meter: Meter, meta: Meta, checkpoints: Checkpoints
) -> Iterator[None]:
    """Work that is dropped, and the state saved, if the run is asked to stop."""
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
        task: what a step is.
        timetable: how many, and what happens when.
        state: where to start (placed on `mesh`).
        split: training data.
        checkpoints: where to save.
        writer: where to report.
        meta: gives the record saved with a checkpoint.
        cost: gives what the run has used so far.
        validate: `state -> metrics`; the best `valid_bits_per_dim` is kept as a checkpoint.
        sample: `(state, step) -> None`, draws and stores samples.
        notice: whether the run has been asked to stop; None to run to the end.
        given: weights that the task uses and does not train, placed on `mesh`.
        owed: what to do before the first step, from `Timetable.owed`.

    Returns:
        The final state.

    Raises:
        Preempted: the run was asked to stop; the state has been saved.
        NonFiniteError: the loss, a gradient or a weight became NaN or infinite; the step is named
            and no checkpoint from that step on is written.
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
            found = validate(state)
        writer.scalars(step, {f"valid/{k}": v for k, v in found.items()})
        return found

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
                # Nothing may cross between host and device unasked: it would stall every step.
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
                found = look(step) if validate is not None and look_now else {}
                if save:
                    writer.flush()  # what a checkpoint has behind it must not be lost either
                    checkpoints.save(state, meta(), {f"valid_{k}": v for k, v in found.items()})
                if sample is not None and draw_now:
                    draw(step)
    except OSError:  # a log, or samples, on a full disk: the steps may not be lost with them
        if jax.process_count() == 1:  # others would wait for this process, which has failed
            with contextlib.suppress(Exception):
                _save_now(state, meter, meta, checkpoints)
        raise
    finally:
        feed.close()
    return state
