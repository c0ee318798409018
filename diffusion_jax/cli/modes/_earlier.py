"""Whether a result that is there is the one that training would make at its end."""

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from diffusion_jax import saved_config
from diffusion_jax.experiment import Experiment
from diffusion_jax.runtime import untrusted
from diffusion_jax.training.state import ema_key

_SAME_FIGURE = ("batch", "checkpoint", "weights")  # of config.eval; which weights is compared


def measured_alike(experiment: Experiment, paths: Iterable[Path]) -> dict[str, Any] | None:
    """The first report that is of the run's first average and measured as `config.eval` says.

    Reports that do not say how they were measured are taken for such.
    """
    for path in paths:
        try:
            report = json.loads(path.read_text())
            if _alike(experiment, report):
                return report
        except (OSError, ValueError, TypeError, AttributeError):
            continue  # it cannot be read
    return None


def _alike(experiment: Experiment, report: dict[str, Any]) -> bool:
    # Reports of guides have in the report itself what those of models have in "model".
    said = report.get("model") or {**report, **report.get("weights", {})}
    own = ema_key(experiment.config.ema[0])
    if said.get("weights", own) != own:
        return False
    values = said.get("config")
    if not values:
        return True
    old, new = saved_config.from_dict(values), experiment.config
    of = [{k: v for k, v in c.eval.items() if k not in _SAME_FIGURE} for c in (old, new)]
    return of[0] == of[1] and not saved_config.differences(old, new)


def drawn_alike(experiment: Experiment, path: Path) -> bool:
    """Whether samples were drawn as the configuration says, as far as their file tells."""
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
        return True  # nothing says that they are others
    if said.get("sampler") != "generator":
        asked |= {"sampler": c.sampler, "steps": c.sample.steps}
    return all(said.get(k, v) == v for k, v in asked.items())
