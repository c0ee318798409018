"""`--mode=train`: training (new or resumed), then evaluation on the test set and sampling."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from diffusion_jax import ranges, registry, saved_config
from diffusion_jax.cli.modes import (
    _after_training,
    _discriminator_data,
    _environment,
    _eval_guide,
    _resuming,
    eval as eval_mode,
    quality as quality_mode,
    sample as sample_mode,
)
from diffusion_jax.data.description import as_lines, describe
from diffusion_jax.errors import ConfigError, NonFiniteError, foreign
from diffusion_jax.experiment import Experiment, assembly, fine_tuning, prepare_workdir, teachers
from diffusion_jax.experiment.sampling import sampling_method
from diffusion_jax.experiment.workdir import check_config
from diffusion_jax.runtime import cores, distributed, memory, preemption
from diffusion_jax.runtime.distributed import describe_devices, say
from diffusion_jax.runtime.sharding import check_batch, greatest, placed, put
from diffusion_jax.runtime.storage import write, write_json
from diffusion_jax.training import loop, state as state_lib
from diffusion_jax.training.checkpoint import Checkpoints
from diffusion_jax.training.cleanup import closing
from diffusion_jax.training.metrics import Writer, parameter_table
from diffusion_jax.training.processor_time import Cost
from diffusion_jax.training.restore import FOLDER, read_meta, template
from diffusion_jax.training.state import State, with_arrays
from diffusion_jax.training.tasks.base import Handed, Task

READS = ("training", "sampling", "sample", "eval")
WRITES = ("", "checkpoints", "samples", "eval")

_ROLLBACKS = 3  # maximum number in a row without a new checkpoint between them


def run(experiment: Experiment) -> None:
    """Trains to `config.steps`; repeating the command resumes, or reports that it is finished."""
    c = experiment.config
    if experiment.checkpoint:
        raise ConfigError("--checkpoint is for eval and sample; training resumes from --workdir")
    since = cores.used()
    ranges.check(c)
    if c.on_nan not in ("stop", "rollback"):
        raise ConfigError(f"on_nan={c.on_nan!r}: allowed: stop, rollback")
    state_lib.check_decays(tuple(c.ema))
    logger = registry.build("loggers", c.logger)
    check_config(experiment)  # checked again after the folder has been locked
    check_batch(c.batch, experiment.mesh, c.accumulate)
    # Lower bound on memory per value: uint8 images plus float32 images and noise.
    needed = c.batch * math.prod(experiment.source.shape) * 9 / experiment.mesh.devices.size
    device = experiment.mesh.local_devices[0]
    memory.check(needed, device, f"a batch of {c.batch}", "lower --config.batch")
    eval_mode.check_training(experiment)
    task = experiment.task.open(experiment, HANDED)
    with foreign(f"{task.name} cannot be built"):
        shapes = jax.eval_shape(task.initial)
    given = task.given()
    used = given.record()
    begin = fine_tuning.read(experiment, shapes.params)
    train, valid = task.load()
    data = describe(experiment.source, train)
    distributed.agree({"training set": (train.name, data["images"], data["sketch"])})
    first = jax.process_index() == 0
    more = functools.partial(logger.open, experiment.workdir, saved_config.to_dict(c))
    with (
        prepare_workdir(experiment) as still_alone,
        preemption.listening() as notice,
        closing(Checkpoints(experiment.workdir, c.keep_latest, still_alone)) as checkpoints,
        closing(Writer(experiment.workdir if first else None, still_alone, more)) as writer,
    ):
        begin_or_resume = functools.partial(_start, experiment, task, shapes, checkpoints, begin)
        state, saved = begin_or_resume()
        cost = Cost(saved.get("core_seconds", 0.0), since)
        start = int(jax.device_get(state.step))
        writer.go_on(start)
        loaded = train
        if start >= c.steps:
            say(f"finished: {experiment.workdir} has already trained {start} of {c.steps} steps")
        else:
            _environment.note(experiment.workdir, start)
            _resuming.check_same(experiment, start, data, used)
            if first:
                write_json(experiment.workdir / "data.json", data)
            if task.note:
                say(task.note)
            say(
                f"{'resuming' if start else 'training'} at step {start} of {c.steps} on "
                f"{describe_devices()}: {train.name}, {len(train)} "
                f"{experiment.source.medium.name}s"
            )
            for line in as_lines(data):
                say(line)
            state, train = task.ready(state, loaded)

        def again() -> tuple[State, dict[str, Any]]:
            state, saved = begin_or_resume()
            if int(jax.device_get(state.step)) == 0:  # prepares the same state as before
                state, _ = task.ready(state, loaded)
            return state, saved

        began = time.monotonic()
        run_loop = functools.partial(
            loop.run, task, split=train, mesh=experiment.mesh, checkpoints=checkpoints,
            writer=writer, notice=notice, cost=cost,
            validate=None if valid is None else lambda state: task.validate(state, valid),
            sample=lambda state, step: _after_training.timed(
                writer, step, lambda: task.sample(writer, state, step)
            ),
            given=jax.tree.map(put, given.tree, placed(experiment.mesh, given.tree)),
        )  # fmt: skip
        fixed = {"config": saved_config.to_dict(c), "data": data, "given": used}
        record = lambda skip: fixed | {"skip": skip} | cost()  # noqa: E731
        owed = _owed(experiment, saved, writer)
        state = _train(experiment, again, run_loop, state, saved, checkpoints, writer, record, owed)
        if start < c.steps:
            seconds = time.monotonic() - began
            say(
                f"trained {c.steps - start} steps in {seconds:.0f} s; "
                f"{cost()['core_seconds']:.0f} core-seconds in total"
            )
        if train.skipped:
            what = f"damaged {experiment.source.medium.name}s"
            say(f"{train.skipped} {what} were skipped; each is named above")
        checkpoints.wait()  # lazy imports are not safe beside the threads that save
        still_alone()
        with notice.interruptible():
            task.finish(writer, state)


def _start(
    experiment: Experiment,
    task: Task,
    shapes: State,
    checkpoints: Checkpoints,
    begin: dict[str, np.ndarray],
) -> tuple[State, dict[str, Any]]:
    """The newest state and its record, or an initial state and an empty record."""
    place = placed(experiment.mesh, shapes)
    state = checkpoints.restore(template(shapes, place), set_aside=True)
    if state is not None:
        folder = experiment.workdir / FOLDER / str(int(jax.device_get(state.step)))
        return state, read_meta(folder)
    state = with_arrays(jax.jit(task.initial, out_shardings=place)(), begin)
    _write_table(experiment, task.name, shapes)
    return state, {}


def _owed(experiment: Experiment, saved: dict[str, Any], writer: Writer) -> tuple[str, ...]:
    """Jobs that were due at a checkpoint and interrupted after it was saved."""
    step = saved.get("step", 0)
    logged = any(name.startswith("valid/") for name in writer.found)
    # Only one process has the log.
    validated = bool(saved.get("metrics")) or greatest([logged])[0] > 0
    drawn = step >= experiment.config.steps or _after_training.drawn(experiment, step)
    return make_timetable(experiment).owed(step, validated, drawn)


def _train(
    experiment: Experiment,
    again: Callable[[], tuple[State, dict[str, Any]]],
    run_loop: Callable,
    state: State,
    saved: dict[str, Any],
    checkpoints: Checkpoints,
    writer: Writer,
    record: Callable[[int], dict[str, Any]],
    owed: tuple[str, ...],
) -> State:
    """Runs the loop; `on_nan=rollback` resumes from the last checkpoint after NaN or a spike."""
    c, tries, last, skip = experiment.config, 0, -1, saved.get("skip", 0)
    while True:
        meta = functools.partial(record, skip)
        try:
            timetable = dataclasses.replace(make_timetable(experiment), skip=skip)
            return run_loop(timetable, state, meta=meta, owed=owed)
        except NonFiniteError as e:
            checkpoints.wait()
            tries = tries + 1 if (checkpoints.steps() or [0])[-1] == last else 1
            if c.on_nan != "rollback" or tries > _ROLLBACKS:
                remedy = _resuming.remedy(experiment, checkpoints)
                raise NonFiniteError(f"{e}; {remedy}", e.step) from e
            state, saved = again()
            back = int(jax.device_get(state.step))
            last, left_out, owed = back, e.step - back + 1, ()
            skip += left_out  # an earlier attempt may have skipped some batches already
            writer.go_on(back)
            writer.scalars(back, {"train/rollback": 1, "train/batches_left_out": skip})
            say(
                f"NaN or spike at step {e.step}: resuming from step {back}, skipping "
                f"{left_out} batches"
            )


def make_timetable(experiment: Experiment) -> loop.Timetable:
    """The timetable of training, from the configuration."""
    c = experiment.config
    # XLA on CPU computes gradients of convolutions some twenty times slower inside a loop.
    per_dispatch = c.per_dispatch or (1 if jax.default_backend() == "cpu" else 10)
    return loop.Timetable(
        steps=c.steps,
        batch=c.batch,
        seed=c.seed,
        per_dispatch=per_dispatch,
        log_every=c.log_every,
        eval_every=c.eval_every,
        save_every=c.save_every,
        sample_every=c.sample_every if c.sample.num else 0,
        resident_bytes=c.resident_mib * 2**20,
        ahead=c.data_ahead,
        spike=c.spike or math.inf,
    )


def _write_table(experiment: Experiment, name: str, shapes: State) -> None:
    sizes = {
        k: sum(math.prod(a.shape) for a in jax.tree.leaves(v)) for k, v in shapes.params.items()
    }
    of = ", ".join(f"{k} {n:,}" for k, n in sizes.items() if n)
    if jax.process_index() == 0:
        write(experiment.workdir / "params.txt", f"{parameter_table(shapes.params)}\n".encode())
    say(f"{name}: {sum(sizes.values()):,} parameters: {of} (table in params.txt)")


def _check(experiment: Experiment) -> None:
    """Checks early for what would fail during training, at its end, or in later modes."""
    assembly.check_named(experiment)
    quality_mode.check_settings(experiment)
    if experiment.task.figure in ("bits_per_dim", "agreement"):  # a model that draws samples
        assembly.check_call(experiment)
        sample_mode.check(experiment)
        if not experiment.model.teacher:  # a student's schedule depends on its teacher's training
            sampling_method.check_plan(experiment)
    if experiment.task.figure == "samples":
        sample_mode.check(experiment)


HANDED = Handed(
    check=_check,
    check_against=_discriminator_data.check,
    sample=lambda experiment, params, step, quiet: sample_mode.sample(
        experiment, params, step, quiet=quiet
    ),
    score=_eval_guide.score,
    against=_discriminator_data.source,
    finish=_after_training.finish,
    teacher=teachers.opened,
)
