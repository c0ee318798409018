"""Whether an existing result is the one that training would make at its end."""

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from diffusion_jax import saved_config
from diffusion_jax.experiment import Experiment
from diffusion_jax.runtime import untrusted
from diffusion_jax.training.state import ema_key

# Settings of config.eval that do not change the result; the weights are compared separately.
_SAME_RESULT = ("batch", "checkpoint", "weights")


def measured_alike(experiment: Experiment, paths: Iterable[Path]) -> dict[str, Any] | None:
    """The first report of the run's first average with the settings of `config.eval`, or None.

    Reports without a record of their settings are accepted.
    """
    for path in paths:
        try:
            report = json.loads(path.read_text())
            if _alike(experiment, report):
                return report
        except (OSError, ValueError, TypeError, AttributeError):
            continue  # unreadable
    return None


def _alike(experiment: Experiment, report: dict[str, Any]) -> bool:
    # Reports of guidance networks have these entries at the top level, not in "model".
    record = report.get("model") or {**report, **report.get("weights", {})}
    average = ema_key(experiment.config.ema[0])
    if record.get("weights", average) != average:
        return False
    values = record.get("config")
    if not values:
        return True
    old, new = saved_config.from_dict(values), experiment.config
    of = [{k: v for k, v in c.eval.items() if k not in _SAME_RESULT} for c in (old, new)]
    return of[0] == of[1] and not saved_config.differences(old, new)


def drawn_alike(experiment: Experiment, path: Path) -> bool:
    """Whether samples were drawn with the settings of the run, as far as their file records."""
    c = experiment.config
    asked = {k: c[k] for k in ("guidance", "grid", "plan", "corrector", "final")} | {
        "weights": ema_key(c.ema[0]),
        "seed": c.sample.seed,
        "images": c.sample.num,
    }
    try:
        with path.open("rb") as raw:
            said = json.loads(str(untrusted.npz(raw)["method"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return True  # no record of the settings
    if said.get("sampler") != "generator":
        asked |= {"sampler": c.sampler, "steps": c.sample.steps}
    return all(said.get(k, v) == v for k, v in asked.items())
