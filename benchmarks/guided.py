r"""Compares text guidance: none, classifier-free, by a CLIP, and both (as in GLIDE).

    python -m benchmarks.guided --checkpoint=runs/scenes --clip=runs/sclip --other=runs/sclip2 \
        --json=guided.json

`--clip` guides. Two independent judges score the samples: `--other`, a CLIP of clean images from
another seed, and `--judge`. Every row starts from the same noise and uses the captions of the test
split. Columns: how often the judge finds what the caption says; 100 times the cosine of image and
text, for the guiding CLIP and for the other one; how often an image's own text is the nearest, for
each CLIP; the leak, how much more the first score rose than the second (relative to the row without
guidance); Frechet distance, precision and recall in the other CLIP's embeddings; the information
between text and image in bits, according to the model; images per second (without the first set,
which compiles). Errors are standard errors over seeds. Sets that are already in `--json` are not
drawn again; `--rows` selects rows.
"""

import argparse
import json
import re
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffusion_jax import saved_config
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment, clip_model, other_runs
from diffusion_jax.experiment.measures import judges, sample_quality as quality_lib
from diffusion_jax.experiment.sampling import best_of, run_sampler
from diffusion_jax.experiment.sampling.samples import Samples
from diffusion_jax.networks.text_encoders.base import plain
from diffusion_jax.runtime import cpu_devices
from diffusion_jax.runtime.distributed import describe_devices
from diffusion_jax.types import Params

WEIGHTS = (1.5, 2.0, 3.0, 5.0)
SCALES = (1.0, 2.0, 5.0, 10.0)
INNER = {"": "", "null, ": ", inner=cfg(w=0.0)"}
NONE = "none"


def settings(clip: str) -> dict[str, str]:
    """The guidance of each row, by name; a CLIP guides the conditional or the null prediction.

    Args:
        clip: the run of the guiding CLIP.
    """
    rows = {NONE: "none()", "null": "cfg(w=0.0)"} | {f"cfg {w:g}": f"cfg(w={w})" for w in WEIGHTS}
    for form in ("bank", "logit"):
        for name, inner in INNER.items():
            for s in SCALES:
                rows[f"{name}{form} {s:g}"] = (
                    f"clip_guidance(checkpoint={clip!r}, scale={s}, form={form!r}{inner})"
                )
    rows["true 1"] = f"clip_guidance(checkpoint={clip!r}, scale=1.0, form='true')"
    for form in ("bank", "logit"):
        both = f"clip_guidance(checkpoint={clip!r}, scale=1.0, form={form!r}, inner=cfg(w=2.0))"
        rows[f"cfg 2, {form} 1"] = both
    return rows


def config_of(args: argparse.Namespace, guidance: str) -> Experiment:
    """The run of `--checkpoint` with the settings of one row."""
    c = saved_config.read(saved_config.find(args.checkpoint))
    c.update({"guidance": guidance, "sampler": args.sampler, "data_dir": args.data_dir})
    c.sample.update(
        {"num": args.num, "batch": min(args.batch, args.num), "steps": args.steps, "captions": (),
         "prompts": "", "best_of": 1}
    )  # fmt: skip
    c.eval.draws = args.draws
    c.quality.update(
        {"features": f"clip(checkpoint={str(args.other)!r})", "clip": str(args.other),
         "judge": args.judge, "metrics": ("frechet", "coverage"), "nearest": "", "split": "train",
         "floor": "test", "reference": "", "samples": "", "classifier": ""}
    )  # fmt: skip
    return Experiment(c, args.work.absolute(), str(args.checkpoint))


def figures(found: dict[str, Any], own: dict[str, Any]) -> dict[str, float]:
    """The columns for one set of images, from the bench's and the guiding CLIP's results."""
    return {
        **{f"right: {k}": v["value"] for k, v in found.get("judge", {}).items()},
        "own CLIP": own["score"],
        **({"own retrieval": own["retrieval"]} if "retrieval" in own else {}),
        "other CLIP": found["clip"]["score"],
        "retrieval": found["clip"]["retrieval"],
        "Frechet": found["frechet"]["value"],
        "precision": found["coverage"]["precision"],
        "recall": found["coverage"]["recall"],
    }


def measure(
    run: Experiment,
    params: Params,
    bench: quality_lib.Bench,
    own: clip_model.Clip,
    seeds: list[int],
) -> list[dict[str, float]]:
    """The columns of one row, for each seed.

    Args:
        run: the model's run, with the row's guidance.
        params: its weights.
        bench: judge and second CLIP.
        own: the guiding CLIP.
        seeds: seeds for the noise.

    Returns:
        A dict of columns for each seed.
    """
    judges.check_apart(run)
    made = run_sampler.compiled(run, params)
    lift = best_of.lift(run, params, made)
    texts, out = tuple(plain(t) for t in made.captions), []
    for i, seed in enumerate(seeds):
        began = time.perf_counter()
        images = made.levels(made(seed, quiet=True))
        took = time.perf_counter() - began
        found, _ = bench.figures(Samples(images, None, {}, "", texts))
        row = figures(found, judges.alike(own, images, texts))
        row["bits"] = float(lift(images).mean() / np.log(2.0))
        out.append(row | ({"images/s": len(images) / took} if i else {}))
    return out


def show(rows: list[dict[str, Any]], names: list[str], real: dict[str, float]) -> str:
    """The table in markdown, with the leak.

    Args:
        rows: `{"row", "seed", ...}` for every set of samples.
        names: names of the rows, in order.
        real: the columns of real images.

    Returns:
        The table, without rows that were not measured.
    """
    plain_rows = {r["seed"]: r for r in rows if r["row"] == NONE}

    def leak(r: dict[str, Any]) -> dict[str, float]:
        base = plain_rows.get(r["seed"])
        if base is None:
            return {}
        signs = (("own CLIP", 1.0), ("other CLIP", -1.0))
        return {"leak": sum(s * (r[k] - base[k]) for k, s in signs)}

    def with_leak(r: dict[str, Any]) -> dict[str, Any]:
        at = [*r].index("other CLIP") + 1
        items = [*r.items()]
        return {**dict(items[:at]), **leak(r), **dict(items[at:])}

    return table([with_leak(r) for r in rows], names, real, "guidance")


def table(rows: list[dict[str, Any]], names: list[str], real: dict[str, float], head: str) -> str:
    """A markdown table of means and standard errors over seeds; see `show`.

    Args:
        head: header of the first column.
    """
    columns = list(dict.fromkeys(k for r in rows for k in r if k not in ("row", "seed")))
    lines = [f"| {head} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    cells = [f"{real[c]:.4g}" if c in real else "" for c in columns]
    lines.append("| real images | " + " | ".join(cells) + " |")
    for name in names:
        mine = [r for r in rows if r["row"] == name]
        if mine:
            found = [[r[c] for r in mine if c in r] for c in columns]
            lines.append(f"| {name} | " + " | ".join(map(_cell, found)) + " |")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else None
    return f"{np.mean(values):.4g}" + ("" if error is None else f" +- {error:.2g}")


def kept(path: Path | None, made_with: dict[str, str]) -> dict[str, Any]:
    """The results of an earlier call in `--json`; empty if there are none.

    Raises:
        ConfigError: they were made with other settings.
    """
    if path is None or not path.is_file():
        return {}
    found = json.loads(path.read_text())
    if found["made_with"] != made_with:
        raise ConfigError(f"{path} was made with other settings than {made_with}; name another")
    return found


def keep(
    path: Path | None, made_with: dict[str, str], real: dict[str, float], rows: list[dict]
) -> None:
    """Writes the results so far to `--json`, if given."""
    if path is not None:
        record = {"made_with": made_with, "jax": jax.__version__, "devices": describe_devices(),
                  "real": real, "rows": rows}  # fmt: skip
        path.write_text(json.dumps(record, indent=1) + "\n")


def missing(rows: list[dict[str, Any]], name: str, seeds: list[int]) -> list[int]:
    """The seeds of a row that have not been measured."""
    done = {(r["row"], r["seed"]) for r in rows}
    return [s for s in seeds if (name, s) not in done]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True, help="a text-to-image run")
    parser.add_argument("--clip", type=Path, required=True, help="the CLIP that guides")
    parser.add_argument("--other", type=Path, required=True, help="the CLIP that judges")
    parser.add_argument("--judge", default="scenes()", help="or names()")
    parser.add_argument("--data_dir", default="", help="tensorflow-datasets folder")
    parser.add_argument("--num", type=int, default=500, help="samples per set")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sampler", default="dpmpp_2m()")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--draws", type=int, default=8, help="noise draws per image, for bits")
    parser.add_argument("--rows", default="", help="a regular expression that selects rows")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/benchmark"), help="folder for statistics"
    )
    parser.add_argument("--json", type=Path, help="write the results to this file")
    args = parser.parse_args()
    made_with = {k: str(getattr(args, k)) for k in ("checkpoint", "clip", "other", "judge", "num",
                                                    "sampler", "steps", "draws")}  # fmt: skip
    try:
        for name in ("checkpoint", "clip", "other"):
            other_runs.saved(f"--{name}", str(getattr(args, name)), None)
        there = kept(args.json, made_with)
    except ConfigError as e:
        parser.error(str(e))
    cpu_devices.share(args.batch)
    rows = there.get("rows", [])
    every = settings(str(args.clip))
    first = config_of(args, every["bank 1"])
    judges.check_apart(first)  # the guiding CLIP must not judge
    params, _ = first.weights()
    bench = quality_lib.open_bench(first)
    own = clip_model.opened(str(args.clip), data_dir=args.data_dir)
    split = first.source.split("test")
    scores = judges.alike(own, np.asarray(split.images), judges.texts_of(first, split))
    real = there.get("real") or figures(bench.floor() or {}, scores)
    for name, guidance in every.items():
        seeds = missing(rows, name, args.seeds)
        if not seeds or not re.search(args.rows, name):
            continue
        found = measure(config_of(args, guidance), params, bench, own, seeds)
        for seed, row in zip(seeds, found, strict=True):
            rows.append({"row": name, "seed": seed, **row})
            print(json.dumps(rows[-1]), flush=True)
        keep(args.json, made_with, real, rows)
    print(show(rows, [*every], real))


if __name__ == "__main__":
    main()
