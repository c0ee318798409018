"""Many short runs of the program for the price of one import of JAX.

Reads one JSON object a line (`log`, `argv`, `env`), forks, runs `python -m diffusion_jax.main` with
them in the child, and writes `pid N` and, when it is over, `code N`. No backend exists here before
a fork.
"""

import importlib
import json
import os
import pkgutil
import sys
import warnings

from absl import app

import diffusion_jax
from diffusion_jax import main, registry
from diffusion_jax.likelihood import bpd
from diffusion_jax.runtime import preemption
from diffusion_jax.sampling import generate

# What a run would import; none of it uses a device.
_WANTED = (
    "tensorboardX",
    "clu.metric_writers",
    "matplotlib.figure",
    "PIL.Image",
    "orbax.checkpoint",
)


def _load():
    for found in pkgutil.walk_packages(diffusion_jax.__path__, "diffusion_jax."):
        if not found.name.endswith("saved_config"):
            importlib.import_module(found.name)
    registry.available("modes")
    from diffusion_jax.training import metrics

    metrics._clu_writers()  # before clu is imported whole
    for name in _WANTED:
        importlib.import_module(name)


def _announce(module, name):
    """Says when a piece of work begins, so that a test can interrupt it."""
    work = getattr(module, name)

    def announced(*args, **kwargs):
        print(f"reached: {name}", flush=True)
        return work(*args, **kwargs)

    setattr(module, name, announced)


def _run(log, argv, env):
    os.environ.update(env)
    _announce(bpd, "measure")
    _announce(generate, "generate")
    if "RAISE" in env:  # a mistake on one host, after the first steps

        def reached(self, first, last):
            raise RuntimeError("one host has a problem of its own")

        preemption.Notice.reached = reached
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.argv = ["diffusion_jax.main", *argv]
    try:
        app.run(main._main, flags_parser=main._parse)
    except SystemExit as e:
        sys.stdout.flush()
        os._exit(e.code or 0)
    except BaseException as e:  # as the interpreter would
        sys.excepthook(type(e), e, e.__traceback__)
    os._exit(1)


if __name__ == "__main__":
    _load()
    # Nothing of JAX runs here; its warning is about parents in which something does.
    warnings.filterwarnings("ignore", message="os.fork")
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if not pid:
            _run(**asked)
        print("pid", pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print("code", os.waitstatus_to_exitcode(status), flush=True)
