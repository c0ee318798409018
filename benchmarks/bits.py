"""Networks, optimisers, latents, stages and more: bits per dimension at equal processor time.

    python -m benchmarks.bits --table networks --work digits --core-seconds 150 --out runs/bits

A step of every row is timed first, compiled and in turn, in processor time of this process. Other
load counts all the same: a job on the other hardware thread of a core can make a core-second worth
half. Only rows of one table compare. The budget over the time of a step is the row's number of
steps, so that schedules end with it. Each row and seed is then a run of its own, as `--mode=train`
makes it, in `OUT/WORK-TABLE/ROW/seedN`, or several (an autoencoder and its prior, the stages of a
cascade) that share the budget, in folders `0`, `1`, ... of that; warm-up is a tenth of the steps at
most, validation comes at the end. All are measured on the same images, so that differences are
paired.
Killed, the same command goes on where it was; `rows.jsonl` has every finished row, `--show` prints
those.
"""

import argparse
import itertools
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from benchmarks import _common, _paired, _runs
from benchmarks._runs import note
from benchmarks.tables import WORK
from benchmarks.variants import Part, Table
from diffusion_jax.errors import ConfigError, Preempted, UserError
from diffusion_jax.experiment import Experiment
from diffusion_jax.runtime import cache, cpu_devices
from diffusion_jax.runtime.storage import write_json


def steps_for(core_seconds: float, each: float) -> int:
    """Steps of `each` core-seconds that a budget has room for; at least 1."""
    return max(round(core_seconds / each), 1)


def config_of(
    start: ConfigDict, part: Part, steps: int, folders: Sequence[Path] = (Path("unused"),)
) -> ConfigDict:
    """The configuration of a row's run, before seed and learning rate."""
    c = ConfigDict(start.to_dict())
    if part.config:
        own = _common.config_file(part.config)
        own.update({k: c[k] for k in ("data", "data_dir", "valid_draws", "eval")})
        c = own
    for key, value in part.settings.items():
        told = value.format(*folders) if isinstance(value, str) else value
        c.update_from_flattened_dict({key: told})
    c.steps, c.warmup = steps, min(c.warmup, steps // 10)
    c.log_every = min(c.log_every, max(steps // 10, 1))
    c.eval_every, c.save_every, c.sample_every = steps, max(steps // 10, 1), 0
    c.report, c.sample.num, c.eval.timesteps = False, 0, ()
    return c


def start_of(work: str, data_dir: str) -> ConfigDict:
    """The configuration that all rows of some work change."""
    c = _common.config_file(WORK[work].config)
    c.update_from_flattened_dict({**WORK[work].settings, "data_dir": data_dir})
    return c


def plan(folder: Path, budget: float, start: ConfigDict, table: Table) -> dict[str, Any]:
    """Speed and steps of every row's runs, kept beside them; what is missing is measured."""
    path = folder / "plan.json"
    kept = json.loads(path.read_text()) if path.exists() else {"core_seconds": budget, "rows": {}}
    if kept["core_seconds"] != budget:
        raise ConfigError(
            f"{folder} has runs of {kept['core_seconds']:g} core-seconds; name another --out"
        )
    kept["rows"] = {n: p if isinstance(p, list) else [p] for n, p in kept["rows"].items()}
    names = [n for n, v in table.rows.items() if not v.weights][: 1 if table.equal_steps else None]
    parts = {(n, i): part for n in names for i, part in enumerate(table.rows[n].runs)}
    missing = {k: part for k, part in parts.items() if len(kept["rows"].get(k[0], ())) <= k[1]}
    same = {k: f"{k[0]}, {k[1]}" for k in missing}  # as the first row with such a run
    for a, b in itertools.combinations(missing, 2):
        if replace(missing[a], share=1.0) == replace(missing[b], share=1.0):
            same[b] = same[a]
    cases = {same[k]: Experiment(config_of(start, part, 1000), Path("unused"))
             for k, part in missing.items()}  # fmt: skip
    speeds = _runs.speeds(cases)
    for (name, i), part in missing.items():
        found = speeds[same[name, i]]
        steps = steps_for(budget * part.share, found["core_s_a_step"])
        kept["rows"].setdefault(name, []).append(found | {"steps": steps})
        note(f"{name}: {1000 * found['core_s_a_step']:.1f} core-ms a step, {steps} steps")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, kept)
    return {n: kept["rows"].get(n, kept["rows"][names[0]]) for n in table.rows}


def read(log: Path, name: str) -> list[dict[str, Any]]:
    """Finished rows of a table; a line that a kill has torn is no row."""
    return _paired.latest([r for r in _common.read_lines(log) if r["table"] == name])


def fill(
    name: str,
    table: Table,
    start: ConfigDict,
    seeds: list[int],
    budget: float,
    out: Path,
    judge: Callable[[], Path] | None = None,
) -> None:
    """Makes a table, the first seed of all rows first; what is there is not made again.

    Args:
        name: of data and table, and of the folder.
        table: its rows.
        start: the configuration that they change.
        seeds: of training; the first also tries learning rates.
        budget: core-seconds of the steps of a run.
        out: where all is written.
        judge: gives the classifier whose features Frechet distances are of.
    """
    folder, log, first = out / name, out / "rows.jsonl", next(iter(table.rows))
    plans = plan(folder, budget, start, table)

    def place_of(variant: str, seed: int, lr: float | None) -> Path:
        return folder / variant.replace(" ", "_") / f"seed{seed}{f'-lr{lr:g}' if lr else ''}"

    def run(variant: str, seed: int, lr: float | None, tried: bool) -> None:
        v, plan = table.rows[variant], plans[variant]
        place = place_of(variant, seed, lr if tried else None)
        trained = place
        if v.weights:  # of the first row's run, at the rate that it chose
            lr = _paired.chosen(read(log, name)).get(first)
            trained = place_of(first, seed, lr if seed == seeds[0] else None)
        runs = [trained] if len(v.runs) == 1 else [place / str(i) for i in range(len(v.runs))]
        steps = plan[-1]["steps"]
        configs = [config_of(start, part, p["steps"], runs)
                   for part, p in zip(v.runs, plan, strict=True)]  # fmt: skip
        for config, path in zip(configs, runs, strict=True):
            config.seed, config.lr = seed, config.lr if lr is None else lr
            if not v.weights:
                _runs.train(config, path)
        if v.weights:
            _runs.measure(trained, v.weights, place, steps)
        elif v.together:
            _runs.measure_together(runs, place, steps)
        else:
            place = runs[-1]
        row = {"table": name, "variant": variant, "seed": seed, "lr": configs[-1].lr}
        row |= {"tried": tried, **plan[-1], "steps": sum(p["steps"] for p in plan)}
        row["compile_core_s"] = sum(p["compile_core_s"] for p in plan)
        if v.together:
            row["weights"] = sum(p["weights"] for p in plan)
        batches = [c.batch for c in configs]
        row |= _runs.outcome(runs, place, steps, batches, v.together)
        if table.frechet and judge:
            row |= _runs.quality(runs[-1], judge(), start.data_dir)
        if row not in read(log, name):
            with log.open("a") as f:
                f.write(f"\n{json.dumps(row)}\n")  # on a line of its own in any case
        note(f"{name}, {variant}, seed {seed}, lr {row['lr']:g}: {row['bits_per_dim']:.4f}")

    for seed in seeds:
        for variant, v in table.rows.items():
            best = _paired.chosen(read(log, name)).get(variant)
            tried = len(v.lrs) > 0 and seed == seeds[0]
            for lr in v.lrs if tried else (best,):
                try:
                    run(variant, seed, lr, tried)
                except UserError as e:  # the others are worth having all the same
                    note(
                        f"{name}, {variant}, seed {seed}{f', lr {lr:g}' if lr else ''} failed: {e}"
                    )


def judge_of(args: argparse.Namespace) -> Path:
    """The classifier that scores samples: the one named, or one of 1,200 steps of its own."""
    if args.judge:
        return args.judge
    config = _common.config_file(f"{args.work}_classifier")
    config.seed, config.steps, config.report, config.data_dir = 1, 1200, False, args.data_dir
    if not (args.out / "judge" / "eval" / f"{config.steps}.json").exists():
        _runs.train(config, args.out / "judge")
    return args.out / "judge"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", default="digits", choices=WORK)
    tables = dict.fromkeys(name for work in WORK.values() for name in work.tables)
    parser.add_argument("--table", nargs="+", default=["networks"], choices=tables)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--core-seconds", type=float, default=150.0, help="of the steps of a run")
    parser.add_argument("--lr", type=float, nargs="+", help="try these for every row, first seed")
    parser.add_argument("--rows", nargs="+", help="only these, the first row with them")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data_dir", default="", help="tensorflow-datasets folder")
    parser.add_argument("--judge", type=Path, help="a classifier's run, for Frechet distances")
    parser.add_argument("--show", action="store_true", help="print finished rows only")
    args = parser.parse_args()
    if not 0.0 < args.core_seconds < math.inf:
        parser.error(f"--core-seconds={args.core_seconds:g} must be above 0 and finite")
    if args.out.is_file():
        parser.error(f"--out={args.out} is a file: name a folder")
    args.out = args.out.absolute()
    work, start = WORK[args.work], start_of(args.work, args.data_dir)
    cpu_devices.share(start.batch)
    try:
        for name in args.table:
            if name not in work.tables:
                raise ConfigError(f"{args.work} has no table {name}, only {', '.join(work.tables)}")
            full = f"{args.work}-{name}"
            if not args.show:
                table = work.tables[name].only(args.rows, args.lr)
                cache.remember()
                fill(
                    full, table, start, args.seeds, args.core_seconds, args.out,
                    lambda: judge_of(args),
                )  # fmt: skip
            rows = read(args.out / "rows.jsonl", full)
            print(
                f"{full}, {args.core_seconds:g} core-seconds:\n\n{_paired.show(rows)}\n", flush=True
            )
    except (UserError, Preempted) as e:
        print(f"{'stopped' if isinstance(e, Preempted) else 'error'}: {e}", file=sys.stderr)
        sys.exit(e.exit_code)


if __name__ == "__main__":
    main()
