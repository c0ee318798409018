"""Shared code of the benchmarks: the work to measure, timing, tables, comparison of results."""

import argparse
import atexit
import contextlib
import datetime
import functools
import json
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from diffusion_jax import config as config_lib
from diffusion_jax.experiment import Experiment
from diffusion_jax.networks.autoencoders.base import is_trained
from diffusion_jax.runtime import cpu_devices
from diffusion_jax.runtime.distributed import describe_devices
from diffusion_jax.runtime.sharding import batched, make_mesh, put, replicated
from diffusion_jax.training import state as state_lib
from diffusion_jax.training.compile import compile_steps, fresh_meter
from diffusion_jax.training.tasks.diffusion import make_recipe
from diffusion_jax.types import Params

WORK = ("digits", "vdm8", "vdm32")
_CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def at_least(least: int) -> Callable[[str], int]:
    """The type of a flag that takes whole numbers of at least `least`."""

    def number(text: str) -> int:
        if not text.lstrip("-").isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, at least {least}")
        return int(text)

    return number


@functools.cache
def _random_images() -> str:
    """An npz of random 32x32 colour images; speed does not depend on their content."""
    folder = tempfile.mkdtemp(prefix="benchmark-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / "images.npz"
    images = np.random.default_rng(0).integers(0, 256, (256, 32, 32, 3), dtype=np.uint8)
    np.savez(path, train_image=images, test_image=images)
    return str(path)


def read_lines(log: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file, without incomplete lines; empty if there is no file."""
    rows = []
    for line in log.read_text().splitlines() if log.exists() else []:
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict)]


def config_file(name: str) -> ConfigDict:
    """The configuration of a file in `configs/`: `digits`, or a variant `digits_latent:prior`."""
    name, _, variant = name.partition(":")
    path, spec = _CONFIGS / f"{name}.py", {}
    exec(compile(path.read_text(), path, "exec"), spec)
    return spec["get_config"](*([variant] if variant else []))


def config_of(work: str, dtype: str = "float32", **network: Any) -> ConfigDict:
    """The configuration of a piece of work.

    Args:
        work: `"digits"`, or `"vdm8"` and `"vdm32"`: 8 and 32 blocks of 128 channels on 32x32x3,
            8 images on CPU and 128 elsewhere.
        dtype: type of the network's arithmetic.
        **network: further settings of the network, such as `scan=True`.

    Returns:
        The configuration.
    """
    more = "".join(f", {k}={v}" for k, v in network.items())
    if work == "digits":
        c = config_file("digits")
        c.network = c.network.removesuffix(")") + more + ")"
    else:
        c = config_lib.base()
        c.data = f"npz(path={_random_images()!r})"
        c.network = f"vdm_unet(width=128, depth={int(work.removeprefix('vdm'))}{more})"
        c.batch = c.sample.batch = c.eval.batch = 8 if jax.default_backend() == "cpu" else 128
    c.dtype = dtype
    return c


def job_of(
    work: str, dtype: str = "float32", devices: int | None = None, **network: Any
) -> Experiment:
    """A job with the configuration `config_of(work, ...)`, on all or the first few devices."""
    experiment = Experiment(config_of(work, dtype, **network), Path("unused"))
    # `mesh` is a cached property: this replaces its value.
    vars(experiment)["mesh"] = make_mesh(jax.devices()[:devices])
    return experiment


def weights(experiment: Experiment) -> Params:
    """Initial weights on the mesh, with noise: with zeros a network might run faster."""
    params = experiment.model.init(jax.random.key(0), experiment.source.shape)
    leaves, tree = jax.tree.flatten(params["network"])
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noisy = [a + 0.01 * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)]
    params = {**params, "network": jax.tree.unflatten(tree, noisy)}
    return on_mesh(experiment, params)


def rows(experiment: Experiment, n: int) -> dict[str, jax.Array]:
    """The first `n` training images and labels, on the mesh, with zeros for cached latents."""
    split, model = experiment.source.split("train"), experiment.model
    found = split.take(np.arange(n) % len(split))
    if not model.traits.pixels and not is_trained(model.space):
        shape = (n, *model.z_shape(experiment.source.shape))
        found |= {"mean": np.zeros(shape, np.float32), "std": np.ones(shape, np.float32)}
        if not model.traits.latent_noise:
            del found["std"]
    return {k: put(v, batched(experiment.mesh)) for k, v in found.items()}


def fresh_state(experiment: Experiment, params: Params) -> tuple[Any, Any]:
    """A recipe, and a state to train from a copy of `params` (steps donate their state)."""
    recipe = make_recipe(experiment)
    copy = jax.tree.map(lambda a: a.copy(), params)
    state = state_lib.init(
        copy, recipe.optimizer, tuple(experiment.config.ema), recipe.proposal.init(), recipe.frozen
    )
    return recipe, on_mesh(experiment, state)


def on_mesh(experiment: Experiment, tree: Any) -> Any:
    """A pytree replicated over the job's mesh."""
    return jax.tree.map(lambda a: put(a, replicated(experiment.mesh)), tree)


def step_of(experiment: Experiment, recipe: Any, state: Any) -> tuple[Any, Any, float, Callable]:
    """Compiles a training step.

    Args:
        experiment: the job.
        recipe: the step's recipe.
        state: the initial state; it is donated.

    Returns:
        The lowered program, the compiled program, XLA's compile time in seconds, and a function
        that runs one step.
    """
    data = rows(experiment, experiment.config.batch)
    index = put(jnp.zeros(1, jnp.int32), replicated(experiment.mesh))
    meter = on_mesh(experiment, fresh_meter(recipe))
    step = compile_steps(recipe, experiment.mesh, resident=None, several=False)
    lowered = step.lower(state, meter, data, index)
    began = time.perf_counter()
    compiled = lowered.compile()
    took = time.perf_counter() - began
    carry = [state, meter]

    def once() -> Any:
        *carry[:], value = compiled(*carry, data, index)
        return value

    return lowered, compiled, took, once


def alternate(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each call; calls take turns, so that a busy machine affects all alike.

    Args:
        calls: compiled functions by name; each is called once more to warm up.
        repeats: number of rounds.

    Returns:
        Seconds by name.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(repeats + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            jax.block_until_ready(call())
            if round_:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(t) for name, t in times.items()}


@functools.cache
def _product_rate(dtype: str) -> float:
    """FLOP/s of one device in large matrix products, the best of several."""
    n = 2048 if jax.default_backend() == "cpu" else 8192
    a = jnp.ones((n, n), dtype)
    product = jax.jit(lambda a, b: a @ b)
    product(a, a).block_until_ready()
    best = float("inf")
    for _ in range(10):
        began = time.perf_counter()
        product(a, a).block_until_ready()
        best = min(best, time.perf_counter() - began)
    return 2 * n**3 / best


def matmul_rate(dtype: str, devices: int) -> float:
    """FLOP/s of large matrix products on `devices` devices; on CPU one product uses all cores."""
    return _product_rate(dtype) * (1 if jax.default_backend() == "cpu" else devices)


def mebibytes(compiled: Any) -> float:
    """Memory of a program on each device in MiB; donated arguments are counted once."""
    m = compiled.memory_analysis()
    used = m.argument_size_in_bytes + m.output_size_in_bytes + m.temp_size_in_bytes
    return (used - m.alias_size_in_bytes) / 2**20


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as a markdown table; columns are all keys, in order of appearance."""
    columns = list(dict.fromkeys(k for row in rows for k in row))

    def cell(value: Any) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    cells = [[cell(row.get(c, "")) for c in columns] for row in rows]
    lines = [columns, ["---"] * len(columns), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _compare(first: Path, second: Path) -> None:
    """Prints every number in `second` as a ratio to that in `first`."""
    a, b = (json.loads(p.read_text()) for p in (first, second))
    print(f"{second} / {first}   ({b['devices']}, {b['date']} / {a['devices']}, {a['date']})")

    def named(r: dict) -> tuple:
        return tuple(v for v in r.values() if isinstance(v, str))

    def ratio(value: Any, base: Any) -> Any:
        return value if isinstance(value, str) or not base else value / base

    before = {named(r): r for r in a["rows"]}
    pairs = [(before[named(r)], r) for r in b["rows"] if named(r) in before]
    out = [{k: ratio(v, old[k]) for k, v in new.items() if k in old} for old, new in pairs]
    print(table(out) if out else "no rows in common")


def run(doc: str, measure: Callable[[argparse.Namespace, str], list[dict[str, Any]]]) -> None:
    """The command line of a benchmark.

    Args:
        doc: docstring of the benchmark.
        measure: `(arguments, work) -> rows`; a row is a dict of values by name.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--work", nargs="+", default=["digits", "vdm8"], choices=WORK)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument(
        "--compare", nargs=2, type=Path, metavar="JSON", help="print ratios of two files instead"
    )
    args = parser.parse_args()
    if args.compare:
        _compare(*args.compare)
        return
    cpu_devices.share(8)  # as in a job; 8 images are the smallest batch here
    found = [row for work in args.work for row in measure(args, work)]
    print(table(found))
    record = {
        "devices": describe_devices(), "machine": platform.processor() or platform.machine(),
        "jax": jax.__version__, "date": datetime.date.today().isoformat(), "rows": found,
    }  # fmt: skip
    print(f"\n{record['devices']}, jax {record['jax']}, {record['date']}")
    if args.json:
        args.json.write_text(json.dumps(record, indent=1) + "\n")
