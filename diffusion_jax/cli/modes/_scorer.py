"""Training and evaluating a scorer: `config.scorer` instead of a diffusion model."""

from typing import Any

import jax

from diffusion_jax import registry
from diffusion_jax.cli.modes import _against, _records, report as report_mode
from diffusion_jax.cli.modes._work import Work
from diffusion_jax.data.base import Source, Split
from diffusion_jax.data.passes import Pass
from diffusion_jax.errors import ConfigError
from diffusion_jax.evaluation import guides
from diffusion_jax.experiment import Experiment
from diffusion_jax.runtime.distributed import describe_devices, say
from diffusion_jax.runtime.sharding import gathered
from diffusion_jax.runtime.storage import write_json
from diffusion_jax.training import optimizer
from diffusion_jax.training.metrics import Writer
from diffusion_jax.training.state import State, ema_key
from diffusion_jax.training.tasks.guide import ScorerRecipe
from diffusion_jax.types import Params


def work(experiment: Experiment) -> Work:
    """What to train.

    Args:
        experiment: whose configuration names a scorer.

    Raises:
        ConfigError: settings that only diffusion models have.
    """
    c = experiment.config
    if c.accumulate != 1 or c.augment != "none()":
        raise ConfigError("a scorer is trained with accumulate=1 and augment='none()'")
    if c.against:
        _against.check(experiment)
    recipe = make_recipe(experiment)
    average = ema_key(c.ema[0])

    def load() -> tuple[Split, Split | None]:
        source = _data(experiment)
        source.split(c.eval.split)  # measured at the end: now is the time to miss it
        return source.split("train"), source.split("valid") if c.eval_every else None

    def validate(state: State, valid: Split) -> dict[str, float]:
        rows = guides.measure(
            recipe,
            gathered(experiment.mesh, state.ema[average]),
            valid,
            Pass(experiment.mesh, c.eval.batch, quiet=True),
        )
        return guides.mean(rows)

    def finish(state: State, writer: Writer) -> None:
        step = int(jax.device_get(state.step))
        if not _records.report_path(experiment, "eval", step).exists():
            params = gathered(experiment.mesh, state.ema[average])
            found = evaluate(experiment, params, {"step": step, "weights": average})
            writer.scalars(step, {f"{c.eval.split}/{k}": v for k, v in found["mean"].items()})
        writer.flush()
        report_mode.after_training(experiment)

    return Work(
        name=c.scorer,
        task=recipe,
        init=lambda: experiment.scorer.init(jax.random.key(c.seed), experiment.source.shape),
        load=load,
        validate=validate,
        sample=None,
        finish=finish,
    )


def make_recipe(experiment: Experiment) -> ScorerRecipe:
    """The training step's recipe from the configuration."""
    c = experiment.config
    rate = optimizer.learning_rate(c.lr, c.warmup, c.lr_decay, c.steps)
    decoder = registry.build("decoders", c.decoder, levels=experiment.source.levels)
    return ScorerRecipe(
        scorer=experiment.scorer,
        encode=decoder.encode,
        gamma_min=c.gamma_min,
        gamma_max=c.gamma_max,
        optimizer=optimizer.make(c.optimizer, rate, c.clip, c.decay_mask),
        ema=tuple((ema_key(d), d) for d in c.ema),
        ema_warmup=c.ema_warmup,
        seed=c.seed,
    )


def evaluate(experiment: Experiment, params: Params, record: dict[str, Any]) -> dict[str, Any]:
    """Loss and metrics at every noise level; writes `eval/<step>.json`.

    Args:
        record: what they are; goes into the report.
    """
    split = _data(experiment).split(experiment.config.eval.split)
    c = experiment.config.eval
    how = Pass(experiment.mesh, c.batch, limit=c.limit)
    rows = guides.measure(make_recipe(experiment), params, split, how)
    report = {
        "scorer": experiment.config.scorer,
        "mean": guides.mean(rows),
        "loss_by_gamma": guides.by_gamma(rows),
        "weights": record,
        "data": {
            "name": split.name,
            "images": min(c.limit or len(split), len(split)),
            "sha256": split.fingerprint(),
        },
        "devices": describe_devices(),
    }
    path = _records.report_path(experiment, "eval", record["step"])
    if jax.process_index() == 0:
        write_json(path, report)
    lines = ["  ".join(f"{k} {v:8.3f}" for k, v in row.items()) for row in rows]
    mean = ", ".join(f"{k} {v:.4f}" for k, v in report["mean"].items())
    say(f"{split.name}: {mean} (mean over noise levels)\n  " + "\n  ".join(lines))
    say(f"  written to {path}")
    return report


def _data(experiment: Experiment) -> Source:
    return _against.source(experiment) if experiment.config.against else experiment.source
