r"""Compares GANs, students and their teachers: time, quality, modes and bits, over seeds.

    python -m benchmarks.rivals --judge=runs/judge --out=runs/rivals \\
        --row='GAN=runs/gan0,runs/gan1' --row='student, 4 steps=runs/four' \\
        --row='teacher, 50 calls=runs/digits;dpmpp_2m();50' \\
        --row='teacher, guided=runs/digits;dpmpp_2m();50;cfg(w=1.5)'

A row is a name, the runs of its seeds, and for a diffusion model the sampler, its steps and its
guidance (none by default). `--judge` is an independent classifier, which gives the classes of
samples and the features for all distances; in `stacked(...)` data it judges each channel. Times do
not include compilation. Results in `OUT/rows.jsonl` for the same checkpoint are reused. Bits/dim
are those of `--mode=eval`, if that checkpoint was evaluated on the whole test set. Exported weights
can be used as a run: their training cost and bits/dim are taken from their card. `--sets 3` draws
three sets of samples from each run. The error is then over the sets if a row has one run, otherwise
over the means of its runs.
"""

import argparse
import hashlib
import itertools
import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import _common, _judges, _runs
from benchmarks._rivals_table import FIGURES, show
from diffusion_jax import saved_config
from diffusion_jax.errors import UserError
from diffusion_jax.evaluation import histogram, mode_coverage
from diffusion_jax.experiment import Experiment, exported, open_run
from diffusion_jax.experiment.measures import sample_quality as quality_lib
from diffusion_jax.experiment.sampling import run_sampler
from diffusion_jax.experiment.sampling.samples import Samples
from diffusion_jax.runtime import cpu_devices
from diffusion_jax.training import restore
from diffusion_jax.training.state import ema_key

_TIMED = 3


def parse(row: str) -> tuple[str, list[str], dict[str, Any]]:
    """Parses `NAME=RUN[,RUN...][;SAMPLER;STEPS[;GUIDANCE]]` to name, runs and sampling settings."""
    head, *how = row.split(";")
    name, _, runs = head.rpartition("=")
    if not name or not runs or len(how) not in (0, 2, 3):
        raise SystemExit(f"--row={row!r}: write NAME=RUN,RUN or NAME=RUN;SAMPLER;STEPS;GUIDANCE")
    if how and not how[1].isdigit():
        raise SystemExit(f"--row={row!r}: {how[1]!r} is not a number of steps")
    guidance = how[2] if len(how) == 3 else "none()"
    settings = {"sampler": how[0], "sample.steps": int(how[1]), "guidance": guidance} if how else {}
    return name, runs.split(","), settings


def opened(
    path: str, settings: dict[str, Any], args: argparse.Namespace, drawn: int = 0
) -> Experiment:
    """Opens a run with the settings of a row and the seed of its set of samples."""
    config = saved_config.read(saved_config.find(Path(path)))
    for key, value in settings.items():
        config.update_from_flattened_dict({key: value})
    config.data_dir = args.data_dir
    config.sample.num, config.sample.batch = args.num, min(args.num, args.batch)
    config.sample.seed += drawn
    run = Experiment(config, args.out.absolute(), path)
    judged = run.source.num_classes > 0 and not _judges.stacked(
        run.source, open_run(args.judge).source
    )
    by_judge = f"classifier(checkpoint={str(args.judge)!r})" if judged else "pixels()"
    config.quality.update(
        {"features": by_judge, "classifier": str(args.judge) if judged else "", "nearest": "",
         "split": "train", "metrics": ("frechet", "kid", "coverage")}
    )  # fmt: skip
    return run


def timed(run: Experiment, params: Any) -> tuple[Any, np.ndarray, dict[str, float]]:
    """The sampler, its images, and its speed: images per second, and milliseconds for one image."""
    draw = run_sampler.compiled(run, params)
    seed, asked = run.config.sample.seed, run.config.sample.num
    run.config.sample.num = run.config.sample.batch
    draw(seed, quiet=True)  # compiles
    run.config.sample.num = asked
    began = time.perf_counter()
    images = draw.levels(draw(seed, quiet=True))
    speed = len(images) / (time.perf_counter() - began)
    config = saved_config.from_dict(saved_config.to_dict(run.config))
    config.sample.num = config.sample.batch = 1
    alone = run_sampler.compiled(Experiment(config, run.workdir, run.checkpoint), params)
    took = []
    for i in range(_TIMED + 1):
        began = time.perf_counter()
        alone(i, quiet=True)
        took.append(time.perf_counter() - began)
    return draw, images, {"images_per_s": speed, "ms_for_one": 1000 * min(took[1:])}


def bits(path: str, step: int, weights: str | None = None) -> dict[str, Any]:
    """Bits/dim of a run at a step on its whole test set, and whether it is a bound.

    This is the newest bound, or else the newest density that is a likelihood; None without either.
    With `weights`, only evaluations of these weights count.
    """
    if exported.is_exported(path):
        figure = exported.card(path).get("figure") or {"bits_per_dim": None}
        return {"bits_per_dim": figure["bits_per_dim"], "bound": True}
    files = sorted(Path(path).glob("eval/[0-9]*.json"), key=lambda p: p.stat().st_mtime)
    found: dict[bool, float] = {}
    for report in (json.loads(p.read_text()) for p in files):
        result, data, model = (report.get(k, {}) for k in ("result", "data", "model"))
        whole = data.get("images") == data.get("of")
        split = model.get("config", {}).get("eval", {}).get("split")
        valid = "part" not in result and (  # of whole images
            report.get("certificate", {}).get("holds", True)
            and report.get("estimator", {}).get("bound") is not False
        )
        asked = (model.get("step"), split) == (step, "test") and whole and valid
        asked = asked and (weights is None or model.get("weights", weights) == weights)
        if "bits_per_dim" in result and asked:
            found["bound_by_timesteps" in result] = result["bits_per_dim"]
    bound = True in found
    return {"bits_per_dim": found[bound], "bound": bound} if found else {"bits_per_dim": None}


def measure(
    path: str, settings: dict[str, Any], args: argparse.Namespace, drawn: int = 0
) -> dict[str, Any]:
    """The results for one set of samples of a run."""
    if not (args.judge / "config.json").exists():
        raise SystemExit(
            f"--judge={args.judge}: there is no run; train one with configs/digits_classifier.py"
        )
    run = opened(path, settings, args, drawn)
    params, _ = run.weights()
    draw, images, row = timed(run, params)
    bench = _judges.bench_of(run, args.judge)
    found = bench.figures(Samples(images, draw.labels, {}, ""))[0]
    headline = {k: v[0] for k, v in quality_lib.headline(found).items()}
    row |= {k: headline.get(k) for k in FIGURES}
    row["weights"] = sum(a.size for a in jax.tree.leaves(params))
    row["calls"] = draw.describe()["network_calls"]
    row["core_s"] = core_seconds(path, run.config.batch)
    if "classes" in found:
        shares = found["classes"]
        row["variation"] = shares["total_variation"]
        row["variation_by_chance"] = histogram.spread(
            np.array(shares["samples"]), np.array(shares["data"]), len(images)
        )
    if _judges.stacked(run.source, open_run(args.judge).source):
        judged = _judges.by_channel(images, args.judge)
        row["modes"] = mode_coverage.found(judged, run.source.num_classes)
    if run.source.num_classes:
        row["judge_errs"] = _judges.errors_of(args.judge)
    return row


def core_seconds(path: str, batch: int) -> float | None:
    """Processor time of a run's training; for exported weights, from their card."""
    if exported.is_exported(path):
        return exported.card(path).get("core_seconds")
    return _runs.pace(Path(path), batch)["core_s"]


def weights_of(path: str) -> tuple[str, int]:
    """An identifier of the newest weights of a run, and their step."""
    if exported.is_exported(path):
        said = exported.card(path)
        return said["sha256"], said["step"]
    newest = restore.locate(Path(path))[0]
    return newest.name, int(newest.name)


def sampled(path: str) -> str | None:
    """The weight average that samples are drawn with; None for exported weights."""
    if exported.is_exported(path):
        return None
    return ema_key(saved_config.read(Path(path) / "config.json").ema[0])


def trained(path: str) -> str:
    """SHA-256 of the record of a run's newest checkpoint; empty for exported weights."""
    if exported.is_exported(path):
        return ""
    meta = restore.read_meta(restore.locate(Path(path))[0])
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()[:16]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--row", action="append", required=True, help="NAME=RUN,RUN[;SAMPLER;STEPS[;GUIDANCE]]"
    )
    parser.add_argument("--judge", type=Path, required=True, help="a classifier's run")
    parser.add_argument("--num", type=_common.at_least(1), default=2000, help="samples per set")
    parser.add_argument(
        "--batch", type=_common.at_least(1), default=500, help="samples drawn at once"
    )
    parser.add_argument("--sets", type=_common.at_least(1), default=1, help="sample sets per run")
    parser.add_argument("--data_dir", default="", help="tensorflow-datasets folder")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    try:
        print(show(fill(args)))
    except UserError as e:
        raise SystemExit(f"error: {e}") from None


def fill(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures all rows and runs that have not been measured; returns all rows."""
    args.out.mkdir(parents=True, exist_ok=True)
    log = args.out / "rows.jsonl"
    cpu_devices.share(min(args.num, args.batch))
    kept = _common.read_lines(log)
    rows = []
    for name, runs, settings in map(parse, args.row):
        for path, drawn in itertools.product(runs, range(args.sets)):
            if not (Path(path) / "config.json").exists():
                raise SystemExit(f"--row: there is no run in {path!r}")
            newest, step = weights_of(path)
            what = {"run": path, "checkpoint": newest, "settings": settings, "num": args.num,
                    "batch": args.batch, "judge": str(args.judge),
                    "trained": trained(path), "judged": trained(str(args.judge))}  # fmt: skip
            what |= {"set": drawn} if drawn else {}
            asked = {"set": None} | what
            same = [r for r in kept if {k: r.get(k) for k in asked} == asked]
            if not same:
                same = [{**what, **measure(path, settings, args, drawn)}]
                with log.open("a") as f:
                    f.write(f"\n{json.dumps(same[0])}\n")  # on a line of its own in any case
            rows.append({**same[0], **bits(path, step, sampled(path)), "name": name})
    return rows


if __name__ == "__main__":
    main()
