"""Runs that a benchmark trains: their speed, cost and results."""

import contextlib
import gc
import itertools
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from benchmarks import _common, sample_quality
from diffusion_jax import registry, saved_config
from diffusion_jax.cli.modes import eval as eval_mode, train as train_mode
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment, cascade, open_experiment
from diffusion_jax.experiment.measures import sample_quality as quality_lib
from diffusion_jax.runtime import cores
from diffusion_jax.runtime.storage import write_json

_ROUNDS, _STEPS = 3, 10  # for timing; SOAP's eigenvectors are updated every tenth step
_SAMPLES = 600


def note(text: str) -> None:
    """Prints progress to stderr."""
    print(f"bits: {text}", file=sys.stderr, flush=True)


def speeds(cases: dict[str, Experiment]) -> dict[str, dict[str, float]]:
    """Core-seconds of a step and of its compilation, and the number of weights, for each row."""
    steps, found = {}, {}
    jax.config.update("jax_enable_compilation_cache", False)  # compilation is timed
    for name, experiment in cases.items():
        params = _common.weights(experiment)
        recipe, state = _common.fresh_state(experiment, params)
        began = cores.used()
        *_, steps[name] = _common.step_of(experiment, recipe, state)
        seconds = cores.used() - began
        number = sum(a.size for a in jax.tree.leaves(params))
        found[name] = {"compile_core_s": seconds, "weights": number}
        note(f"{name}: {number:,} weights, traced and compiled in {seconds:.1f} core-s")
    jax.config.update("jax_enable_compilation_cache", True)
    used: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(_ROUNDS):
        for name, once in steps.items():
            jax.block_until_ready(once())
            began = cores.used()
            for _ in range(_STEPS):
                jax.block_until_ready(once())
            used[name].append((cores.used() - began) / _STEPS)
    return {
        name: {**found[name], "core_s_a_step": statistics.median(u)} for name, u in used.items()
    }


def check_same(folder: Path, config: ConfigDict, fields: tuple[str, ...]) -> None:
    """Raises `ConfigError` if the folder has a run with other settings.

    Plug-in arguments that a run has filled in itself are not compared.
    """
    saved = saved_config.find(folder)
    if saved is None:
        return
    before = saved_config.read(saved)

    def read(value: Any) -> Any:
        return registry.parse(value) if isinstance(value, str) else value

    other = [k for k in fields if not _holds(read(before[k]), read(config[k]))]
    if other:
        raise ConfigError(
            f"{folder} has a run with {', '.join(f'{k}={before[k]!r}' for k in other)}; "
            "name another --out"
        )


def _holds(old: Any, new: Any) -> bool:
    """Whether a saved plug-in or value matches the requested one, ignoring added arguments."""
    if not (isinstance(old, registry.Spec) and isinstance(new, registry.Spec)):
        return old == new
    asked = {k: v for k, v in new.kwargs.items() if k != "edges"}  # a run replaces these by a plan
    return (
        (old.name, len(old.args)) == (new.name, len(new.args))
        and all(map(_holds, old.args, new.args))
        and all(k in old.kwargs and _holds(old.kwargs[k], v) for k, v in asked.items())
    )


def finished(folder: Path, steps: int) -> bool:
    """Whether a run has been trained and measured."""
    return all((folder / "eval" / f"{steps}.{end}").exists() for end in ("json", "npz"))


def held_out(folder: Path) -> float:
    """The last validation's bits/dim."""
    name = "valid/bits_per_dim"
    return [r[name] for r in _common.read_lines(folder / "metrics.jsonl") if name in r][-1]


def train(config: ConfigDict, folder: Path) -> None:
    """Trains and evaluates a run as the command line does, unless it is finished."""
    if finished(folder, config.steps):
        return
    note(f"{folder}: {config.steps} steps")
    with contextlib.redirect_stdout(sys.stderr):
        train_mode.run(open_experiment(config, folder))
    jax.clear_caches()
    gc.collect()


def measure(run: Path, weights: str, folder: Path, steps: int) -> None:
    """Evaluates other weights of a run, unless this has been done."""
    if finished(folder, steps):
        return
    config = saved_config.read(saved_config.find(run))
    config.eval.weights = weights
    with contextlib.redirect_stdout(sys.stderr):
        eval_mode.run(open_experiment(config, folder, str(run)))


def measure_together(runs: list[Path], folder: Path, steps: int) -> None:
    """Evaluates runs as the stages of one cascade, unless this has been done."""
    if finished(folder, steps):
        return
    config = saved_config.read(saved_config.find(runs[-1]))
    config.stages = ",".join(map(str, runs))
    with contextlib.redirect_stdout(sys.stderr):
        eval_mode.run(cascade.joined(Experiment(config, folder)))


def outcome(
    runs: list[Path], place: Path, steps: int, batches: list[int], together: bool
) -> dict[str, Any]:
    """The cost of a row's runs, and the results in `place` with the file of per-image values.

    Held-out bits are the last run's, or the sum over the stages of a cascade.
    """
    report = place / "eval" / f"{steps}.json"
    found = json.loads(report.read_text())["result"]
    results = {k: found[k] for k in ("bits_per_dim", "standard_error", "monte_carlo_se")}
    npz = str(report.with_suffix(".npz"))
    paces = [pace(run, batch) for run, batch in zip(runs, batches, strict=True)]
    summed = {k: sum(p[k] for p in paces) for k in ("core_s", "core_s_of_steps")
              if all(k in p for p in paces)}  # fmt: skip
    held = sum(map(held_out, runs if together else runs[-1:]))
    return {**paces[-1], **summed, "held_out": held, **results, "npz": npz}


def pace(folder: Path, batch: int) -> dict[str, float]:
    """Processor time of a run in total and of its steps, and images per second of wall time."""
    rows = [r for r in _common.read_lines(folder / "metrics.jsonl") if "train/core_seconds" in r]
    pairs = [(a, b) for a, b in itertools.pairwise(rows) if b["seconds"] > a["seconds"]]
    found = {"core_s": rows[-1]["train/core_seconds"]}
    if pairs:
        each = [
            ((b["train/core_seconds"] - a["train/core_seconds"]) / (b["step"] - a["step"]),
             batch * (b["step"] - a["step"]) / (b["seconds"] - a["seconds"])) for a, b in pairs
        ]  # fmt: skip
        medians = [statistics.median(v) for v in zip(*each, strict=True)]
        found |= {"core_s_of_steps": medians[0] * rows[-1]["step"], "images_per_s": medians[1]}
    return found


def quality(run: Path, judge: Path, data_dir: str) -> dict[str, float]:
    """Frechet distance and samples per second of a run: no guidance, 20 steps of `dpmpp_2m()`."""
    kept = run / "frechet.json"
    found = json.loads(kept.read_text()) if kept.exists() else {}
    if not found or found.get("judge", str(judge)) != str(judge):
        how = ("none()", "dpmpp_2m()", 20, _SAMPLES, data_dir)
        experiment = sample_quality.judged(run, judge, judge / "statistics", *how)
        params, _ = experiment.weights()
        with contextlib.redirect_stdout(sys.stderr):
            against = quality_lib.open_bench(experiment)
            found = sample_quality.measure(experiment, params, against, 1)
        write_json(kept, found | {"judge": str(judge)})
        jax.clear_caches()
    return {"frechet": found["frechet"], "samples_per_s": found["images_per_s"]}
