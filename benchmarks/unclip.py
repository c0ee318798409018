r"""Does a prior help? Compares unCLIP with other inputs to its decoder, and a direct model.

    python -m benchmarks.unclip --decoder=runs/decoder --prior=runs/prior --direct=runs/scenes \
        --other=runs/sclip2 --json=unclip.json

For a fair comparison, train prior and decoder together for as long as the direct model. Rows: the
direct model, and the decoder given the CLIP embeddings of real images, of the texts themselves (no
prior), and those sampled from the prior: one, the best of two, or with guidance. All rows use the
captions of the test split, and decoder and direct model use the same sampler, guidance and steps.
Columns are as in `benchmarks.guided`: how often the judge finds what the caption says; score,
retrieval, Frechet distance, precision and recall by `--other`, a CLIP of clean images that is not
used for sampling; the information between text and image in bits, according to the direct model
(which is biased in favour of its own images). Errors are standard errors over seeds. Sets that are
already in `--json` are not drawn again; `--rows` selects rows.
"""

import argparse
import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import guided
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment, other_runs
from diffusion_jax.experiment.measures import judges, sample_quality as quality_lib
from diffusion_jax.experiment.sampling import best_of, run_sampler
from diffusion_jax.experiment.sampling.samples import Samples
from diffusion_jax.networks.text_encoders.base import plain
from diffusion_jax.runtime import cpu_devices

DIRECT = "direct"


def settings(prior: str) -> dict[str, dict[str, Any]]:
    """The settings in `config.sample` of each row, by name; empty for the direct model."""
    return {
        DIRECT: {},
        "real vectors": {"prior": "split:test"},
        "vectors of texts": {"prior": "captions"},
        "prior": {"prior": prior},
        "prior, best of 2": {"prior": prior, "prior_samples": 2},
        "prior, cfg 2": {"prior": prior, "prior_guidance": "cfg(w=2.0)"},
    }


def config_of(args: argparse.Namespace, row: str) -> Experiment:
    """The run of one row with its settings."""
    which = args.direct if row == DIRECT else args.decoder
    run = guided.config_of(argparse.Namespace(**vars(args), checkpoint=which), args.guidance)
    run.config.sample.update(settings(str(args.prior))[row])
    return run


def columns(found: dict[str, Any]) -> dict[str, float]:
    """The columns of one set of images."""
    return {k: v for k, v in guided.figures(found, {"score": 0.0}).items() if k != "own CLIP"}


def measure(
    run: Experiment, bench: quality_lib.Bench, lift: best_of.Score, seeds: list[int]
) -> list[dict[str, float]]:
    """The columns of one row for each seed; no images per second for the first, which compiles."""
    judges.check_apart(run)
    run_sampler.check(run)
    made = run_sampler.compiled(run, run.params)
    texts, out = tuple(plain(t) for t in made.captions), []
    for i, seed in enumerate(seeds):
        began = time.perf_counter()
        images = made.levels(made(seed, quiet=True))
        took = time.perf_counter() - began
        found, _ = bench.figures(Samples(images, None, {}, "", texts))
        row = columns(found) | {"bits": float(lift(images).mean() / np.log(2.0))}
        out.append(row | ({"images/s": len(images) / took} if i else {}))
    return out


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--decoder", type=Path, required=True, help="a run with config.embedding")
    parser.add_argument("--prior", type=Path, required=True, help="a run of CLIP embeddings")
    parser.add_argument("--direct", type=Path, required=True, help="a text-to-image run")
    parser.add_argument("--other", type=Path, required=True, help="the CLIP that judges")
    parser.add_argument("--judge", default="scenes()", help="or names()")
    parser.add_argument("--data_dir", default="", help="tensorflow-datasets folder")
    parser.add_argument("--num", type=int, default=500, help="samples per set")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--guidance", default="cfg(w=2.0)", help="for decoder and direct model")
    parser.add_argument("--sampler", default="dpmpp_2m()")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--draws", type=int, default=8, help="noise draws per image, for bits")
    parser.add_argument("--rows", default="", help="a regular expression that selects rows")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/benchmark"), help="folder for statistics"
    )
    parser.add_argument("--json", type=Path, help="write the results to this file")
    args = parser.parse_args()
    made_with = {k: str(getattr(args, k)) for k in (
        "decoder", "prior", "direct", "other", "judge", "num", "guidance", "sampler", "steps",
        "draws")}  # fmt: skip
    try:
        for name in ("decoder", "prior", "direct", "other"):
            other_runs.saved(f"--{name}", str(getattr(args, name)), None)
        there = guided.kept(args.json, made_with)
    except ConfigError as e:
        parser.error(str(e))
    cpu_devices.share(args.batch)
    direct, rows = config_of(args, DIRECT), there.get("rows", [])
    bench = quality_lib.open_bench(direct)
    real = there.get("real") or columns(bench.floor() or {})
    lift = best_of.lift(direct, direct.params, run_sampler.compiled(direct, direct.params))
    for name in settings(str(args.prior)):
        seeds = guided.missing(rows, name, args.seeds)
        if not seeds or not re.search(args.rows, name):
            continue
        found = measure(config_of(args, name), bench, lift, seeds)
        for seed, row in zip(seeds, found, strict=True):
            rows.append({"row": name, "seed": seed, **row})
            print(json.dumps(rows[-1]), flush=True)
        guided.keep(args.json, made_with, real, rows)
    print(guided.table(rows, [*settings(str(args.prior))], real, "vectors"))


if __name__ == "__main__":
    main()
