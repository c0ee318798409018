"""Would the trainer take these arguments? Asked on this machine, before anything is paid for.

    python -m launch.check --config=configs/cifar10.py --config.dtype=bfloat16

A configuration or setting that does not exist, and parts that do not fit together, end in one line
and exit code 2. Sets whose shape is known (CIFAR-10, ImageNet, MNIST) need not be here; where the
shape is read from the data themselves and they are not, only the names of settings are looked at,
and that is said. It trains nothing, and asks no bucket for anything.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 300.0


def problem(arguments: Sequence[str], devices: int = 1, seconds: float = SECONDS) -> str:
    """What is wrong with the trainer's arguments, in one line; empty if nothing is.

    Args:
        arguments: what comes after `python -m diffusion_jax.main`, without `--workdir`.
        devices: number of devices of the slice; batch and mesh are checked against it.
        seconds: after which the question is given up.
    """
    here = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    with tempfile.TemporaryDirectory() as folder:
        argv = [sys.executable, "-m", "launch.check", *arguments, f"--workdir={folder}/run"]
        try:
            done = subprocess.run(
                argv, capture_output=True, text=True, cwd=ROOT, timeout=seconds,
                stdin=subprocess.DEVNULL, env={**os.environ, **here},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"the trainer's arguments were not checked within {seconds:.0f} s"
    if done.returncode == 0:
        print(done.stdout, end="", flush=True)
        return ""
    said = [x for x in (done.stderr or done.stdout).splitlines() if x.strip()]
    errors = [x for x in said if x.startswith("error: ")]
    return (errors or said or ["it ended without a word"])[-1].removeprefix("error: ")


def _check(_argv: list[str]) -> None:
    import jax

    from diffusion_jax.cli.modes.train import HANDED
    from diffusion_jax.errors import DataError, UserError
    from diffusion_jax.experiment import open_experiment
    from diffusion_jax.experiment.sampling import run_sampler
    from diffusion_jax.runtime.sharding import check_batch

    values = flags.FLAGS
    try:
        if values.config is None:
            raise UserError("--config is needed, for example --config=configs/cifar10.py")
        run = open_experiment(values.config, Path(values.workdir))
        check_batch(run.config.batch, run.mesh, run.config.accumulate)
        jax.eval_shape(run.task.open(run, HANDED).initial)
        if run.task.holds == "denoiser":
            run_sampler.check(run)
        print("the trainer takes these arguments", flush=True)
    except DataError as e:
        print(f"the data are not here, so the model was not built: {e}", flush=True)
    except UserError as e:
        print(f"error: {e}", file=sys.stderr, flush=True)
        sys.exit(2)


if __name__ == "__main__":
    from diffusion_jax import main as trainer

    app.run(_check, flags_parser=trainer._parse)
