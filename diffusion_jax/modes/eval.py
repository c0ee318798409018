"""`--mode=eval`: bits per dimension with standard errors, breakdown, and all that defines them."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

import diffusion_jax
from diffusion_jax import config as config_lib, registry
from diffusion_jax.data.base import Split
from diffusion_jax.evaluation import bpd
from diffusion_jax.modes import _scorer
from diffusion_jax.modes.base import Job, describe_devices, say, write_json
from diffusion_jax.schedules.base import endpoints
from diffusion_jax.types import Params


def run(job: Job) -> None:
    """Evaluates the newest (or the named) checkpoint; writes `eval/<step>.json` and `.npz`.

    Args:
        job: the job.
    """
    params, record = job.weights(job.config.eval.weights)
    if job.config.scorer:
        _scorer.evaluate(job, params, record)
    else:
        evaluate(job, params, record)


def evaluate(job: Job, params: Params, record: dict[str, Any]) -> dict[str, Any]:
    """Evaluates given weights and writes the report.

    Args:
        job: the job.
        params: the weights.
        record: what they are; goes into the report.

    Returns:
        The report, as written.
    """
    c = job.config.eval
    split = job.source.split(c.split)
    precision = c.matmul_precision or None
    options = {"draws": c.draws, "batch": c.batch, "seed": c.seed, "limit": c.limit}
    with jax.default_matmul_precision(precision):
        records = bpd.measure(
            job.model, registry.build("objectives", "continuous()"), params, split, job.mesh,
            label="bits/dim", **options,
        )  # fmt: skip
        discrete = {}
        for steps in c.timesteps:
            objective = registry.build("objectives", f"discrete(timesteps={steps})")
            discrete[steps] = bpd.measure(
                job.model, objective, params, split, job.mesh, label=f"T={steps}", **options
            )
    result = bpd.summary(records)
    by_steps = {str(k): _short(bpd.summary(r)) for k, r in discrete.items()}
    report = {
        "result": {**result, "bound_by_timesteps": {**by_steps, "infinity": _short(result)}},
        "estimator": {
            "kind": "variational bound, continuous time, discrete decoder",
            "times": "stratified per image, two independent replicates",
            "proposal": "uniform in t",
            "draws_per_image": c.draws,
            "reconstruction_draws": c.draws,
            "seed": c.seed,
        },
        "model": {**record, **_model_record(job, params)},
        "data": _data_record(job, split, c.limit),
        "numerics": {
            "dtype": job.config.dtype,
            "matmul_precision": c.matmul_precision or "device default",
            "devices": describe_devices(),
            "jax": jax.__version__,
            "diffusion_jax": diffusion_jax.__version__,
        },
        "loss_by_gamma": bpd.loss_by_gamma(job.model, params, records),
    }
    path = report_path(job, record["step"])
    if jax.process_index() == 0:
        write_json(path, report)
        _write_records(path.with_suffix(".npz"), records)
    say(_table(report, split.name, path))
    return report


def report_path(job: Job, step: int) -> Path:
    """Where the report of `step` goes: `eval/<step>.json`, with the split's name if not test."""
    split = job.config.eval.split
    return job.workdir / "eval" / (f"{step}.json" if split == "test" else f"{step}_{split}.json")


def _short(summary: dict[str, Any]) -> dict[str, float]:
    return {k: summary[k] for k in ("bits_per_dim", "standard_error", "monte_carlo_se")}


def _model_record(job: Job, params: Params) -> dict[str, Any]:
    gamma_0, gamma_1 = endpoints(job.model.schedule, jax.device_get(params["schedule"]))
    config = config_lib.to_dict(job.config)
    return {
        "gamma_0": float(gamma_0),
        "gamma_1": float(gamma_1),
        "parameters": sum(a.size for a in jax.tree.leaves(params)),
        "conditional": job.model.num_classes > 0,
        "config_sha256": hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest(),
        "config": config,
    }


def _data_record(job: Job, split: Split, limit: int) -> dict[str, Any]:
    return {
        "name": split.name,
        "images": min(limit, len(split)) if limit else len(split),
        "of": len(split),
        "shape": list(split.shape),
        "levels": split.levels,
        "sha256": split.fingerprint(),
        "augmentation_in_training": job.config.augment,
    }


def _write_records(path: Path, records: bpd.Records) -> None:
    raw = {
        f"nats_{k}": v
        for k, v in dataclasses.asdict(records).items()
        if k != "dims" and v is not None
    }
    raw["t"] = raw.pop("nats_t")
    bits = {f"bits_per_dim_{k}": v for k, v in records.per_image().items()}
    part = path.with_name(path.name + ".part")
    with part.open("wb") as f:
        np.savez_compressed(f, dims=records.dims, **raw, **bits)
    part.replace(path)


def _table(report: dict[str, Any], name: str, path: Path) -> str:
    r, m = report["result"], report["model"]
    given = ", given the class" if m["conditional"] else ""
    lines = [
        f"{name} bits/dim{given}: {r['bits_per_dim']:.4f} +- {r['standard_error']:.4f} "
        f"(s.e. over {r['images']} images; Monte-Carlo s.e. {r['monte_carlo_se']:.4f}, "
        f"{r['draws_per_image']} times each)",
        *(
            f"  {part:<15} {v['bits_per_dim']:.4f} +- {v['standard_error']:.4f}"
            for part, v in r["breakdown"].items()
        ),
        "  bound with T steps: "
        + ", ".join(f"T={k}: {v['bits_per_dim']:.4f}" for k, v in r["bound_by_timesteps"].items()),
        f"  weights {m['weights']} at step {m['step']}, gamma from {m['gamma_0']:.3f} to "
        f"{m['gamma_1']:.3f}",
        f"  written to {path}",
    ]
    return "\n".join(lines)
