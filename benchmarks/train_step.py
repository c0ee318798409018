"""Training steps: ours beside the network written plainly, in turn, in one process.

    python -m benchmarks.train_step --work digits vdm8 --json step.json
    python -m benchmarks.train_step --compare old.json step.json

FLOPs are those of the plain network's step by XLA's cost analysis of the program before
optimisation, so that they measure work and not the way it is done; `of matmul` is the share of the
rate that large matrix products reach on the same device. Memory is the compiled program's.
"""

import argparse
import dataclasses
import time
from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks import _common, plain
from diffusion_jax.sharding import put, replicated
from diffusion_jax.training import step as step_lib


def measure(args: argparse.Namespace, work: str) -> list[dict[str, Any]]:
    """Rows of one piece of work: the plain network, ours, and ours with one scan over blocks."""
    job = _common.job_of(work, args.dtype)
    params, batch = _common.weights(job), job.config.batch
    data = _common.rows(job, batch)
    whole = replicated(job.mesh)
    index = put(jnp.zeros(1, jnp.int32), whole)
    scanned = _common.job_of(work, args.dtype, scan=True).model.network
    networks = {"plain": plain.of(job.model.network), "ours": job.model.network, "scan": scanned}
    if args.dtype != "float32":
        networks.pop("plain")  # float32 only
    rows, calls, losses, flops = [], {}, {}, None
    rate = _common.matmul_rate(args.dtype)
    for name, network in networks.items():
        own = plain.weights(params["network"]) if name == "plain" else params["network"]
        recipe, state = _common.fresh_state(job, {**params, "network": own})
        recipe = dataclasses.replace(recipe, model=dataclasses.replace(job.model, network=network))
        meter = _common.on_mesh(job, step_lib.fresh_meter(recipe))
        step = step_lib.compile_steps(recipe, job.mesh, resident=None, several=False)
        lowered = step.lower(state, meter, data, index)
        flops = flops or lowered.cost_analysis()["flops"]
        began = time.perf_counter()
        compiled = lowered.compile()
        rows.append({
            "work": work, "network": name, "compile_s": time.perf_counter() - began,
            "memory_mib": _common.mebibytes(compiled),
        })  # fmt: skip
        carry = [state, meter]

        def once(carry: list = carry, compiled: Any = compiled) -> Any:
            *carry[:], value = compiled(*carry, data, index)
            return value

        losses[name] = float(np.asarray(once()))
        calls[name] = once
    first = next(iter(losses.values()))
    if any(abs(v / first - 1) > 1e-2 for v in losses.values()):
        raise SystemExit(f"the networks disagree: {losses}")
    seconds = _common.alternate(calls, args.repeats)
    base = seconds[next(iter(networks))]
    for row in rows:
        s = seconds[row["network"]]
        row |= {
            "steps_per_s": 1 / s, "images_per_s": batch / s, "GFLOP": flops / 1e9,
            "GFLOP_per_s": flops / s / 1e9, "of_matmul": flops / s / rate, "speedup": base / s,
        }  # fmt: skip
    return rows


if __name__ == "__main__":
    _common.run(__doc__, measure)
