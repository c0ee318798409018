r"""Sample quality against network evaluations and against guidance weight, with images per second.

    python -m benchmarks.sample_quality --checkpoint=runs/digits --classifier=runs/clf \
        --judge=runs/judge

Prints two tables (markdown). A call is one evaluation of the guided denoiser, however often that
evaluates the network. With `--json=FILE` rows are saved and not run again: the full command takes
an hour or more on a CPU, and `--calls`, `--samplers` and `--weights` select parts of it. Frechet
distance uses features of an independent classifier (`--judge`) and all training images; `real
images` is the score of the test set. Every row starts from the same noise.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffusion_jax import saved_config
from diffusion_jax.experiment import Experiment
from diffusion_jax.experiment.measures import sample_quality as quality_lib
from diffusion_jax.experiment.sampling import sampling_method
from diffusion_jax.experiment.sampling.samples import Samples
from diffusion_jax.runtime import cpu_devices
from diffusion_jax.runtime.distributed import describe_devices
from diffusion_jax.sampling import generate
from diffusion_jax.types import Params

SAMPLERS = ("ddim()", "dpmpp_2m()", "unipc()", "heun()", "dpmpp_2m(eta=1.0)", "ancestral()")
CALLS = (5, 10, 20, 50, 250, 1000)
WEIGHTS = (0.0, 1.0, 1.5, 2.0, 3.0, 5.0)
GUIDANCE = {
    "cfg": "cfg(w={w})",
    "interval": "interval(cfg(w={w}), lo=-4.0, hi=2.0)",
    # From the unconditional prediction, so that weight 1 is Bayes' rule.
    "classifier": "classifier(scale={w}, checkpoint={classifier!r}, inner=cfg(w=0.0))",
}
# At weight 0 an interval drops the class only inside it, so its row is not "no guidance".


def measure(experiment: Experiment, params: Params, bench: Any, repeats: int) -> dict[str, float]:
    """Measures one row: draws and scores samples, and times all calls but the first.

    Args:
        experiment: the run with the row's settings.
        params: weights of the model.
        bench: the reference that samples are compared with.
        repeats: number of sets of samples; the Frechet distance is their mean.

    Returns:
        The row's results.
    """
    c = experiment.config.sample
    method = sampling_method.build(experiment, params)
    run = generate.compile_sampler(experiment.model, method, experiment.mesh)
    labels = generate.labels_for(experiment.model, c.num, ())

    def draw(num: int, seed: int) -> np.ndarray:
        shape = experiment.model.z_shape(experiment.source.shape)
        asked = None if labels is None else labels[:num]
        return generate.generate(params, run, shape, asked, num, c.batch, seed, experiment.mesh)

    began = time.perf_counter()
    draw(c.batch, c.seed)
    first = time.perf_counter() - began
    frechet, accuracy, seconds = [], [], 0.0
    for seed in range(c.seed, c.seed + repeats):
        began = time.perf_counter()
        images = draw(c.num, seed)
        seconds += time.perf_counter() - began
        found, _ = bench.figures(Samples(images, labels, {}, ""))
        frechet.append(found["frechet"]["value"])
        accuracy.append(found["classes"].get("accuracy", float("nan")))  # NaN if unconditional
    speed = repeats * c.num / seconds
    return {
        "network_calls": method.calls(experiment.model),
        "frechet": float(np.mean(frechet)),
        "frechet_se": float(np.std(frechet, ddof=1) / repeats**0.5) if repeats > 1 else 0.0,
        "accuracy": float(np.mean(accuracy)),
        "images_per_s": speed,
        "compile_s": max(first - c.batch / speed, 0.0),
    }


def judged(
    checkpoint: Path,
    judge: Path,
    work: Path,
    guidance: str,
    sampler: str,
    calls: int,
    num: int,
    data_dir: str = "",
) -> Experiment:
    """A run with the settings of one row: `num` samples, scored by the features of `judge`."""
    config = saved_config.read(saved_config.find(checkpoint))
    per_step = 2 if sampler == "heun()" else 1
    config.update({"guidance": guidance, "sampler": sampler, "data_dir": data_dir})
    config.sample.update({"num": num, "batch": 200, "steps": max(calls // per_step, 1)})
    features = f"classifier(checkpoint={str(judge)!r})"
    config.quality.update(
        {"features": features, "classifier": str(judge),
         "metrics": ("frechet",), "nearest": "", "split": "train"}
    )  # fmt: skip
    return Experiment(config, work.absolute(), str(checkpoint))


def settings(args: argparse.Namespace) -> Iterator[tuple[str, str, str, int]]:
    """`(table, sampler, guidance, calls)` of every row."""
    for calls in args.calls:
        for sampler in args.samplers:
            yield "calls", sampler, args.guidance, calls
    for kind, spec in GUIDANCE.items():
        for w in args.weights:
            yield kind, "dpmpp_2m()", spec.format(w=w, classifier=str(args.classifier)), 20


def cell(rows: list[dict[str, Any]], text: str, **wanted: Any) -> str:
    """The row with the `wanted` values, formatted by `text`."""
    found = [r for r in rows if all(r[k] == v for k, v in wanted.items())]
    return text.format(**found[0]) if found else "not run"


def show(
    rows: list[dict[str, Any]],
    weights: list[float],
    guidance: str,
    classifier: str,
    real: dict[str, float],
) -> str:
    """Both tables in markdown.

    Args:
        rows: all rows that have been measured.
        weights: guidance weights of the second table.
        guidance: guidance of the first table.
        classifier: the guiding classifier.
        real: results for real images.

    Returns:
        The text.
    """
    lines = [f"Frechet distance, class accuracy, images/s against calls, guidance {guidance}:", ""]
    names = [s.removesuffix("()") for s in SAMPLERS]
    lines += ["| calls | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    text = "{frechet:.3f}, {accuracy:.3f}, {images_per_s:.3g}"
    for n in sorted({r["calls"] for r in rows if r["table"] == "calls"}):
        wanted = {"table": "calls", "calls": n, "guidance": guidance}
        cells = [cell(rows, text, sampler=s, **wanted) for s in SAMPLERS]
        lines.append(f"| {n} | " + " | ".join(cells) + " |")
    title = "Class accuracy, Frechet distance, images/s against guidance weight, 2M, 20 steps:"
    lines += ["", title, ""]
    lines += ["| weight | " + " | ".join(GUIDANCE) + " |", "|---" * (len(GUIDANCE) + 1) + "|"]
    text = "{accuracy:.3f}, {frechet:.3f}, {images_per_s:.3g}"
    for w in weights:
        specs = {k: spec.format(w=w, classifier=classifier) for k, spec in GUIDANCE.items()}
        cells = [cell(rows, text, table=k, guidance=spec) for k, spec in specs.items()]
        lines.append(f"| {w:g} | " + " | ".join(cells) + " |")
    lines += ["", f"Real images (test): accuracy {real['accuracy']:.3f}, Frechet distance "
                  f"{real['frechet']:.3f} ({real['images']} images)."]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True, help="a conditional model's run")
    parser.add_argument("--classifier", type=Path, required=True, help="guiding classifier's run")
    parser.add_argument("--judge", type=Path, required=True, help="scoring classifier's run")
    parser.add_argument("--data_dir", default="", help="tensorflow-datasets folder")
    parser.add_argument("--num", type=int, default=2000, help="samples per set")
    parser.add_argument("--repeats", type=int, default=1, help="sets of samples per row")
    parser.add_argument("--calls", type=int, nargs="+", default=CALLS)
    parser.add_argument("--samplers", nargs="+", default=SAMPLERS)
    parser.add_argument("--guidance", default="none()", help="guidance of the first table")
    parser.add_argument(
        "--weights", type=float, nargs="*", default=WEIGHTS, help="guidance weights; may be empty"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("runs/benchmark"), help="folder for statistics"
    )
    parser.add_argument("--json", type=Path, help="write the results to this file")
    args = parser.parse_args()
    if args.judge.resolve() == args.classifier.resolve():
        parser.error(f"{args.judge} guides and judges, which biases its score; give another judge")

    def open_experiment(guidance: str, sampler: str, calls: int) -> Experiment:
        return judged(
            args.checkpoint, args.judge, args.work, guidance, sampler, calls, args.num,
            args.data_dir,
        )  # fmt: skip

    cpu_devices.share(200)
    first = open_experiment("none()", "ddim()", 5)
    params, _ = first.weights()
    bench = quality_lib.open_bench(first)
    floor = bench.floor()
    real = {"images": floor["images"], "frechet": floor["frechet"]["value"],
            "accuracy": floor["classes"]["accuracy"]}  # fmt: skip
    made_with = {"num": args.num, "repeats": args.repeats, "checkpoint": str(args.checkpoint),
                 "judge": str(args.judge), "devices": describe_devices()}  # fmt: skip
    kept = json.loads(args.json.read_text()) if args.json and args.json.is_file() else None
    if kept and {k: kept.get(k) for k in made_with} != made_with:
        parser.error(f"{args.json} was made with other settings than {made_with}; name another")
    rows = kept["rows"] if kept else []
    done = {(r["table"], r["sampler"], r["guidance"], r["calls"]) for r in rows}
    for table, sampler, guidance, calls in settings(args):
        if (table, sampler, guidance, calls) in done:
            continue
        found = measure(open_experiment(guidance, sampler, calls), params, bench, args.repeats)
        row = {"table": table, "sampler": sampler, "guidance": guidance, "calls": calls, **found}
        rows.append(row)
        print(json.dumps(row), flush=True)
        if args.json:
            record = {"jax": jax.__version__, **made_with, "real": real, "rows": rows}
            args.json.write_text(json.dumps(record, indent=1) + "\n")
    print(show(rows, args.weights, args.guidance, str(args.classifier), real))


if __name__ == "__main__":
    main()
