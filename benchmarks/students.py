"""Compares students of one teacher with equal numbers of steps: their plans and methods.

    python -m benchmarks.students --teacher=runs/teacher --calls 4 1 --out=runs/students

Each row is a run of `configs/digits_student.py` (or `--config`), trained for `--steps`. The results
are `agreement`, the rms distance in grey levels between samples of student and teacher from the
same noise. `dp` needs `--mode=inspect` of the teacher. Finished runs are not trained again.
"""

import argparse
import contextlib
import statistics
import sys
from pathlib import Path

from benchmarks import _common, _runs
from diffusion_jax.cli.modes import train as train_mode
from diffusion_jax.errors import Preempted, UserError
from diffusion_jax.experiment import open_experiment
from diffusion_jax.runtime import cache, cpu_devices

METHODS = {
    "segments": "segments(steps={n}, inner=4)",
    "halving": "halving(steps={n}, rounds=2)",
    "bootstrap": "bootstrap(steps={n})",
    "flow map": "flow_map(steps={n})",
    "Lagrangian": "flow_map(steps={n}, rule='lagrangian')",
    "sCM": "scm(steps={n})",
    "ECT": "ect(steps={n})",
}
EDGES = {"time": "uniform_t()", "log-SNR": "log_snr()", "dp": "dp(curve={curve!r})"}


def tasks(teacher: str, calls: list[int], methods: list[str], edges: list[str]) -> dict[str, str]:
    """The task of each row, by the row's name."""
    curves = sorted(Path(teacher).glob("inspect/*.json"), key=lambda p: p.stat().st_mtime)
    found = {}
    for n in calls:
        for method in methods:
            for edge in edges:
                if edge == "dp" and not curves:
                    raise SystemExit(f"dp: run --mode=inspect --workdir={teacher} first")
                plan = EDGES[edge].format(curve=str(curves[-1]) if curves else "")
                spec = METHODS[method].format(n=n)
                found[f"{n} call{'s' * (n > 1)}, {method}, equal in {edge}"] = (
                    f"distill(teacher={teacher!r}, method={spec}, edges={plan})"
                )
    return found


def agreement(folder: Path) -> float | None:
    """The final agreement of a run; None if it is not finished."""
    lines = _common.read_lines(folder / "metrics.jsonl")
    return next((r["test/agreement"] for r in lines if "test/agreement" in r), None)


def train(config: str, task: str, steps: int, seed: int, data_dir: str, folder: Path) -> float:
    """Trains a student, unless it is finished, and returns its agreement."""
    c = _common.config_file(config)
    c.task, c.steps, c.seed, c.data_dir = task, steps, seed, data_dir
    _runs.check_same(
        folder, c, ("task", "seed", "steps", "lr", "batch", "warmup", "optimizer", "objective")
    )
    if agreement(folder) is None:
        c.eval_every, c.save_every, c.report, c.sample.num = 0, max(steps // 4, 1), False, 0
        _runs.note(f"{folder}: {task}")
        with contextlib.redirect_stdout(sys.stderr):
            train_mode.run(open_experiment(c, folder))
    found = agreement(folder)
    assert found is not None
    return found


def show(found: dict[str, list[float]]) -> str:
    """The table in markdown: mean and standard error over seeds."""
    lines = ["| | agreement, grey levels | seeds |", "|---|---|---|"]
    for name, values in found.items():
        error = f" +- {statistics.stdev(values) / len(values) ** 0.5:.3f}" if values[1:] else ""
        lines.append(f"| {name} | {statistics.mean(values):.3f}{error} | {len(values)} |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", required=True, help="a work directory")
    parser.add_argument("--config", default="digits_student", help="the students' configuration")
    parser.add_argument("--calls", type=int, nargs="+", default=[4, 1])
    parser.add_argument("--methods", nargs="+", default=["segments"], choices=METHODS)
    parser.add_argument("--edges", nargs="+", default=list(EDGES), choices=EDGES)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--data_dir", default="", help="tensorflow-datasets folder")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rows = tasks(args.teacher, args.calls, args.methods, args.edges)
    cpu_devices.share(64)
    cache.remember()
    found: dict[str, list[float]] = {}
    try:
        for seed in args.seeds:
            for name, task in rows.items():
                folder = args.out.absolute() / name.replace(" ", "_").replace(",", "") / f"{seed}"
                value = train(args.config, task, args.steps, seed, args.data_dir, folder)
                found.setdefault(name, []).append(value)
    except (UserError, Preempted) as e:
        print(f"{'stopped' if isinstance(e, Preempted) else 'error'}: {e}", file=sys.stderr)
        sys.exit(e.exit_code)
    print(show(found))


if __name__ == "__main__":
    main()
