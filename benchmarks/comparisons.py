"""Networks, weightings, optimisers, averages: bits per dimension at equal minutes or steps.

    python -m benchmarks.comparisons networks --minutes 10 --seeds 3 --folder runs/networks
    python -m benchmarks.comparisons weightings --minutes 5 --seeds 3 --folder runs/weightings

Each row is a run of `diffusion_jax.main`, in its own work directory, with its own command;
`--print` prints the commands and runs nothing. For equal minutes 60 steps are timed first,
compilation excluded, and the number of steps follows; `--steps` sets it for all. Finished runs are
not run again. Differences with paired errors: `--mode=compare` of two of the work directories.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

ROWS: dict[str, dict[str, dict[str, str]]] = {
    "networks": {
        "vdm_unet": {"network": "vdm_unet(width=32, depth=2, embed=64)"},
        "vdm_unet, weights of dit": {"network": "vdm_unet(width=64, depth=4)"},
        "unet": {"network": "unet(width=32, mults=(1, 2), blocks=2, attention=(4,))"},
        "dit": {"network": "dit(width=128, depth=6, heads=4, patch=1)", "lr": "1e-3"},
        "dit, patch 2": {"network": "dit(width=128, depth=6, heads=4, patch=2)", "lr": "1e-3"},
        "dit, shared": {
            "network": "dit(width=128, depth=6, heads=4, patch=1, share=True)", "lr": "1e-3",
        },
        "dit, rope": {
            "network": "dit(width=128, depth=6, heads=4, patch=1, position='rope')", "lr": "1e-3",
        },
        "uvit": {"network": "uvit(width=128, depth=6, heads=4, patch=1)", "lr": "1e-3"},
    },
    "weightings": {
        "bound": {},
        "sigmoid": {"objective": "weighted(weight=sigmoid())"},
        "edm": {"objective": "weighted(weight=edm())"},
        "eps": {"objective": "weighted(weight=eps())"},
    },
    "optimizers": {
        "adamw": {"optimizer": "adamw(b2=0.99, weight_decay=0.01)"},
        "muon": {"optimizer": "muon(weight_decay=0.01)"},
        "soap": {"optimizer": "soap(weight_decay=0.01)"},
    },
    "averages": {
        f"power({s})": {"ema": f"('power({s})',)"} for s in (0.05, 0.1, 0.2)
    },
}  # fmt: skip


def command(config: str, workdir: Path, changes: dict[str, str]) -> list[str]:
    """The words of a run."""
    fields = [f"--config.{k}={v}" for k, v in changes.items()]
    main = ["python", "-m", "diffusion_jax.main"]
    return [*main, f"--config={config}", f"--workdir={workdir}", *fields]


def run(words: list[str]) -> None:
    """Runs it with this Python; an error ends the comparison."""
    subprocess.run([sys.executable, *words[1:]], check=True)


def seconds_per_step(config: str, workdir: Path, changes: dict[str, str]) -> float:
    """Of the last forty of sixty steps; evaluation and compilation are not in it."""
    quick = {
        "steps": "60", "log_every": "20", "eval_every": "0", "save_every": "0", "report": "False",
        "eval.limit": "16", "eval.timesteps": "()", "sample.num": "2",
    }  # fmt: skip
    run(command(config, workdir, changes | quick))
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    at = {row["step"]: row["seconds"] for row in rows if "train/loss" in row}
    return (at[60] - at[20]) / 40


def figure(workdir: Path) -> str:
    """What the run's evaluation says."""
    newest = max((workdir / "eval").glob("*.json"), key=lambda p: int(p.stem))
    found = json.loads(newest.read_text())["result"]
    return f"{found['bits_per_dim']:.4f} +- {found['standard_error']:.4f}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=ROWS)
    parser.add_argument("--config", default="configs/digits.py")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--steps", type=int, default=0, help="equal steps in place of minutes")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--print", action="store_true", help="print the commands only")
    args = parser.parse_args()
    for name, changes in ROWS[args.what].items():
        place = args.folder / name.replace(", ", "-").replace(" ", "-").replace("(", "-").strip(")")
        steps, runs = args.steps, []
        if not steps and not args.print:
            each = seconds_per_step(args.config, place / "timed", changes)
            steps = max(round(60 * args.minutes / each), 1)
        for seed in range(args.seeds):
            how = {**changes, "seed": str(seed), "steps": str(steps or "STEPS"), "report": "False"}
            words = command(args.config, place / f"seed{seed}", how)
            if args.print:
                print(shlex.join(words))
                continue
            run(words)
            runs.append(figure(place / f"seed{seed}"))
        if runs:
            print(f"| {name} | {steps} steps | {'; '.join(runs)} |", flush=True)


if __name__ == "__main__":
    main()
