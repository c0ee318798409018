"""Sampling speed: a whole batch with a solver, compared with as many bare forward passes.

    python -m benchmarks.sampling_speed --work digits vdm8 --json sample.json

`overhead` is the total time relative to the network alone: 1.05 means that loop, solver and
decoding add 5%.
FLOPs are the network's alone, by XLA's cost analysis; `of_matmul` is as in `benchmarks.train_step`.
"""

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import _common
from diffusion_jax import registry
from diffusion_jax.runtime.sharding import batched, put, put_key, replicated
from diffusion_jax.sampling import generate
from diffusion_jax.sampling.method import Method

CALLS = 10
SAMPLERS = ("ddim()", "dpmpp_2m()", "unipc()", "ancestral()")


def measure(args: argparse.Namespace, work: str) -> list[dict[str, Any]]:
    """Rows of one piece of work, one for each sampler."""
    experiment = _common.job_of(work, args.dtype)
    params, batch = _common.weights(experiment), experiment.config.sample.batch
    shape, key = (
        (batch, *experiment.model.z_shape(experiment.source.shape)),
        put_key(jax.random.key(0), experiment.mesh),
    )
    labels = generate.labels_for(experiment.model, batch, ())
    cond = {} if labels is None else {"label": put(labels, batched(experiment.mesh))}
    grid = registry.build("grids", "log_snr()")
    gammas = generate.plan(experiment.model, params, grid, CALLS)
    z = put(jax.random.normal(jax.random.key(1), shape), batched(experiment.mesh))
    forward = jax.jit(lambda p, z, g, cond: experiment.model.denoiser(p)(z, g, cond))
    levels = [put(jnp.float32(g), replicated(experiment.mesh)) for g in gammas[:-1]]
    flops = forward.lower(params, z, levels[0], cond).cost_analysis()["flops"]
    rate = _common.matmul_rate(args.dtype, experiment.mesh.devices.size)
    calls = {"bare": lambda: [forward(params, z, g, cond) for g in levels]}
    rows = []
    for name in SAMPLERS:
        method = Method(
            registry.build("guidance", "none()"), registry.build("samplers", name), gammas
        )
        run = generate.compile_sampler(experiment.model, method, experiment.mesh)
        whole = jax.jit(lambda p, k, c, run=run: run(p, k, c, shape))
        lowered = whole.lower(params, key, cond)
        began = time.perf_counter()
        compiled = lowered.compile()
        rows.append({
            "work": work, "sampler": name, "network_calls": method.calls(experiment.model),
            "compile_s": time.perf_counter() - began, "memory_mib": _common.mebibytes(compiled),
        })  # fmt: skip
        calls[name] = lambda compiled=compiled: compiled(params, key, cond)
    seconds = _common.alternate(calls, args.repeats)
    for row in rows:
        s = seconds[row["sampler"]]
        done = row["network_calls"] * flops / s
        row |= {"images_per_s": batch / s, "GFLOP_per_s": done / 1e9, "of_matmul": done / rate,
                "overhead": s / seconds["bare"]}  # fmt: skip
    return rows


if __name__ == "__main__":
    _common.run(__doc__, measure)
