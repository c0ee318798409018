"""What training refuses to go on with, and what can be done after NaN."""

from typing import Any

from diffusion_jax.data.description import changed
from diffusion_jax.errors import WorkdirError
from diffusion_jax.experiment import Experiment
from diffusion_jax.training.checkpoint import Checkpoints
from diffusion_jax.training.restore import FOLDER, read_meta


def check_same(
    experiment: Experiment, step: int, data: dict[str, Any], given: dict[str, Any]
) -> None:
    """Refuses to go on with other data, whose order is another, or with other given weights."""
    if not step:
        return
    before = read_meta(experiment.workdir / FOLDER / str(step))
    earlier = {"images": before["images"]} if "images" in before else {}  # as it was kept once
    difference = changed(before.get("data", earlier), data)
    if difference:
        raise WorkdirError(
            f"{experiment.workdir} was trained on other data than {data['name']} is now: "
            f"{difference}; put the data back as they were, or use a new --workdir"
        )
    used = before.get("given", {})
    if used.get("sha256") != given.get("sha256"):
        raise WorkdirError(
            f"{experiment.workdir} was trained beside other weights (of "
            f"{', '.join(used.get('paths', {}).values()) or 'nobody'}, SHA-256 "
            f"{used.get('sha256', 'none')}) than those there are now; put them back, or use a new "
            "--workdir"
        )


def remedy(experiment: Experiment, checkpoints: Checkpoints) -> str:
    """What can be done after NaN: every command here is one that works."""
    c, steps = experiment.config, checkpoints.steps()
    gentler = f"--config.lr={c.lr / 3:.1g} --config.clip=1.0"
    if not steps:
        return f"no checkpoint had been made: start anew with --workdir=NEW {gentler}"
    tried = (
        "the same command with --config.on_nan=rollback goes on from there without the batches "
        "since; " if c.on_nan != "rollback" else ""
    )  # fmt: skip
    return (
        f"the last good checkpoint, step {steps[-1]}, is kept: {tried}its weights are a start for "
        f"a gentler run: --workdir=NEW --config.init={experiment.workdir} {gentler}"
    )
