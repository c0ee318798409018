"""Steps per second and images per second of training, sampling and evaluation.

    python -m benchmarks.throughput --config=configs/digits.py

Prints a table and writes JSON. Sampling is also given as a ratio to as many bare forward passes of
the same batch: what the loop, the solver and the guidance cost on top of the network.
"""

import argparse
import importlib.util
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from diffusion_jax import registry
from diffusion_jax.data import base as data_base
from diffusion_jax.evaluation import bpd, generate
from diffusion_jax.modes.base import Job, describe_devices
from diffusion_jax.modes.train import make_recipe
from diffusion_jax.sharding import batched, put, replicated
from diffusion_jax.training import state as state_lib, step as step_lib


def seconds(call: Callable[[], Any], repeats: int) -> float:
    """Median wall time of one call, after one that compiles."""
    jax.block_until_ready(call())
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def train(job: Job, repeats: int) -> dict[str, float]:
    """One optimiser step at the configured batch."""
    c, mesh = job.config, job.mesh
    whole = replicated(mesh)
    recipe, split = make_recipe(job), job.source.split("train")
    state = jax.device_put(
        state_lib.init(
            job.model.init(jax.random.key(0), job.source.shape), recipe.optimizer, tuple(c.ema)
        ),
        whole,
    )
    meter = jax.device_put(step_lib.fresh_meter(recipe), whole)
    step = step_lib.compile_steps(recipe, mesh, resident=False, several=False)
    rows = split.take(data_base.indices(0, c.batch, len(split), c.seed))
    data = {k: put(v, batched(mesh)) for k, v in rows.items()}
    index = put(jnp.zeros(1, jnp.int32), whole)
    began = time.perf_counter()
    compiled = step.lower(state, meter, data, index).compile()
    compile_s = time.perf_counter() - began
    carry = [state, meter]

    def once() -> Any:
        *carry[:], value = compiled(*carry, data, index)
        return value

    per_step = seconds(once, repeats)
    memory = compiled.memory_analysis()
    return {
        "compile_s": compile_s,
        "steps_per_s": 1 / per_step,
        "images_per_s": c.batch / per_step,
        "temporary_mib": memory.temp_size_in_bytes / 2**20 if memory else float("nan"),
    }


def sample(job: Job, repeats: int) -> dict[str, float]:
    """A whole batch of samples with the configured sampler, grid and guidance."""
    c, model, mesh = job.config, job.model, job.mesh
    params = jax.device_put(model.init(jax.random.key(0), job.source.shape), replicated(mesh))
    sampler = registry.build("samplers", c.sampler)
    guidance = registry.build("guidance", c.guidance)
    gammas = generate.plan(model, params, registry.build("grids", c.grid), c.sample.steps)
    method = generate.Method(guidance, sampler, gammas)
    run = generate.compile_sampler(model, method, mesh)
    labels = generate.labels_for(model, c.sample.batch, ())
    cond = {} if labels is None else {"label": put(labels, batched(mesh))}
    shape = (c.sample.batch, *job.source.shape)
    key = bpd.put_key(0, mesh)
    whole = seconds(lambda: run(params, key, cond, shape), repeats)
    forward = jax.jit(lambda p, z, cond: model.denoiser(p)(z, jnp.float32(0.0), cond))
    z = put(jnp.zeros(shape), batched(mesh))
    calls = c.sample.steps * sampler.nfe_per_step
    bare = seconds(lambda: forward(params, z, cond), repeats) * calls
    return {
        "images_per_s": c.sample.batch / whole,
        "network_calls": calls,
        "time_over_bare_forward_passes": whole / bare,
    }


def evaluate(job: Job, repeats: int) -> dict[str, float]:
    """The bound of one batch at the configured number of draws."""
    c, model, mesh = job.config, job.model, job.mesh
    params = jax.device_put(model.init(jax.random.key(0), job.source.shape), replicated(mesh))
    run = bpd.compile_pass(model, registry.build("objectives", c.objective), c.eval.draws, mesh)
    split = job.source.split("train")
    ids = jnp.arange(min(c.eval.batch, len(split)))
    rows = {k: put(v, batched(mesh)) for k, v in split.take(ids).items()}
    cond = {"label": rows["label"]} if model.num_classes else {}
    where, key = put(ids, batched(mesh)), bpd.put_key(0, mesh)
    whole = seconds(lambda: run(params, rows["image"], cond, where, key), repeats)
    return {"images_per_s": len(ids) / whole, "draws_per_image": c.eval.draws}


def main() -> None:
    """Runs the three benchmarks of one configuration."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/digits.py", help="FILE or FILE:variant")
    parser.add_argument("--data_dir", default="", help="tensorflow-datasets folder")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    path, _, variant = args.config.partition(":")
    spec = importlib.util.spec_from_file_location("benchmark_config", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config(variant)
    config.data_dir = args.data_dir
    job = Job(config, Path("unused"))
    results = {"config": args.config, "devices": describe_devices(), "jax": jax.__version__}
    for name, measure in (("train", train), ("sample", sample), ("evaluate", evaluate)):
        results[name] = measure(job, args.repeats)
        figures = "  ".join(f"{k} {v:.3g}" for k, v in results[name].items())
        print(f"{name:<9} {figures}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
