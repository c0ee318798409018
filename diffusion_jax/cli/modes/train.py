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
from diffusion_jax.experiment import Experiment, prepare_workdir
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

READS = ("training", "sampling", "sample", "eval")

_ROLLBACKS = 3  # in a row, without a new checkpoint between them
_CHEAP = 30.0  # seconds that sampling may take for the report to animate it


def run(experiment: Experiment) -> None:
    """Trains to `config.steps`; the same command again resumes, or says that it is finished.

    Raises:
        ConfigError: settings that cannot work; nothing has been written then.
    """
    c = experiment.config
    if experiment.checkpoint:
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
    check_batch(c.batch, experiment.mesh, c.accumulate)
    eval_mode.check_training(experiment)
    work = _scorer.work(experiment) if c.scorer else _diffusion(experiment)
    shapes = jax.eval_shape(lambda: _initial(experiment, work))
    train, valid = work.load()
    distributed.agree({"training set": (train.name, len(train))})
    prepare_workdir(experiment)
    first = jax.process_index() == 0
    with (
        integrity.only_writer(experiment.workdir)
        if first
        else nullcontext(lambda: None) as still_alone,
        preemption.listening() as notice,
        closing(Checkpoints(experiment.workdir, c.keep_latest, still_alone)) as checkpoints,
        closing(Writer(experiment.workdir if first else None, still_alone)) as writer,
    ):
        state, skip = _start(experiment, work, shapes, checkpoints)
        start = int(jax.device_get(state.step))
        if start < c.steps:
            _environment.note(experiment.workdir, start)
        if start >= c.steps:
            say(f"finished: {experiment.workdir} has already trained {start} of {c.steps} steps")
        else:
            _check_same_set(experiment, start, train)
            if work.how:
                say(work.how)
            say(
                f"{'resuming' if start else 'training'} at step {start} of {c.steps} on "
                f"{describe_devices()}: {train.name}, {len(train)} images"
            )
        began = time.monotonic()
        run_loop = functools.partial(
            loop.run, work.task, split=train, mesh=experiment.mesh, checkpoints=checkpoints,
            writer=writer, notice=notice,
            validate=None if valid is None else lambda state: work.validate(state, valid),
            sample=None if work.sample is None else functools.partial(work.sample, writer),
        )  # fmt: skip
        record = {"config": saved_config.to_dict(c), "images": len(train)}
        state = _train(experiment, work, run_loop, state, skip, checkpoints, writer, record)
        if start < c.steps:
            say(f"trained {c.steps - start} steps in {time.monotonic() - began:.0f} s")
        if train.skipped:
            say(f"{train.skipped} damaged images were skipped; each is named above")
        checkpoints.wait()  # lazy imports and the threads that save do not mix
        still_alone()
        with notice.interruptible():
            work.finish(state, writer)


def _start(
    experiment: Experiment, work: Work, shapes: State, checkpoints: Checkpoints
) -> tuple[State, int]:
    """The newest state, or a new one; and how many batches have been left out so far."""
    place = placed(experiment.mesh, shapes)
    state = checkpoints.restore(template(shapes, place), set_aside=True)
    if state is not None:
        folder = experiment.workdir / FOLDER / str(int(jax.device_get(state.step)))
        return state, read_meta(folder).get("skip", 0)
    state = jax.jit(lambda: _initial(experiment, work), out_shardings=place)()
    _write_table(experiment, work.name, shapes)
    return state, 0


def _check_same_set(experiment: Experiment, step: int, train: Split) -> None:
    """Refuses to go on with a training set that has grown or shrunk: its order is another."""
    if step:
        before = read_meta(experiment.workdir / FOLDER / str(step)).get("images", len(train))
        if before != len(train):
            raise WorkdirError(
                f"{experiment.workdir} was trained on {before} images, {train.name} has "
                f"{len(train)} now; put the data back as they were, or use a new --workdir"
            )


def _train(
    experiment: Experiment,
    work: Work,
    run_loop: Callable,
    state: State,
    skip: int,
    checkpoints: Checkpoints,
    writer: Writer,
    record: dict[str, Any],
) -> State:
    """The loop; on NaN or a spike again from the last checkpoint, if the configuration says so."""
    c, tries, shapes = experiment.config, 0, jax.eval_shape(lambda: _initial(experiment, work))
    last = -1
    while True:
        meta = record | {"skip": skip}
        try:
            return run_loop(dataclasses.replace(make_plan(experiment), skip=skip), state, meta=meta)
        except NonFiniteError as e:
            checkpoints.wait()
            tries = tries + 1 if (checkpoints.steps() or [0])[-1] == last else 1
            if c.on_nan != "rollback" or tries > _ROLLBACKS:
                raise
            state, skip = _start(experiment, work, shapes, checkpoints)
            back = int(jax.device_get(state.step))
            last, left_out = back, e.step - back + 1
            skip += left_out
            writer.scalars(e.step, {"train/rollback": 1, "train/batches_left_out": skip})
            say(f"step {e.step} went wrong: back to step {back}, without its {left_out} batches")


def _diffusion(experiment: Experiment) -> Work:
    """A diffusion model as work."""
    c = experiment.config
    if not 0.0 <= c.class_dropout < 1.0:
        raise ConfigError(f"class_dropout={c.class_dropout} must be in [0, 1)")
    sample_mode.check(experiment)
    recipe = make_recipe(experiment)
    average = ema_key(c.ema[0])

    def load() -> tuple[Split, Split | None]:
        experiment.source.split(c.eval.split)  # measured at the end: now is the time to miss it
        return experiment.source.split("train"), experiment.source.split(
            "valid"
        ) if c.eval_every else None

    def validate(state: State, valid: Split) -> dict[str, float]:
        records = bpd.measure(
            experiment.model,
            recipe.objective,
            gathered(experiment.mesh, state.ema[average]),
            valid,
            experiment.mesh,
            draws=c.valid_draws,
            batch=c.eval.batch,
            quiet=True,
        )
        found = bpd.summary(records)
        return {k: found[k] for k in ("bits_per_dim", "standard_error")}

    def draw(writer: Writer, state: State, step: int) -> None:
        params = gathered(experiment.mesh, state.ema[average])
        writer.image(step, "samples", sample_mode.sample(experiment, params, step, quiet=True))

    return Work(
        name=c.network,
        how=_how(experiment.model.network),
        task=recipe,
        init=lambda: experiment.model.init(jax.random.key(c.seed), experiment.source.shape),
        load=load,
        validate=validate,
        sample=draw,
        finish=lambda state, writer: _finish(experiment, state, writer),
        proposal=recipe.proposal.init(),
    )


def _how(network: Any) -> str:
    """How a network of equal blocks is run, if not plainly: `"auto"` has decided by the devices."""
    ways = {"scan": "blocks run by one scan", "remat": "activations are recomputed backwards"}
    return ", ".join(text for name, text in ways.items() if getattr(network, name, False))


def make_recipe(experiment: Experiment) -> Recipe:
    """The training step's recipe from the configuration."""
    c = experiment.config
    rate = optimizer.learning_rate(c.lr, c.warmup, c.lr_decay, c.steps)
    objective = registry.build("objectives", c.objective)
    proposal = registry.build("proposals", c.proposal)
    return Recipe(
        model=experiment.model,
        objective=objective,
        optimizer=optimizer.make(c.optimizer, rate, c.clip, c.decay_mask),
        augment=experiment.augment,
        class_dropout=c.class_dropout,
        ema=tuple((ema_key(d), d) for d in c.ema),
        ema_warmup=c.ema_warmup,
        accumulate=c.accumulate,
        seed=c.seed,
        unroll=jax.default_backend() == "cpu",
        proposal=proposal,
        minimize_variance=_minimize_variance(experiment, objective, proposal),
    )


def _minimize_variance(experiment: Experiment, objective: Objective, proposal: Proposal) -> bool:
    """Whether the schedule's shape is trained on the variance; refused where that is senseless."""
    c, reason = experiment.config, ""
    if not learns_shape(experiment.shapes()):
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


def make_plan(experiment: Experiment) -> loop.Plan:
    """The loop's plan from the configuration."""
    c = experiment.config
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


def _initial(experiment: Experiment, work: Work) -> State:
    return state_lib.init(
        work.init(), work.task.optimizer, tuple(experiment.config.ema), work.proposal
    )


def _write_table(experiment: Experiment, name: str, shapes: State) -> None:
    total = sum(math.prod(a.shape) for a in jax.tree.leaves(shapes.params))
    if jax.process_index() == 0:
        write(experiment.workdir / "params.txt", f"{parameter_table(shapes.params)}\n".encode())
    say(f"{name}: {total:,} parameters (table in params.txt)")


def _finish(experiment: Experiment, state: State, writer: Writer) -> None:
    """Test-set evaluation, samples and report, unless an earlier run of the command left them."""
    c, step = experiment.config, int(jax.device_get(state.step))
    average = ema_key(c.ema[0])
    params = gathered(experiment.mesh, state.ema[average])
    record = {"step": step, "weights": average,
              "checkpoint": str(experiment.workdir / "checkpoints" / str(step))}  # fmt: skip
    if not eval_mode.report_path(experiment, step).exists():
        found = eval_mode.evaluate(experiment, params, record)["result"]
        names = ("bits_per_dim", "standard_error")
        writer.scalars(step, {f"{c.eval.split}/{k}": found[k] for k in names})
    began = time.monotonic()
    drawn = c.sample.num and not (experiment.workdir / "samples" / f"{step}.png").exists()
    if drawn:
        writer.image(step, "samples", sample_mode.sample(experiment, params, step))
    writer.flush()
    cheap = drawn and time.monotonic() - began < _CHEAP
    report_mode.after_training(
        experiment, lambda: report_mode.illustrate(experiment, params, record, cheap)
    )
