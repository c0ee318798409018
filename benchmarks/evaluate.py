"""Evaluation speed: the bound of many images at many times, compared with bare forward passes.

    python -m benchmarks.evaluate --work digits vdm8 --json evaluate.json

Four batches go through the same call as `--mode=eval`, with 16 noise draws per image. `overhead`
includes everything but the network: noise, the decoder, transfers of images and results. FLOPs are
the network's alone; `of_matmul` is as in `benchmarks.train_step`.
"""

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import _common
from diffusion_jax import registry
from diffusion_jax.data.passes import Pass
from diffusion_jax.likelihood import bpd
from diffusion_jax.runtime.sharding import batched, put

BATCHES, DRAWS = 4, 16


def measure(args: argparse.Namespace, work: str) -> list[dict[str, Any]]:
    """One row."""
    experiment = _common.job_of(work, args.dtype)
    params, batch = _common.weights(experiment), experiment.config.eval.batch
    split = experiment.source.split("train")
    images = min(BATCHES * batch, len(split))
    batch = min(batch, images)
    objective = registry.build("objectives", experiment.config.objective)
    cond = (
        {"label": _common.rows(experiment, batch)["label"]} if experiment.model.num_classes else {}
    )
    z = put(jax.random.normal(jax.random.key(1), (batch, *split.shape)), batched(experiment.mesh))
    forward = jax.jit(lambda p, z, cond: experiment.model.denoiser(p)(z, jnp.float32(0.0), cond))
    flops = forward.lower(params, z, cond).cost_analysis()["flops"]
    how = Pass(experiment.mesh, batch, limit=images, quiet=True)
    run, key = how.compile(bpd.one_batch(experiment.model, objective, DRAWS)), how.key
    found, ids = _common.rows(experiment, batch), put(jnp.arange(batch), batched(experiment.mesh))
    lowered = run.lower(params, found, ids, key)
    began = time.perf_counter()
    compiled = lowered.compile()
    row = {"work": work, "images": images, "times_per_image": DRAWS,
           "compile_s": time.perf_counter() - began,
           "memory_mib": _common.mebibytes(compiled)}  # fmt: skip

    def one_batch(found: dict, ids: jax.Array) -> Any:
        return run(params, found, ids, key)

    def whole() -> Any:
        return how.gather(one_batch, split, "evaluate")

    forward_passes = -(-images // batch) * DRAWS

    def bare() -> Any:
        return [forward(params, z, cond) for _ in range(forward_passes)]

    seconds = _common.alternate({"whole": whole, "bare": bare}, args.repeats)
    done = forward_passes * flops / seconds["whole"]
    row |= {
        "images_per_s": images / seconds["whole"], "GFLOP_per_s": done / 1e9,
        "of_matmul": done / _common.matmul_rate(args.dtype, experiment.mesh.devices.size),
        "overhead": seconds["whole"] / seconds["bare"],
    }  # fmt: skip
    return [row]


if __name__ == "__main__":
    _common.run(__doc__, measure)
