"""Compile times of the training step, with blocks unrolled and in a scan.

    python -m benchmarks.compile --work vdm32 --json compile.json

Times are for tracing, lowering and XLA, with the persistent cache off. `benchmarks.train_step`
measures what the scan costs at run time.
"""

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import _common
from diffusion_jax.runtime.sharding import put, replicated
from diffusion_jax.training.compile import compile_steps, fresh_meter


def measure(args: argparse.Namespace, work: str) -> list[dict[str, Any]]:
    """Two rows: unrolled, and with a scan."""
    jax.config.update("jax_enable_compilation_cache", False)
    rows = []
    for name, scan in (("unrolled", False), ("scan", True)):
        experiment = _common.job_of(work, args.dtype, scan=scan)
        recipe, state = _common.fresh_state(experiment, _common.weights(experiment))
        whole = replicated(experiment.mesh)
        meter = _common.on_mesh(experiment, fresh_meter(recipe))
        data = _common.rows(experiment, experiment.config.batch)
        step = compile_steps(recipe, experiment.mesh, resident=None, several=False)
        began = time.perf_counter()
        traced = step.trace(state, meter, data, put(jnp.zeros(1, jnp.int32), whole))
        traced_at = time.perf_counter()
        lowered = traced.lower()
        lowered_at = time.perf_counter()
        lowered.compile()
        done = time.perf_counter()
        rows.append({
            "work": work, "blocks": name, "trace_s": traced_at - began,
            "lower_s": lowered_at - traced_at, "xla_s": done - lowered_at, "total_s": done - began,
        })  # fmt: skip
    for row in rows:
        row["of_unrolled"] = row["total_s"] / rows[0]["total_s"]
    return rows


if __name__ == "__main__":
    _common.run(__doc__, measure)
