"""`--mode=train`: train (or resume), then evaluate on the test set and sample."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import jax

from diffusion_jax import registry, saved_config
from diffusion_jax.cli.modes import (
    _environment,
    _scorer,
    eval as eval_mode,
    report as report_mode,
    sample as sample_mode,
)
from diffusion_jax.cli.modes._work import Work
from diffusion_jax.data.base import Split
from diffusion_jax.errors import ConfigError, NonFiniteError, WorkdirError
from diffusion_jax.experiment import Job, prepare_workdir
from diffusion_jax.likelihood import bpd
from diffusion_jax.likelihood.objectives.base import Objective
from diffusion_jax.likelihood.objectives.continuous import Continuous
from diffusion_jax.runtime import distributed, preemption
from diffusion_jax.runtime.distributed import describe_devices, say
from diffusion_jax.runtime.sharding import check_batch, gathered, placed
from diffusion_jax.runtime.storage import write
from diffusion_jax.training import integrity, loop, optimizer, state as state_lib
from diffusion_jax.training.checkpoint import Checkpoints
from diffusion_jax.training.closing import closing
from diffusion_jax.training.metrics import Writer, parameter_table
from diffusion_jax.training.restore import FOLDER, read_meta, template
from diffusion_jax.training.state import State, ema_key
from diffusion_jax.training.tasks.diffusion import Recipe
from diffusion_jax.training.time_sampling.base import Proposal
from diffusion_jax.training.time_sampling.uniform import Uniform
from diffusion_jax.training.variance import learns_shape

_ROLLBACKS = 3  # in a row, without a new checkpoint between them
_CHEAP = 30.0  # seconds that sampling may take for the report to animate it


def run(job: Job) -> None:
    """Trains to `config.steps`; the same command again resumes, or says that it is finished.

    Args:
        job: the job.

    Raises:
        ConfigError: settings that cannot work; nothing has been written then.
    """
    c = job.config
    if job.checkpoint:
        raise ConfigError("--checkpoint is for eval and sample; training resumes from --workdir")
    if c.steps < 1:
        raise ConfigError(f"steps={c.steps} must be at least 1")
    if c.on_nan not in ("stop", "rollback"):
        raise ConfigError(f"on_nan={c.on_nan!r}: allowed are stop, rollback")
    if c.data_ahead < 1 or c.data_workers < 0:
        raise ConfigError(
            f"data_ahead={c.data_ahead} must be at least 1, data_workers={c.data_workers} at least "
            "0 (one per processor)"
        )
    state_lib.check_decays(tuple(c.ema))
    check_batch(c.batch, job.mesh, c.accumulate)
    eval_mode.check_training(job)
    work = _scorer.work(job) if c.scorer else _diffusion(job)
    shapes = jax.eval_shape(lambda: _initial(job, work))
    train, valid = work.load()
    distributed.agree({"training set": (train.name, len(train))})
    prepare_workdir(job)
    first = jax.process_index() == 0
    with (
        integrity.only_writer(job.workdir) if first else nullcontext(lambda: None) as still_alone,
        preemption.listening() as notice,
        closing(Checkpoints(job.workdir, c.keep_latest, still_alone)) as checkpoints,
        closing(Writer(job.workdir if first else None, still_alone)) as writer,
    ):
        state, skip = _start(job, work, shapes, checkpoints)
        start = int(jax.device_get(state.step))
        if start < c.steps:
            _environment.note(job.workdir, start)
        if start >= c.steps:
            say(f"finished: {job.workdir} has already trained {start} of {c.steps} steps")
        else:
            _check_same_set(job, start, train)
            if work.how:
                say(work.how)
            say(
                f"{'resuming' if start else 'training'} at step {start} of {c.steps} on "
                f"{describe_devices()}: {train.name}, {len(train)} images"
            )
        began = time.monotonic()
        run_loop = functools.partial(
            loop.run, work.task, split=train, mesh=job.mesh, checkpoints=checkpoints,
            writer=writer, notice=notice,
            validate=None if valid is None else lambda state: work.validate(state, valid),
            sample=None if work.sample is None else functools.partial(work.sample, writer),
        )  # fmt: skip
        record = {"config": saved_config.to_dict(c), "images": len(train)}
        state = _train(job, work, run_loop, state, skip, checkpoints, writer, record)
        if start < c.steps:
            say(f"trained {c.steps - start} steps in {time.monotonic() - began:.0f} s")
        if train.skipped:
            say(f"{train.skipped} damaged images were skipped; each is named above")
        checkpoints.wait()  # lazy imports and the threads that save do not mix
        still_alone()
        with notice.interruptible():
            work.finish(state, writer)


def _start(job: Job, work: Work, shapes: State, checkpoints: Checkpoints) -> tuple[State, int]:
    """The newest state, or a new one; and how many batches have been left out so far."""
    place = placed(job.mesh, shapes)
    state = checkpoints.restore(template(shapes, place), set_aside=True)
    if state is not None:
        folder = job.workdir / FOLDER / str(int(jax.device_get(state.step)))
        return state, read_meta(folder).get("skip", 0)
    state = jax.jit(lambda: _initial(job, work), out_shardings=place)()
    _write_table(job, work.name, shapes)
    return state, 0


def _check_same_set(job: Job, step: int, train: Split) -> None:
    """Refuses to go on with a training set that has grown or shrunk: its order is another."""
    if step:
        before = read_meta(job.workdir / FOLDER / str(step)).get("images", len(train))
        if before != len(train):
            raise WorkdirError(
                f"{job.workdir} was trained on {before} images, {train.name} has {len(train)} now; "
                "put the data back as they were, or use a new --workdir"
            )


def _train(
    job: Job,
    work: Work,
    run_loop: Callable,
    state: State,
    skip: int,
    checkpoints: Checkpoints,
    writer: Writer,
    record: dict[str, Any],
) -> State:
    """The loop; on NaN or a spike again from the last checkpoint, if the configuration says so."""
    c, tries, shapes = job.config, 0, jax.eval_shape(lambda: _initial(job, work))
    last = -1
    while True:
        meta = record | {"skip": skip}
        try:
            return run_loop(dataclasses.replace(make_plan(job), skip=skip), state, meta=meta)
        except NonFiniteError as e:
            checkpoints.wait()
            tries = tries + 1 if (checkpoints.steps() or [0])[-1] == last else 1
            if c.on_nan != "rollback" or tries > _ROLLBACKS:
                raise
            state, skip = _start(job, work, shapes, checkpoints)
            back = int(jax.device_get(state.step))
            last, left_out = back, e.step - back + 1
            skip += left_out
            writer.scalars(e.step, {"train/rollback": 1, "train/batches_left_out": skip})
            say(f"step {e.step} went wrong: back to step {back}, without its {left_out} batches")


def _diffusion(job: Job) -> Work:
    """A diffusion model as work."""
    c = job.config
    if not 0.0 <= c.class_dropout < 1.0:
        raise ConfigError(f"class_dropout={c.class_dropout} must be in [0, 1)")
    sample_mode.check(job)
    recipe = make_recipe(job)
    average = ema_key(c.ema[0])

    def load() -> tuple[Split, Split | None]:
        job.source.split(c.eval.split)  # measured at the end: now is the time to miss it
        return job.source.split("train"), job.source.split("valid") if c.eval_every else None

    def validate(state: State, valid: Split) -> dict[str, float]:
        records = bpd.measure(
            job.model, recipe.objective, gathered(job.mesh, state.ema[average]), valid, job.mesh,
            draws=c.valid_draws, batch=c.eval.batch, quiet=True,
        )  # fmt: skip
        found = bpd.summary(records)
        return {k: found[k] for k in ("bits_per_dim", "standard_error")}

    def draw(writer: Writer, state: State, step: int) -> None:
        params = gathered(job.mesh, state.ema[average])
        writer.image(step, "samples", sample_mode.sample(job, params, step, quiet=True))

    return Work(
        name=c.network,
        how=_how(job.model.network),
        task=recipe,
        init=lambda: job.model.init(jax.random.key(c.seed), job.source.shape),
        load=load,
        validate=validate,
        sample=draw,
        finish=lambda state, writer: _finish(job, state, writer),
        proposal=recipe.proposal.init(),
    )


def _how(network: Any) -> str:
    """How a network of equal blocks is run, if not plainly: `"auto"` has decided by the devices."""
    ways = {"scan": "blocks run by one scan", "remat": "activations are recomputed backwards"}
    return ", ".join(text for name, text in ways.items() if getattr(network, name, False))


def make_recipe(job: Job) -> Recipe:
    """The training step's recipe from the configuration."""
    c = job.config
    rate = optimizer.learning_rate(c.lr, c.warmup, c.lr_decay, c.steps)
    objective = registry.build("objectives", c.objective)
    proposal = registry.build("proposals", c.proposal)
    return Recipe(
        model=job.model,
        objective=objective,
        optimizer=optimizer.make(c.optimizer, rate, c.clip, c.decay_mask),
        augment=job.augment,
        class_dropout=c.class_dropout,
        ema=tuple((ema_key(d), d) for d in c.ema),
        ema_warmup=c.ema_warmup,
        accumulate=c.accumulate,
        seed=c.seed,
        unroll=jax.default_backend() == "cpu",
        proposal=proposal,
        minimize_variance=_minimize_variance(job, objective, proposal),
    )


def _minimize_variance(job: Job, objective: Objective, proposal: Proposal) -> bool:
    """Whether the schedule's shape is trained on the variance; refused where that is senseless."""
    c, reason = job.config, ""
    if not learns_shape(job.shapes()):
        reason = f"schedule {c.schedule} has no shape to train; use learned_mlp()"
    elif not isinstance(objective, Continuous):
        reason = (
            f"the bound of objective {c.objective} depends on the schedule's shape, so that less "
            "variance may mean a worse bound; use continuous()"
        )
    elif not isinstance(proposal, Uniform):
        reason = f"with proposal {c.proposal} the variance does not depend on the schedule's shape"
    if c.minimize_variance == "on" and reason:
        raise ConfigError(f"minimize_variance='on': {reason}")
    if c.minimize_variance not in ("auto", "on", "off"):
        raise ConfigError(f"minimize_variance={c.minimize_variance!r}: allowed are auto, on, off")
    return c.minimize_variance != "off" and not reason


def make_plan(job: Job) -> loop.Plan:
    """The loop's plan from the configuration."""
    c = job.config
    # XLA:CPU runs gradients of convolutions some twenty times slower inside a loop.
    per_dispatch = c.per_dispatch or (1 if jax.default_backend() == "cpu" else 10)
    return loop.Plan(
        steps=c.steps,
        batch=c.batch,
        seed=c.seed,
        per_dispatch=per_dispatch,
        log_every=c.log_every,
        eval_every=c.eval_every,
        save_every=c.save_every,
        sample_every=c.sample_every,
        resident_bytes=c.resident_mib * 2**20,
        ahead=c.data_ahead,
        spike=c.spike or math.inf,
    )


def _initial(job: Job, work: Work) -> State:
    return state_lib.init(work.init(), work.task.optimizer, tuple(job.config.ema), work.proposal)


def _write_table(job: Job, name: str, shapes: State) -> None:
    total = sum(math.prod(a.shape) for a in jax.tree.leaves(shapes.params))
    if jax.process_index() == 0:
        write(job.workdir / "params.txt", f"{parameter_table(shapes.params)}\n".encode())
    say(f"{name}: {total:,} parameters (table in params.txt)")


def _finish(job: Job, state: State, writer: Writer) -> None:
    """Test-set evaluation, samples and report, unless an earlier run of the command left them."""
    c, step = job.config, int(jax.device_get(state.step))
    average = ema_key(c.ema[0])
    params = gathered(job.mesh, state.ema[average])
    record = {"step": step, "weights": average,
              "checkpoint": str(job.workdir / "checkpoints" / str(step))}  # fmt: skip
    if not eval_mode.report_path(job, step).exists():
        found = eval_mode.evaluate(job, params, record)["result"]
        names = ("bits_per_dim", "standard_error")
        writer.scalars(step, {f"{c.eval.split}/{k}": found[k] for k in names})
    began = time.monotonic()
    drawn = c.sample.num and not (job.workdir / "samples" / f"{step}.png").exists()
    if drawn:
        writer.image(step, "samples", sample_mode.sample(job, params, step))
    writer.flush()
    cheap = drawn and time.monotonic() - began < _CHEAP
    report_mode.after_training(job, lambda: report_mode.illustrate(job, params, record, cheap))
