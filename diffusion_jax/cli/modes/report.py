"""`--mode=report`: one page, `report.html`, about everything in a work directory."""

import dataclasses
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import diffusion_jax
from diffusion_jax import config as config_lib, rng, saved_config
from diffusion_jax.cli.report import collect, page
from diffusion_jax.errors import ConfigError, UserError, WorkdirError
from diffusion_jax.experiment import Experiment, texts
from diffusion_jax.experiment.sampling import (
    compiled_sampler,
    priors,
    run_sampler,
    sampling_method,
)
from diffusion_jax.likelihood import bound_variance
from diffusion_jax.likelihood.objectives.base import at_z_0
from diffusion_jax.runtime import image_grids
from diffusion_jax.runtime.distributed import describe_devices, say
from diffusion_jax.runtime.storage import is_bucket, write as write_file, write_json
from diffusion_jax.sampling import trajectory
from diffusion_jax.types import Cond, Params

READS = ("sampling", "sample", "eval", "stages")
WRITES = ("", "report")

_FRAMES, _IMAGES = 32, 10  # maximum numbers in the animation


def run(experiment: Experiment) -> None:
    """Writes `report.html`, and the pictures that need the weights if they do not exist yet."""
    if jax.process_count() > 1:
        raise ConfigError("report runs in one process; start it on one host")
    if not experiment.workdir.is_dir():
        raise WorkdirError(f"there is no work directory {experiment.workdir} to report on")
    notes = []
    if experiment.task.figure == "bits_per_dim" and not experiment.stages:
        try:
            illustrate(experiment, *experiment.weights(experiment.config.eval.weights))
        except UserError as e:
            notes.append(f"Not all pictures that need the weights could be made: {e}")
    say(f"report written to {write(experiment, tuple(notes))}")


def after_training(experiment: Experiment, make: Callable[[], None] | None = None) -> None:
    """Writes the report at the end of a run; any error only prints a warning.

    `make` makes the pictures that need the weights.
    """
    if not experiment.config.report or jax.process_index():
        return
    try:
        if make is not None:
            make()
        say(f"report: {write(experiment)}")
    except Exception as e:  # the run itself has succeeded
        reason = (str(e).splitlines() or [""])[0]
        say(f"warning: no report was written ({type(e).__name__}: {reason}); the run is complete")


def illustrate(
    experiment: Experiment, params: Params, record: dict[str, Any], animate: bool = True
) -> None:
    """Writes gamma(t), reconstructions and the animation to `report/`, unless they are up to date.

    The animation is made with a single process only: samplers may read checkpoints, which all
    hosts must do together.
    """
    stem = experiment.workdir / "report" / str(record["step"])
    path = stem.with_name(f"{stem.name}_schedule.json")
    params = jax.device_get(params)  # small work: this process alone, on one device
    if _made(path).get("model") != record:
        write_json(path, {**bound_variance.curve(experiment.model, params), "model": record})
    alone, model = jax.process_count() == 1, experiment.model
    path = stem.with_name(f"{stem.name}_reconstructions.json")
    drawn = model.from_latent and animate and alone  # needs a sampler, as the animation does
    # A model of a part of the image needs the other part as its input.
    whole = model.given_shape(experiment.source.shape) is None
    with jax.default_matmul_precision(experiment.config.eval.matmul_precision or None):
        if drawn or not model.traits.pixels:
            _reconstruct(experiment, params, record, path)
        if animate and alone and whole:
            _animate(experiment, params, record, stem.with_name(f"{stem.name}_trajectory.json"))


def _reconstruct(
    experiment: Experiment, params: Params, record: dict[str, Any], path: Path
) -> None:
    """Images, and below them their reconstructions from latents.

    A part of an image is shown joined with its conditioning, as an image of its resolution.
    """
    model, source, c = experiment.model, experiment.source, experiment.config
    made = {"model": record, "seed": c.sample.seed}
    if model.from_latent:
        made |= compiled_sampler.describe(experiment, sampling_method.build(experiment, params))
    before = _made(path)
    if path.with_suffix(".png").exists() and {k: before.get(k) for k in made} == made:
        return
    split = source.split(c.eval.split)
    rows = split.take(np.arange(min(_IMAGES, len(split))))
    part, given = model.view(rows["image"])
    how = _drawn if model.from_latent else _most_probable
    found = np.asarray(how(experiment, params, rows))
    error = np.abs(found.astype(int) - np.asarray(part))
    both = np.concatenate([np.asarray(model.view.join(a, given)) for a in (part, found)])
    both = source.medium.stills(both, source.levels)
    image_grids.save_png(
        path.with_suffix(".png"), image_grids.grid(both, source.levels, len(found))
    )
    write_json(path, {
        "images": len(found), "split": split.name, "exact": float((error == 0).mean()),
        "mean_absolute_error": float(error.mean()), "levels": source.levels,
        "drawn": model.from_latent, **made,
    })  # fmt: skip


def _most_probable(
    experiment: Experiment, params: Params, rows: dict[str, np.ndarray]
) -> jax.Array:
    """The most probable data given the latents `z_0` of `rows`."""
    model, key = experiment.model, jax.random.key(experiment.config.sample.seed)

    @jax.jit
    def decoded(params: Params, rows: dict[str, Any]) -> jax.Array:
        x, cond = model.examples(rows)
        coded = model.coded(params, x)
        keys = rng.per_example(rng.stream(key, "z_0"), len(x))
        eps_0 = rng.normal(keys, coded.mean.shape)
        return model.decode(params, at_z_0(model, params, coded, eps_0, cond))

    return decoded(params, rows)


def _drawn(experiment: Experiment, params: Params, rows: dict[str, np.ndarray]) -> np.ndarray:
    """Samples of a model of images given latents, at the latents of `rows`."""
    c, model = experiment.config.sample, experiment.model
    method, key = sampling_method.build(experiment, params), jax.random.key(c.seed)

    @jax.jit
    def condition(params: Params, rows: dict[str, Any]) -> Cond:
        x, cond = model.examples(rows)
        keys = rng.per_example(rng.stream(key, "z_0"), len(x))
        return model.condition(params, x, cond, keys)[1]

    shape = (len(rows["image"]), *model.z_shape(experiment.source.shape))
    found = trajectory.record(
        model, params, method, condition(params, rows), rng.stream(key, "sample", 0), shape,
        experiment.source.levels, 2,
    )  # fmt: skip
    return found.latents[-1]


def _animate(experiment: Experiment, params: Params, record: dict[str, Any], path: Path) -> None:
    c = experiment.config.sample
    method = sampling_method.build(experiment, params)
    few = priors.with_changes(experiment, {"sample.num": _IMAGES})
    asked = run_sampler.conditions(few, f"split:{experiment.config.eval.split}")
    labels, captions = asked.labels, asked.captions
    how = {**compiled_sampler.describe(experiment, method), "seed": c.seed, "model": record}
    how |= {"captions": list(captions)} if captions else {}
    moving = path.with_suffix(".webp")
    if moving.exists() and path.exists() and _made(path) == how:
        return
    cond = {} if labels is None else {"label": jnp.asarray(labels)}
    cond |= texts.conditions(experiment, list(captions))
    if asked.source is not None:
        draw, how["prior"] = asked.source.ready()
        cond["embedding"] = draw(c.seed, True, 0)
    key = rng.stream(jax.random.key(c.seed), "sample", 0)  # the key of the first samples
    shape = (_IMAGES, *experiment.model.z_shape(experiment.source.shape))
    found = trajectory.record(
        experiment.model, params, method, cond, key, shape, experiment.source.levels, _FRAMES
    )
    medium, levels = experiment.source.medium, experiment.source.levels
    latents, guesses = (
        np.stack([medium.stills(a, levels) for a in frames])
        for frames in (found.latents, found.guesses)
    )
    found = dataclasses.replace(found, latents=latents, guesses=guesses)
    trajectory.save_webp(moving, trajectory.movie(found))
    image_grids.save_png(path.with_suffix(".png"), trajectory.strip(found))
    write_json(path, how | {"gammas": np.asarray(found.gammas).tolist()})


def _made(path: Path) -> dict[str, Any]:
    """The record at `path` of how a picture was made; empty if it cannot be read."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    found.pop("gammas", None)
    return found


def write(experiment: Experiment, notes: tuple[str, ...] = ()) -> Path:
    """Writes the page about the work directory, with `notes` at its head."""
    path = experiment.workdir / "report.html"
    where = (
        str(experiment.workdir)
        if is_bucket(experiment.workdir)
        else os.path.relpath(experiment.workdir)
    )
    made = (
        f"Made by diffusion_jax {diffusion_jax.__version__} with jax {jax.__version__} on "
        f"{describe_devices()}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC."
    )
    shown = page.render(
        collect.read(experiment.workdir),
        saved_config.to_dict(config_lib.base()),
        str(experiment.workdir) if where.startswith("..") else where,
        notes,
        made,
        experiment.config.stages,
    )
    try:
        write_file(path, shown.encode())
    except OSError as e:
        raise WorkdirError(f"cannot write {path}: {e}") from e
    return path
