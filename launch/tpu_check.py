"""Compiles our real programs for a TPU that is not here: memory per chip, FLOPs, collectives.

    pip install -e '.[tpu]'
    python -m launch.tpu_check --config=configs/cifar10.py --topology=v5e:2x4

    --topology   what to compile for, for example v5e:2x4,v6e:2x4 (default v5e:2x4)
    --programs   train, sample or both (default train,sample)
    --images     size of the training set; 0 (default): that of the prepared one
    --config.F   any setting of the configuration

The compiler comes with libtpu from the package index and runs on a CPU machine. What it prints says
whether the job fits and what it moves, not how fast it is. Exit codes: 0 everything fits, 1 it does
not, 2 a mistake in flags or configuration.
"""

import dataclasses
import importlib.util
import math
import os
import sys
import time
from typing import Any

from absl import flags
from ml_collections import config_flags

from launch import program, traced

# GiB of HBM of a chip, as published; a part of it is the system's, hence the margin.
HBM = {"v4": 32, "v5e": 16, "v5p": 95, "v6e": 32, "tpu7x": 192}
MARGIN = 0.9
# libtpu must not look for a TPU, its metadata server or its lock file on this machine.
_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_MIN_LOG_LEVEL": "3",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


@dataclasses.dataclass(frozen=True)
class Checked:
    """One compiled program; sizes in bytes per device.

    Attributes:
        name: `"train"` or `"sample"`.
        flops: matrix products and convolutions of one call, all devices together.
        calls: what a call is, for example `"10 steps of 128 images"`.
        arguments: size of the arguments.
        temporary: size of the temporaries.
        output: size of the results.
        alias: size of the results that reuse arguments.
        available: HBM.
        seconds: time it took to compile.
        found: what the program's text says.
    """

    name: str
    flops: int
    calls: str
    arguments: int
    temporary: int
    output: int
    alias: int
    available: int
    seconds: float
    found: program.Report

    @property
    def needed(self) -> int:
        """Memory the program needs."""
        return self.arguments + self.temporary + self.output - self.alias

    @property
    def fits(self) -> bool:
        """Whether it fits, with a margin: the compiler itself lets too large programs through."""
        return self.needed < MARGIN * self.available


def chips(topology: str) -> int:
    """How many chips `"v5e:2x4"` has."""
    return math.prod(int(n) for n in topology.partition(":")[2].split("x"))


def devices(topology: str) -> list:
    """The devices of a topology that is not here.

    Args:
        topology: generation and shape, for example `"v5e:2x4"`, `"v5p:2x2x1"`, `"v6e:2x4"`.

    Returns:
        The devices.

    Raises:
        ConfigError: libtpu is not installed, or the topology does not exist.
    """
    from jax.experimental import topologies

    from diffusion_jax.errors import ConfigError

    if importlib.util.find_spec("libtpu") is None:
        raise ConfigError("libtpu is not installed; pip install -e '.[tpu]' brings the right one")
    generation, _, shape = topology.partition(":")
    if generation not in HBM or not all(n.isdigit() for n in shape.split("x")):
        raise ConfigError(
            f"topology {topology!r}: give one of {', '.join(HBM)}, a colon and a shape, "
            "for example v5e:2x4 or v5p:2x2x1"
        )
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    except Exception as e:
        raise ConfigError(f"topology {topology!r}: {str(e).splitlines()[0]}") from e


def check(name: str, made: Any, calls: str, available: int) -> Checked:
    """Compiles a traced program and reads what the compiler says.

    Args:
        name: of the program.
        made: the traced program, from `launch.traced`.
        calls: what one call does.
        available: HBM per device in bytes.

    Returns:
        The figures.
    """
    began = time.monotonic()
    compiled = made.lower().compile()
    took = time.monotonic() - began
    memory = compiled.memory_analysis()
    return Checked(
        name, program.flops(made.jaxpr), calls, memory.argument_size_in_bytes,
        memory.temp_size_in_bytes, memory.output_size_in_bytes, memory.alias_size_in_bytes,
        available, took, program.read(compiled.as_text()),
    )  # fmt: skip


def describe(checked: Checked) -> str:
    """The figures of one program as lines of text."""
    gib, found = 2**30, checked.found
    waste = 1 - found.written / max(found.padded, 1)
    worst = "; ".join(f"{text} wastes {size / gib:.3f}" for text, size in found.worst)
    moved = ", ".join(f"{n} x {k} ({b / 2**20:.1f} MiB)" for k, (n, b) in found.collectives.items())
    verdict = "fits" if checked.fits else "DOES NOT FIT"
    return "\n".join((
        f"{checked.name}: {checked.calls}, compiled in {checked.seconds:.0f} s",
        f"  FLOPs (products, convolutions; all chips)  {checked.flops / 1e12:.2f} T",
        f"  memory per device (GiB)                    {checked.needed / gib:.2f} of "
        f"{checked.available / gib:.1f}: {verdict}",
        f"    arguments {checked.arguments / gib:.2f} + temporaries {checked.temporary / gib:.2f}"
        f" + results {checked.output / gib:.2f} - reused {checked.alias / gib:.2f}",
        f"  padding of arrays written                  {waste:.1%}"
        + (f" ({worst} GiB)" if worst else ""),
        f"  collectives (a loop's body counts once)    {moved or 'none'}",
    ))  # fmt: skip


def _training_images(job: Any, stated: int) -> int:
    """How many images the training set has, if it is here; otherwise what was stated, or huge."""
    from diffusion_jax.errors import DataError

    if stated:
        return stated
    try:
        return len(job.source.split("train"))
    except DataError:
        print(f"{job.source.name} is not prepared here: taken as streamed; say --images=N")
        return sys.maxsize


def _flags(argv: list[str]) -> flags.FlagValues:
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "Configuration file.", flag_values=values)
    flags.DEFINE_list(
        "topology", "v5e:2x4", "Topologies, for example v5e:2x4,v6e:2x4.", flag_values=values
    )
    flags.DEFINE_list("programs", "train,sample", "What to compile.", flag_values=values)
    flags.DEFINE_integer(
        "images", 0, "Size of the training set; 0: that of the prepared one.", flag_values=values
    )
    values(argv)
    if values.config is None:
        raise flags.Error("--config is needed, for example --config=configs/cifar10.py")
    unknown = set(values.programs) - {"train", "sample"}
    if unknown:
        raise flags.Error(f"--programs: {', '.join(unknown)}; allowed are train, sample")
    return values


def main(argv: list[str]) -> int:
    """Checks every program on every topology.

    Args:
        argv: the command line.

    Returns:
        The exit code: see the module's docstring.
    """
    if {"-h", "--help"} & set(argv[1:]):
        print(__doc__)
        return 0
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from diffusion_jax.errors import UserError

    try:
        values = _flags(argv)
        c, fits = values.config, True
        for topology in values.topology:
            job = traced.make_job(c, devices(topology))
            n = job.mesh.devices.size
            available = HBM[topology.partition(":")[0]] * chips(topology) * 2**30 // n
            print(f"{c.network}, {c.dtype}, on {topology}: {n} devices", flush=True)
            for name in values.programs:
                if name == "train":
                    images = _training_images(job, values.images)
                    made = traced.lower_train(job, images, c.per_dispatch or 10)
                else:
                    made = traced.lower_sample(job)
                checked = check(name, *made, available)
                fits &= checked.fits
                print(describe(checked), flush=True)
    except (UserError, flags.Error, AttributeError, KeyError, TypeError, OSError) as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    return 0 if fits else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv))
