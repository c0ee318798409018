"""Checks before training resumes, and advice after non-finite values."""

from typing import Any

from diffusion_jax.data.description import changed
from diffusion_jax.errors import WorkdirError
from diffusion_jax.experiment import Experiment
from diffusion_jax.training.checkpoint import Checkpoints
from diffusion_jax.training.restore import FOLDER, read_meta


def check_same(
    experiment: Experiment, step: int, data: dict[str, Any], given: dict[str, Any]
) -> None:
    """Raises WorkdirError if the data, their order or the frozen weights have changed."""
    if not step:
        return
    before = read_meta(experiment.workdir / FOLDER / str(step))
    earlier = {"images": before["images"]} if "images" in before else {}  # format of older runs
    difference = changed(before.get("data", earlier), data)
    if difference:
        raise WorkdirError(
            f"{experiment.workdir} was trained on other data than {data['name']} has now: "
            f"{difference}; restore the data, or use a new --workdir"
        )
    used = before.get("given", {})
    if used.get("sha256") != given.get("sha256"):
        raise WorkdirError(
            f"{experiment.workdir} was trained with other frozen weights (from "
            f"{', '.join(used.get('paths', {}).values()) or 'no run'}, SHA-256 "
            f"{used.get('sha256', 'none')}) than there are now; restore them, or use a new "
            "--workdir"
        )


def remedy(experiment: Experiment, checkpoints: Checkpoints) -> str:
    """Advice after non-finite values; every command in it works."""
    c, steps = experiment.config, checkpoints.steps()
    gentler = f"--config.lr={c.lr / 3:.1g} --config.clip=1.0"
    if not steps:
        return f"there is no checkpoint yet: start again with --workdir=NEW {gentler}"
    rollback = (
        "the same command with --config.on_nan=rollback resumes from there without the batches "
        "since; " if c.on_nan != "rollback" else ""
    )  # fmt: skip
    return (
        f"the last good checkpoint, step {steps[-1]}, is kept: {rollback}or start a gentler run "
        f"from its weights: --workdir=NEW --config.init={experiment.workdir} {gentler}"
    )
