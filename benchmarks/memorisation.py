"""Measures memorisation: the effect of settings, and of the number of training images.

    python -m benchmarks.memorisation --table effects --seeds 0 1 2 --out runs/memorisation
    python -m benchmarks.memorisation --table sizes --out runs/memorisation

`effects`: digits, 200 training images, one setting changed in each row (dropout, weight decay,
augmentation, averaging, early stopping, width). `sizes`: for each number of training images, two
runs on disjoint training sets, and how well their samples from the same noise agree; also plotted
in `sizes.png`. Runs are `OUT/<table>/ROW/seedN`. After an interruption the same command resumes.
`rows.jsonl` has every finished row, and `--show` prints them.
"""

import argparse
import contextlib
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from benchmarks import _common, _runs
from diffusion_jax.cli.report import charts
from diffusion_jax.errors import ConfigError, Preempted, UserError
from diffusion_jax.evaluation import membership
from diffusion_jax.experiment import Experiment, open_run
from diffusion_jax.experiment.measures import memorisation, run_agreement
from diffusion_jax.experiment.sampling import samples as samples_lib
from diffusion_jax.runtime import cache, cpu_devices

_IMAGES = 200  # number of training images in the effects
SIZES = (20, 50, 100, 200, 350, 700)
_NETWORK = "vdm_unet(width={width}, depth=2, embed=64, dropout={dropout})"


@dataclass(frozen=True)
class Effect:
    """A row of the effects.

    Attributes:
        settings: fields of the configuration that differ from the first row's.
        measure: fields of `eval` to evaluate the first row's run with; empty for a separate run.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    measure: dict[str, str] = field(default_factory=dict)


EFFECTS = {
    "plain": Effect(),
    "dropout 0.1": Effect({"network": _NETWORK.format(width=32, dropout=0.1)}),
    "dropout 0.3": Effect({"network": _NETWORK.format(width=32, dropout=0.3)}),
    "weight decay 0": Effect({"optimizer": "adamw(b2=0.99, weight_decay=0.0)"}),
    "weight decay 0.1": Effect({"optimizer": "adamw(b2=0.99, weight_decay=0.1)"}),
    "rotate": Effect({"augment": "rotate()"}),
    "crop": Effect({"augment": "crop(pad=1)"}),
    "width 16": Effect({"network": _NETWORK.format(width=16, dropout=0.0)}),
    "no average": Effect(measure={"weights": "params"}),
    "early stopping": Effect(measure={"checkpoint": "best"}),
}


def config_of(data: str, steps: int, seed: int, settings: dict[str, Any]) -> ConfigDict:
    """The configuration of a run: that of digits without dropout, with frequent validation."""
    c = _common.config_file("digits")
    c.network = _NETWORK.format(width=32, dropout=0.0)
    c.data, c.seed, c.steps = data, seed, steps or c.steps
    c.warmup = min(c.warmup, c.steps // 10)
    c.eval_every = c.save_every = max(c.steps // 16, 1)
    c.valid_draws, c.eval.timesteps, c.report = 8, (), False
    c.guidance, c.sampler = "none()", "dpmpp_2m()"
    c.sample.num, c.sample.batch, c.sample.steps = 0, 200, 20
    c.update(settings)
    return c


def trained(config: ConfigDict, folder: Path, images: int) -> Experiment:
    """Trains a run unless it is finished, and opens it to draw `images` samples."""
    _runs.train(config, folder)
    run = open_run(folder)
    run.config.sample.num = images
    return run


def figures(run: Experiment, draws: int = 0) -> dict[str, float]:
    """Memorisation of a run: gap and membership, if there are enough images, and copies."""
    run.config.eval.draws = draws or run.config.eval.draws
    train, test = (run.source.split(s) for s in ("train", "test"))
    with contextlib.redirect_stdout(sys.stderr):
        row: dict[str, float] = {"step": run.loaded[1]["step"]}
        if len(train) >= membership.LEAST:
            sides = [memorisation.score(run, run.params, s) for s in (train, test)]
            gammas = memorisation.edges(
                run, run.params, run.config.eval.draws, run.config.audit.bands
            )
            gap, found = memorisation.members(*sides, gammas)
            row |= {"gap": gap["bits_per_dim"], "gap_se": gap["standard_error"],
                    "test": gap["held_out"]["bits_per_dim"], "auroc": found["auroc"],
                    "band_auroc": found["best_band"]["auroc"]}  # fmt: skip
        near, _ = memorisation.copies(run, next(samples_lib.draw(run, 1)), train, test)
    count = near["rows"]["samples"]
    row |= {"copies": near["copies"] / count, "singled_out": near["singled_out"] / count,
            "ratio": near["ratio"]}  # fmt: skip
    jax.clear_caches()
    return row


def effect(name: str, seed: int, out: Path, steps: int, images: int) -> dict[str, Any]:
    """Measures a row of the effects."""
    e = EFFECTS[name]
    data = f"half(digits(), size={_IMAGES}, seed={seed})"
    folder = out / "effects" / ("plain" if e.measure else name).replace(" ", "_") / f"seed{seed}"
    run = trained(config_of(data, steps, seed, e.settings), folder, images)
    for key, value in e.measure.items():
        run.config.eval[key] = value
    return {"table": "effects", "row": name, "seed": seed, **figures(run)}


def size(n: int, seed: int, out: Path, steps: int, images: int) -> dict[str, Any]:
    """Measures a row of the sizes: two runs on disjoint parts of the digits."""
    runs = []
    for part in (0, 1):
        data = f"half(digits(), part={part}, size={n}, seed={seed})"
        folder = out / "sizes" / str(n) / f"seed{seed}-part{part}"
        runs.append(trained(config_of(data, steps, seed, {}), folder, images))
    with contextlib.redirect_stdout(sys.stderr):
        both = run_agreement.measure(*runs)
    found = {k: both[k] for k in ("cosine", "cosine_of_others", "rms")}
    found["rms_to_train"] = statistics.mean(both["rms_to_train"])
    return {"table": "sizes", "row": n, "seed": seed, **found, **figures(runs[0])}


_TABLES = {"effects": (effect, tuple(EFFECTS)), "sizes": (size, SIZES)}
_SHOWN = {
    "effects": ("gap", "auroc", "band_auroc", "test", "singled_out", "ratio"),
    "sizes": ("cosine", "cosine_of_others", "rms", "rms_to_train", "singled_out", "copies", "gap",
              "auroc"),
}  # fmt: skip


def fill(table: str, rows: Sequence[Any], args: argparse.Namespace) -> None:
    """Measures all missing rows, seed by seed."""
    make, log = _TABLES[table][0], args.out / "rows.jsonl"
    how = {"steps": args.steps, "images": args.images}
    if any(r.get(k, v) != v for r in read(args.out, table) for k, v in how.items()):
        raise ConfigError(f"{log} was made with other --steps or --images; name another --out")
    for seed in args.seeds:
        for row in rows:
            if any((r["row"], r["seed"]) == (row, seed) for r in read(args.out, table)):
                continue
            try:
                found = make(row, seed, args.out, args.steps, args.images)
            except UserError as e:  # continue with the other rows
                note(f"{table}, {row}, seed {seed} failed: {e}")
                continue
            with log.open("a") as f:
                f.write(f"\n{json.dumps(found | how)}\n")  # on a line of its own in any case
            note(f"{table}, {row}, seed {seed}: {found}")


def read(out: Path, table: str) -> list[dict[str, Any]]:
    """The finished rows of a table."""
    log = out / "rows.jsonl"
    return [r for r in _common.read_lines(log) if r["table"] == table]


def means(rows: list[dict[str, Any]], key: str) -> dict[Any, tuple[float, float | None]]:
    """Mean over seeds for each row, with its standard error if there are several seeds."""
    out = {}
    for name in dict.fromkeys(r["row"] for r in rows):
        values = [r[key] for r in rows if r["row"] == name and r.get(key) is not None]
        if values:
            spread = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
            out[name] = statistics.mean(values), spread
    return out


def show(table: str, rows: list[dict[str, Any]]) -> str:
    """The table in markdown."""
    columns = {key: means(rows, key) for key in _SHOWN[table]}
    lines = []
    for name in dict.fromkeys(r["row"] for r in rows):
        line = {"training images" if table == "sizes" else "row": name,
                "seeds": sum(r["row"] == name for r in rows)}  # fmt: skip
        for key, found in columns.items():
            value, error = found.get(name, (None, None))
            shown = "" if value is None else f"{value:.3f}"
            line[key.replace("_", " ")] = shown + ("" if error is None else f" +- {error:.3f}")
        lines.append(line)
    return _common.table(lines)


def plot(path: Path, rows: list[dict[str, Any]]) -> None:
    """Plots agreement and copies against the number of training images."""
    same, copied = (charts.Chart("training images", y) for y in ("cosine", "share of samples"))
    for chart, names in ((same, ("cosine", "cosine_of_others")), (copied, ("singled_out",))):
        for key in names:
            found = sorted(means(rows, key).items())
            chart.line([n for n, _ in found], [v for _, (v, _) in found],
                       key.replace("_", " "), "o-")  # fmt: skip
        chart.axes.set_xscale("log")
        sizes = sorted({r["row"] for r in rows})
        chart.axes.set_xticks(sizes, [str(n) for n in sizes])
        chart.axes.minorticks_off()
    charts.save(path, same, copied)


def note(text: str) -> None:
    """Prints progress to stderr."""
    print(f"memorisation: {text}", file=sys.stderr, flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", default="effects", choices=_TABLES)
    parser.add_argument("--rows", nargs="+", help="only these rows")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--steps", type=int, default=0, help="training steps; 0 for the configuration's"
    )
    parser.add_argument("--images", type=int, default=200, help="samples to draw from each run")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--show", action="store_true", help="print finished rows only")
    args = parser.parse_args()
    args.out = args.out.absolute()
    try:
        if not args.show:
            known = _TABLES[args.table][1]
            rows = [r for r in known if args.rows is None or str(r) in args.rows]
            unknown = set(args.rows or ()) - {str(r) for r in known}
            if unknown:
                there = ", ".join(map(str, known))
                raise ConfigError(f"no row {', '.join(unknown)}; there are {there}")
            cpu_devices.share(_common.config_file("digits").batch)
            cache.remember()
            args.out.mkdir(parents=True, exist_ok=True)
            fill(args.table, rows, args)
        found = read(args.out, args.table)
        print(show(args.table, found))
        if args.table == "sizes" and found:
            plot(args.out / "sizes.png", found)
    except (UserError, Preempted) as e:
        print(f"{'stopped' if isinstance(e, Preempted) else 'error'}: {e}", file=sys.stderr)
        sys.exit(e.exit_code)


if __name__ == "__main__":
    main()
