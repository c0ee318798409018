r"""GANs, students and their teachers in one table: time, quality, modes, bits, all seeds.

    python -m benchmarks.rivals --judge=runs/judge --out=runs/rivals \\
        --row='GAN=runs/gan0,runs/gan1' --row='student, 4 steps=runs/four' \\
        --row='teacher, 50 calls=runs/digits;dpmpp_2m();50'

A row is a name, the runs of its seeds, and for a diffusion model the sampler and its steps.
`--judge` is a classifier that trained none of them: class accuracy and the features of all
distances. Of `stacked(...)` data it looks at each channel. Compilation is not in the times. Rows
that are in `OUT/rows.jsonl` are not measured again.
"""

import argparse
import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import _runs
from diffusion_jax import saved_config
from diffusion_jax.evaluation import mode_coverage
from diffusion_jax.evaluation.features.base import Features
from diffusion_jax.experiment import Experiment, open_run
from diffusion_jax.experiment.measures import features, sample_quality as quality_lib
from diffusion_jax.experiment.sampling import run_sampler
from diffusion_jax.experiment.sampling.samples import Samples
from diffusion_jax.runtime import cpu_devices

_FIGURES = ("frechet", "kid", "precision", "recall", "accuracy")
_TIMED = 3


def parse(row: str) -> tuple[str, list[str], dict[str, Any]]:
    """`NAME=RUN[,RUN...][;SAMPLER;STEPS]`: the name, the runs, settings of sampling."""
    head, *how = row.split(";")
    name, _, runs = head.rpartition("=")
    if not name or not runs or len(how) not in (0, 2):
        raise SystemExit(f"--row={row!r}: write NAME=RUN,RUN or NAME=RUN;SAMPLER;STEPS")
    if how and not how[1].isdigit():
        raise SystemExit(f"--row={row!r}: {how[1]!r} is no number of steps")
    settings = {"sampler": how[0], "sample.steps": int(how[1])} if how else {}
    return name, runs.split(","), settings


def opened(path: str, settings: dict[str, Any], args: argparse.Namespace) -> Experiment:
    """A run with the settings of a row; without guidance unless it is a student's own."""
    config = saved_config.read(saved_config.find(Path(path)))
    for key, value in {**settings, **({"guidance": "none()"} if settings else {})}.items():
        config.update_from_flattened_dict({key: value})
    config.data_dir = args.data_dir
    config.sample.num, config.sample.batch = args.num, min(args.num, 500)
    judged = args.judge if config.conditional else ""
    by_judge = f"classifier(checkpoint={str(args.judge)!r})" if judged else "pixels()"
    config.quality.update(
        {"features": by_judge, "classifier": str(judged), "nearest": "", "split": "train",
         "metrics": ("frechet", "kid", "coverage")}
    )  # fmt: skip
    return Experiment(config, args.out.absolute(), path)


def timed(run: Experiment, params: Any) -> tuple[Any, np.ndarray, dict[str, float]]:
    """The sampler, its images, and images a second in batches and milliseconds for one."""
    draw = run_sampler.compiled(run, params)
    seed = run.config.sample.seed
    draw(seed, quiet=True)
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


def by_channel(images: np.ndarray, judge: str, classes: int) -> np.ndarray:
    """The number that a judge of single channels reads in stacked images, `[N]`."""
    run = open_run(judge)
    c = features.open_classifier(run, judge)
    ask = features.extractor(
        run, Features("classes", run.source.num_classes, c.logits, "", c.params)
    )
    flat = np.moveaxis(images, -1, 1).reshape(-1, *images.shape[1:3], 1)
    digits = np.concatenate([r.argmax(1) for r in ask(flat, label="modes")]).reshape(-1, 3)
    k = round(classes ** (1 / 3))
    return digits @ np.array([k * k, k, 1])


def bits(path: str) -> float | None:
    """The bound in the newest evaluation of a run; None without one."""
    found = sorted(Path(path).glob("eval/[0-9]*.json"), key=lambda p: p.stat().st_mtime)
    results = [json.loads(p.read_text()) for p in found]
    values = [r["result"]["bits_per_dim"] for r in results if "bits_per_dim" in r.get("result", {})]
    return values[-1] if values else None


def measure(path: str, settings: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """The figures of one run."""
    if not (args.judge / "config.json").exists():
        raise SystemExit(
            f"--judge={args.judge}: there is no run; train one as configs/digits_classifier.py"
        )
    run = opened(path, settings, args)
    params, _ = run.weights()
    draw, images, row = timed(run, params)
    stacked = run.source.num_classes > 0 and not run.config.conditional
    bench = quality_lib.open_bench(run)
    found = bench.figures(Samples(images, draw.labels, {}, ""))[0]
    headline = {k: v[0] for k, v in quality_lib.headline(found).items()}
    row |= {k: headline.get(k) for k in _FIGURES}
    row["weights"] = sum(a.size for a in jax.tree.leaves(params))
    row["calls"] = draw.describe()["network_calls"]
    row["core_s"] = _runs.pace(Path(path), run.config.batch)["core_s"]
    row["bits_per_dim"] = bits(path)
    if "classes" in found:
        row["jensen_shannon_bits"] = headline.get("jensen_shannon_bits")
    if stacked:
        judged = by_channel(images, str(args.judge), run.source.num_classes)
        row["modes"] = mode_coverage.found(judged, run.source.num_classes)
    return row


def collapsed(row: dict[str, Any]) -> bool:
    """Recall below 0.2, or fewer than nine tenths of the modes that a perfect sampler finds."""
    lost = "modes" in row and row["modes"]["found"] < 0.9 * row["modes"]["floor_found"]
    return lost or (row["recall"] is not None and row["recall"] < 0.2)


def _mean(values: list[float | None]) -> str:
    known = [v for v in values if v is not None and not math.isnan(v)]
    if not known:
        return "none"
    mean = statistics.mean(known)
    if len(known) == 1:
        return f"{mean:.4g}"
    return f"{mean:.4g} +- {statistics.stdev(known) / len(known) ** 0.5:.2g}"


def show(rows: list[dict[str, Any]]) -> str:
    """The table in markdown: mean and standard error over seeds, and the worst of them."""
    heads = ("", "calls", "ms for one", "images/s", "training core-s", "weights", "Frechet",
             "worst", "KID", "precision", "recall", "class accuracy", "modes", "KL, nats",
             "bits/dim", "collapsed")  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name in dict.fromkeys(r["name"] for r in rows):
        own = [r for r in rows if r["name"] == name]
        of = {k: _mean([r[k] for r in own]) for k in (*_FIGURES, "ms_for_one", "images_per_s",
                                                      "core_s", "bits_per_dim")}  # fmt: skip
        modal = [r["modes"] for r in own if "modes" in r]
        cells = (
            name, str(own[0]["calls"]), of["ms_for_one"], of["images_per_s"], of["core_s"],
            f"{own[0]['weights']:,}", of["frechet"], f"{max(r['frechet'] for r in own):.4g}",
            of["kid"], of["precision"], of["recall"], of["accuracy"],
            f"{_mean([m['found'] for m in modal])} of {modal[0]['modes']}" if modal else "",
            f"{_mean([m['kl'] for m in modal])}, floor {modal[0]['floor_kl']:.2g}" if modal else "",
            of["bits_per_dim"], f"{sum(map(collapsed, own))} of {len(own)}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measures what is missing, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--row", action="append", required=True, help="NAME=RUN,RUN[;SAMPLER;STEPS]"
    )
    parser.add_argument("--judge", type=Path, required=True, help="a classifier's run")
    parser.add_argument("--num", type=int, default=2000, help="samples of a run")
    parser.add_argument("--data_dir", default="", help="tensorflow-datasets folder")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    log = args.out / "rows.jsonl"
    cpu_devices.share(min(args.num, 500))
    kept = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    rows = []
    for name, runs, settings in map(parse, args.row):
        for path in runs:
            if not (Path(path) / "config.json").exists():
                raise SystemExit(f"--row: there is no run in {path!r}")
            what = {"run": path, "settings": settings, "num": args.num, "judge": str(args.judge)}
            same = [r for r in kept if {k: r.get(k) for k in what} == what]
            if not same:
                same = [{**what, **measure(path, settings, args)}]
                with log.open("a") as f:
                    f.write(json.dumps(same[0]) + "\n")
            rows.append({**same[0], "name": name})
    print(show(rows))


if __name__ == "__main__":
    main()
