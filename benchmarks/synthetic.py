"""Classification accuracy score: classifiers trained on samples, tested on real images.

    python -m benchmarks.synthetic --run runs/digits --work digits --out runs/synthetic

Samples have the labels of the real training images, repeated four times for the arm x4. The arms
are the real images, samples (x1, x4), samples without near-copies (x1 new), fractions of the real
images filled up with samples (25% real, ...) and all real images plus samples (real + x1, real +
x3), for every `--guidance`. All classifiers are trained for the same number of updates; if that is
less than one epoch of a large training set, `--images` sets the number of samples for x1. Guidance
is chosen on `valid`, and the table shows `test`. After an interruption the same command resumes.
`rows.jsonl` has every classifier, and `--show` prints them.
"""

import argparse
import contextlib
import json
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks import _common, _runs, _synthetic_table
from diffusion_jax.cli.modes import train as train_mode
from diffusion_jax.errors import ConfigError, Preempted, UserError
from diffusion_jax.experiment import Experiment, open_experiment, open_run
from diffusion_jax.experiment.measures import features
from diffusion_jax.runtime import cache, cpu_devices
from diffusion_jax.runtime.formatting import json_text
from diffusion_jax.runtime.storage import write_arrays

WEIGHTS = tuple(f"cfg(w={w})" for w in (0.5, 1.0, 1.5, 2.0, 3.0, 5.0))
_NEAR = 0.01  # fraction of held-out images that would count as near-copies


@dataclass(frozen=True)
class Arm:
    """A training set for classifiers.

    Attributes:
        name: name of the row.
        real: fraction of the real images that it contains.
        times: number of samples, in multiples of the set x1.
        new: leave out samples that are nearer to training images than 99% of held-out images are.
    """

    name: str
    real: float
    times: float
    new: bool = False


REAL = Arm(_synthetic_table.REAL, 1.0, 0.0)
ARMS = (
    Arm("x1", 0.0, 1.0), Arm("x4", 0.0, 4.0), Arm("x1 new", 0.0, 1.0, new=True),
    Arm("25% real", 0.25, 0.75), Arm("50% real", 0.5, 0.5), Arm("75% real", 0.75, 0.25),
    Arm("real + x1", 1.0, 1.0), Arm("real + x3", 1.0, 3.0),
)  # fmt: skip


def data_of(data: str, arm: Arm, path: Path, real: int, n: int) -> str:
    """The data string of an arm, for `real` training images and `n` samples in x1."""
    if arm is REAL:
        return data
    kept = round(real * arm.real)
    size = kept + round(n * arm.times)
    return f"synthetic({data}, samples={str(path)!r}, real={kept / size}, size={size})"


def draw(
    run: Experiment, guidance: str, seed: int, labels: np.ndarray, folder: Path, **how: Any
) -> dict[bool, Path]:
    """Draws samples of these labels, unless done: npz files of all, and of those that are new."""
    stem = f"{''.join(c if c.isalnum() or c == '.' else '_' for c in guidance)}-seed{seed}"
    paths = {new: folder / f"{stem}-{len(labels)}{'-new' * new}.npz" for new in (False, True)}
    method = {"checkpoint": str(run.loaded[1]["checkpoint"]), "guidance": guidance, "seed": seed,
              **how}  # fmt: skip
    if all(p.exists() for p in paths.values()):
        for path in paths.values():
            _check_drawn(path, method)
        return paths
    train = run.source.split("train")
    note(f"{len(labels)} samples, {guidance}, seed {seed}")
    with contextlib.redirect_stdout(sys.stderr):
        images = run.sample(
            len(labels), tuple(map(int, labels)), seed=seed, guidance=guidance, **how
        )
        (near, real), _ = features.nearest(run, "pixels()", train, images, run.source.split("test"))
    kept = near.distance >= np.quantile(real.distance, _NEAR)
    folder.mkdir(parents=True, exist_ok=True)
    for new, path in paths.items():
        chosen = np.flatnonzero(kept) if new else np.arange(len(images))
        write_arrays(path, image=images[chosen], label=labels[chosen], method=json_text(method))
    return paths


def _check_drawn(path: Path, method: dict[str, Any]) -> None:
    """Raises `ConfigError` if samples were drawn with other settings (except the batch size)."""
    with np.load(path) as arrays:
        before = json.loads(str(arrays["method"]))
    other = [k for k in {*before, *method} - {"batch"} if before.get(k) != method.get(k)]
    if other:
        raise ConfigError(
            f"{path} was drawn with {', '.join(f'{k}={before.get(k)!r}' for k in sorted(other))}; "
            "name another --out"
        )


def config_for(work: str, data: str, seed: int, steps: int, data_dir: str) -> ConfigDict:
    """The configuration of a classifier of clean images."""
    c = _common.config_file(f"{work}_classifier")
    c.task = c.task.removesuffix(")") + ", clean=True)"
    c.data, c.seed, c.data_dir = data, seed, data_dir
    c.steps = steps or c.steps
    c.warmup = min(c.warmup, c.steps // 10)
    c.eval_every, c.save_every, c.report = 0, c.steps, False
    return c


def classify(config: ConfigDict, folder: Path) -> dict[str, np.ndarray]:
    """Trains a classifier, unless done, and returns which held-out images it gets right."""
    kept = folder / "answers.npz"
    if not kept.exists():
        if not (folder / "eval" / f"{config.steps}.json").exists():
            with contextlib.redirect_stdout(sys.stderr):
                train_mode.run(open_experiment(config, folder))
        # Opened like any judge, for images of the real data set.
        run = open_experiment(config, folder)
        judge = features.classes(run, features.open_classifier(run, str(folder), "this arm"))
        with contextlib.redirect_stdout(sys.stderr):
            found = {
                name: judge(split.images) == split.labels
                for name, split in ((n, run.source.split(n)) for n in ("valid", "test"))
            }
        write_arrays(kept, **found)
        jax.clear_caches()
    with np.load(kept) as arrays:
        return {k: arrays[k] for k in ("valid", "test")}


def fill(args: argparse.Namespace, run: Experiment) -> None:
    """Trains the classifiers of all arms and seeds that are missing."""
    out, data = args.out, run.config.data
    labels = run.source.split("train").labels
    real, n = len(labels), args.images or len(labels)
    asked = [a for a in ARMS if a.name in args.arms]
    drawn = max(2 if a.new else math.ceil(a.times) for a in asked)  # spare ones: some are not new
    labels = np.resize(labels if n > real else labels[:n], drawn * n)
    how = {k: getattr(args, k) for k in ("sampler", "steps", "batch") if getattr(args, k)}
    cells = [("", REAL)] + [(g, a) for g in args.guidance for a in asked]
    for seed in range(args.seeds):
        for guidance, arm in cells:
            path = Path()
            if arm is not REAL:
                sets = draw(run, guidance, seed % args.sample_seeds, labels, out / "samples", **how)
                path = sets[arm.new]
            name = f"{arm.name} {guidance}".strip()
            config = config_for(
                args.work,
                data_of(data, arm, path, real, n),
                seed,
                args.updates,
                run.config.data_dir,
            )
            place = out / name.replace(" ", "_").replace("+", "and") / f"seed{seed}"
            _runs.check_same(place, config, ("data", "task", "seed", "steps"))
            try:
                right = classify(config, place)
            except UserError as e:  # continue with the others
                note(f"{name}, seed {seed} failed: {e}")
                continue
            row = {"arm": arm.name, "guidance": guidance, "seed": seed, "updates": config.steps}
            row |= {k: float(v.mean()) for k, v in right.items()}
            row["npz"] = str(place / "answers.npz")
            if row not in read(out):
                with (out / "rows.jsonl").open("a") as f:
                    f.write(f"\n{json.dumps(row)}\n")
            note(f"{name}, seed {seed}: {row['test']:.4f}")


def read(out: Path) -> list[dict[str, Any]]:
    """The finished classifiers."""
    log = out / "rows.jsonl"
    rows = _common.read_lines(log)
    return list({(r["arm"], r["guidance"], r["seed"]): r for r in rows}.values())


def note(text: str) -> None:
    """Prints progress to stderr."""
    print(f"synthetic: {text}", file=sys.stderr, flush=True)


def check(run: Experiment, arms: Iterable[str]) -> None:
    """Raises `ConfigError` for a run without labels, or unknown arms."""
    names = [a.name for a in ARMS]
    unknown = set(arms) - {*names}
    if unknown:
        asked = ", ".join(map(repr, sorted(unknown)))
        raise ConfigError(f"no arm {asked}; there are {', '.join(names)}, beside real images")
    if not run.model.num_classes:
        raise ConfigError(f"{run.workdir} is unconditional: samples would have no labels")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True, help="the trained, conditional run that draws")
    parser.add_argument("--work", default="digits", choices=("digits", "mnist"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--guidance", nargs="+", default=list(WEIGHTS), help="none() for students")
    parser.add_argument("--arms", nargs="+", default=[a.name for a in ARMS])
    parser.add_argument(
        "--seeds", type=_common.at_least(1), default=5, help="classifiers of each arm"
    )
    parser.add_argument(
        "--sample_seeds", type=_common.at_least(1), default=3, help="sets of samples, in turn"
    )
    parser.add_argument(
        "--images", type=_common.at_least(0), default=0, help="samples in x1; 0: as many as real"
    )
    parser.add_argument(
        "--updates", type=_common.at_least(0), default=0, help="per classifier; 0: configuration's"
    )
    parser.add_argument("--sampler", default="dpmpp_2m()", help="empty: the run's sampler")
    parser.add_argument(
        "--steps", type=_common.at_least(0), default=20, help="sampling steps; 0: the run's"
    )
    parser.add_argument(
        "--batch", type=_common.at_least(1), default=200, help="samples drawn at once"
    )
    parser.add_argument("--data_dir", default="", help="tensorflow-datasets folder")
    parser.add_argument("--show", action="store_true", help="print finished rows only")
    args = parser.parse_args()
    args.out = args.out.absolute()
    try:
        if not args.show:
            cpu_devices.share(args.batch)
            cache.remember()
            run = open_run(args.run, data_dir=args.data_dir or None)
            check(run, args.arms)
            args.out.mkdir(parents=True, exist_ok=True)
            fill(args, run)
        print(_synthetic_table.show(read(args.out)))
    except (UserError, Preempted) as e:
        print(f"{'stopped' if isinstance(e, Preempted) else 'error'}: {e}", file=sys.stderr)
        sys.exit(e.exit_code)


if __name__ == "__main__":
    main()
