"""`--mode=export`: one weight average of a run as a small folder that others can open."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

import diffusion_jax
from diffusion_jax.cli.modes import _records, eval as eval_mode
from diffusion_jax.errors import CheckpointError, ConfigError
from diffusion_jax.experiment import Experiment, exported
from diffusion_jax.experiment.workdir import check_writable
from diffusion_jax.runtime import storage
from diffusion_jax.runtime.distributed import describe_devices, say
from diffusion_jax.runtime.formatting import examples, plus_minus
from diffusion_jax.training import restore

READS = ("export", "eval")
# The card also has the result on the first images, as a quick check for recipients.
_FIRST = 64


def run(experiment: Experiment) -> None:
    """Writes `config.export.output`, and evaluates the written weights as set in `config.eval`."""
    c = experiment.config.export
    if not c.output:
        raise ConfigError(
            "--config.export.output is needed: the folder to write, such as pretrained/mnist"
        )
    if c.dtype not in ("float32", "bfloat16"):
        raise ConfigError(f"export.dtype={c.dtype!r}: allowed: float32, bfloat16")
    folder = storage.place(c.output)
    check_writable(folder, "name another folder with --config.export.output")
    exported.check_free(folder)
    measured = c.measure and experiment.task.figure == "bits_per_dim"
    if measured:
        eval_mode.check_bound(experiment)
        experiment.source.split(experiment.config.eval.split)
    params, record = experiment.loaded
    about = {
        "data": experiment.config.data,
        "licence": c.licence,
        "attribution": experiment.data.attribution,
        "command": c.command,
        "core_seconds": _core_seconds(record),
        "diffusion_jax": diffusion_jax.__version__,
        "seed": experiment.config.seed,
    }
    exported.write_folder(folder, experiment, params, record, about, bfloat16=c.dtype == "bfloat16")
    card = exported.card(folder)
    say(f"{folder}: {card['bytes']:,} bytes, {card['arithmetic']}, SHA-256 {card['sha256']}")
    if measured:
        result = measure(experiment, folder)
        storage.write_json(folder / exported.CARD, card | {exported.FIGURE: result})
        value = plus_minus(result["bits_per_dim"], result["standard_error"])
        of = _records.of(result.get("part"))
        say(f"{result['split']}: {value} bits/dim{of}, {result['images']} {examples(result)}")


def measure(experiment: Experiment, folder: Path) -> dict[str, Any]:
    """The bits per dimension of the weights in `folder`, evaluated as set in `config.eval`."""
    found = _written(experiment, folder).bits_per_dim()
    c, first = experiment.config, found.per_image[:_FIRST]
    value = {"bits_per_dim": found.value, "standard_error": found.standard_error}
    part = _records.part_record(experiment, value)
    return {
        **value,
        **({} if part is None else {"part": part}),
        "monte_carlo_se": found.monte_carlo_se,
        "split": c.eval.split,
        "medium": experiment.source.medium.name,
        "images": len(found.per_image),
        "first": {"images": len(first), "bits_per_dim": float(np.mean(first))},
        "draws": c.eval.draws,
        "given_the_class": c.conditional,
        "given": _records.given(experiment),
        "devices": describe_devices(),
    }


def _written(experiment: Experiment, folder: Path) -> Experiment:
    """The run with the weights in `folder`, by the name that they have there."""
    config = copy.deepcopy(experiment.config)
    config.eval.weights = exported.card(folder)["weights"]
    return dataclasses.replace(experiment, config=config, checkpoint=str(folder))


def _core_seconds(record: dict[str, Any]) -> float | None:
    """Core-seconds of training, if the checkpoint has recorded them."""
    try:
        return restore.read_meta(storage.place(record["checkpoint"])).get("core_seconds")
    except CheckpointError:  # published weights, or an exported folder
        return None
