"""Training steps: our network compared with a straightforward one, in one process.

    python -m benchmarks.train_step --work digits vdm8 --json step.json
    python -m benchmarks.train_step --compare old.json step.json

FLOPs are those of the plain network's step, from XLA's cost analysis before optimisation, so that
they do not depend on the implementation; `of_matmul` is the fraction of the rate of large matrix
products on the same hardware. Memory is the compiled program's, on each device; `compile_s` is
XLA's compile time, without tracing.
"""

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks import _common, linen_vdm


def measure(args: argparse.Namespace, work: str) -> list[dict[str, Any]]:
    """Rows of one piece of work.

    Args:
        args: the command line.
        work: what to measure.

    Returns:
        The plain network on one device, as a jitted step runs by default, and ours on all devices,
        as in a job (unrolled, and with a scan over blocks); with several devices also the plain one
        on all and ours on one. On CPU the devices are the processor's cores.
    """
    several = jax.device_count() > 1
    cases = {"plain": (linen_vdm.of, 1, {}), "ours": (lambda n: n, None, {})}
    cases["scan"] = (lambda n: n, None, {"scan": True})
    if several:
        cases["plain, all devices"] = (linen_vdm.of, None, {})
        cases["ours, one device"] = (lambda n: n, 1, {})
    if args.dtype != "float32":
        cases = {k: v for k, v in cases.items() if "plain" not in k}  # float32 only
    rows, calls, losses, flops = [], {}, {}, None
    for name, (network_of, devices, how) in cases.items():
        row, call, work_done = _prepare(args, work, network_of, devices, how)
        flops = flops or work_done
        rows.append({"work": work, "network": name, **row})
        losses[name] = float(np.asarray(call()))
        calls[name] = call
    first = next(iter(losses.values()))
    if any(abs(v / first - 1) > 1e-2 for v in losses.values()):
        raise SystemExit(f"the networks disagree: {losses}")
    seconds = _common.alternate(calls, args.repeats)
    base = seconds[next(iter(cases))]
    batch = _common.config_of(work).batch
    for row in rows:
        s = seconds[row["network"]]
        row |= {
            "steps_per_s": 1 / s, "images_per_s": batch / s, "GFLOP": flops / 1e9,
            "GFLOP_per_s": flops / s / 1e9, "speedup": base / s,
            "of_matmul": flops / s / _common.matmul_rate(args.dtype, row["devices"]),
        }  # fmt: skip
    return rows


def _prepare(
    args: argparse.Namespace,
    work: str,
    network_of: Callable,
    devices: int | None,
    how: dict[str, Any],
) -> tuple[dict[str, Any], Callable[[], Any], float]:
    """Results of compilation, a function that runs a step, and the FLOPs on all devices."""
    experiment = _common.job_of(work, args.dtype, devices, **how)
    params = _common.weights(experiment)
    network = network_of(experiment.model.network)
    if isinstance(network, linen_vdm.Plain):
        params = {**params, "network": linen_vdm.weights(params["network"])}
    recipe, state = _common.fresh_state(experiment, params)
    recipe = dataclasses.replace(
        recipe, model=dataclasses.replace(experiment.model, network=network)
    )
    lowered, compiled, seconds, once = _common.step_of(experiment, recipe, state)
    row = {
        "devices": experiment.mesh.devices.size, "compile_s": seconds,
        "memory_mib": _common.mebibytes(compiled),
    }  # fmt: skip
    return row, once, lowered.cost_analysis()["flops"]


if __name__ == "__main__":
    _common.run(__doc__, measure)
