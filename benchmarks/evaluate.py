"""Evaluation speed: the bound of many images at many times, beside bare forward passes, in turn.

    python -m benchmarks.evaluate --work digits vdm8 --json evaluate.json

Four batches go through the same call as `--mode=eval`, 16 times per image. `overhead` counts all
that is not the network: noise, the decoder, the transfers of images and of results.
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import _common
from diffusion_jax import registry
from diffusion_jax.evaluation import batches, bpd
from diffusion_jax.sharding import batched, put

BATCHES, DRAWS = 4, 16


def measure(args: argparse.Namespace, work: str) -> list[dict[str, Any]]:
    """One row."""
    job = _common.job_of(work, args.dtype)
    params, batch = _common.weights(job), job.config.eval.batch
    split = job.source.split("train")
    images = min(BATCHES * batch, len(split))
    objective = registry.build("objectives", job.config.objective)
    cond = {"label": _common.rows(job, batch)["label"]} if job.model.num_classes else {}
    z = put(jax.random.normal(jax.random.key(1), (batch, *split.shape)), batched(job.mesh))
    forward = jax.jit(lambda p, z, cond: job.model.denoiser(p)(z, jnp.float32(0.0), cond))
    run = bpd.compile_pass(job.model, objective, DRAWS, job.mesh)
    key = bpd.put_key(0, job.mesh)

    def one_batch(found: dict, ids: jax.Array) -> Any:
        told = {"label": found["label"]} if job.model.num_classes else {}
        return run(params, found["image"], told, ids, key)

    def whole() -> Any:
        return batches.over(one_batch, split, job.mesh, batch=batch, limit=images, quiet=True)

    def bare() -> Any:
        passes = -(-images // batch) * DRAWS
        return [forward(params, z, cond) for _ in range(passes)]

    seconds = _common.alternate({"whole": whole, "bare": bare}, args.repeats)
    return [{
        "work": work, "images": images, "times_per_image": DRAWS,
        "images_per_s": images / seconds["whole"], "overhead": seconds["whole"] / seconds["bare"],
    }]  # fmt: skip


if __name__ == "__main__":
    _common.run(__doc__, measure)
