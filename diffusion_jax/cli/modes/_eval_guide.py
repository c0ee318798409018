"""`--mode=eval` of a guidance network: loss and metrics at each noise level."""

from typing import Any

from diffusion_jax import saved_config
from diffusion_jax.cli.modes import _discriminator_data, _records
from diffusion_jax.data.base import Split
from diffusion_jax.data.passes import Pass
from diffusion_jax.evaluation import guides
from diffusion_jax.experiment import Experiment
from diffusion_jax.experiment.measures import bits_per_dim
from diffusion_jax.runtime.distributed import describe_devices
from diffusion_jax.training.tasks.base import Handed
from diffusion_jax.training.tasks.guide import Training
from diffusion_jax.types import Params


def evaluate(experiment: Experiment, params: Params, record: dict[str, Any]) -> dict[str, Any]:
    """Loss and metrics at every noise level; writes `eval/<step>.json` and returns it."""
    task = experiment.task.open(experiment, _HANDED)
    split = task.data().split(experiment.config.eval.split)
    limit = experiment.config.eval.limit
    rows = guides.measure(task.recipe, params, split, bits_per_dim.over(experiment))
    report = {
        "task": experiment.config.task,
        "mean": guides.mean(rows),
        "loss_by_gamma": guides.by_gamma(rows),
        "weights": record,
        "data": {
            "name": split.name,
            "images": min(limit or len(split), len(split)),
            "sha256": split.fingerprint(),
        },
        "seed": experiment.config.eval.seed,
        "config": saved_config.to_dict(experiment.config),
        "devices": describe_devices(),
        "numerics": _records.numerics_record(experiment),
    }
    path = _records.report_path(experiment, "eval", record["step"])
    lines = ["  ".join(f"{k} {v:8.3f}" for k, v in row.items()) for row in rows]
    mean = ", ".join(f"{k} {v:.4f}" for k, v in report["mean"].items())
    shown = f"{split.name}: {mean} (mean over noise levels)\n  " + "\n  ".join(lines)
    _records.publish(path, report, shown)
    return report


def score(task: Training, params: Params, split: Split) -> dict[str, float]:
    """Loss and metrics, averaged over noise levels, for validation during training."""
    c = task.setting.config.eval
    how = Pass(task.setting.mesh, c.batch, c.seed, 0, c.matmul_precision or "", quiet=True)
    return guides.mean(guides.measure(task.recipe, params, split, how))


_HANDED = Handed(
    check=lambda experiment: None,
    check_against=lambda experiment, path: None,
    sample=lambda *rest: None,
    score=score,
    against=_discriminator_data.source,
    finish=lambda *rest: None,
)
