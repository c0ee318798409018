"""Likelihood-based diffusion with guidance, in JAX.

Sample from any denoiser, including your own; `gamma` is -log SNR everywhere:

    import diffusion_jax as dj

    def denoise(z, gamma):           # [B, ...], scalar -> predictions of data and noise
        ...
        return dj.Pred(x=x, eps=eps)

    sampler = dj.build("samplers", "dpmpp_2m()")
    x = dj.integrate(denoise, sampler, dj.gammas(20), z, key)    # z: [B, ...] from N(0, I)

Train a run, or open one from `djax train --config=digits --workdir=runs/digits`:

    run = dj.train("digits", "runs/digits")
    run = dj.open_run("runs/digits")
    images = run.sample(num=10, guidance="cfg(w=3.0)")    # uint8 [10, 8, 8, 1]
    print(run.bits_per_dim("test"))                       # value +- standard error
    data = run.compress(images)                           # bytes; run.decompress(data) inverts

`dj.available()` gives the kinds of plug-ins, `dj.available("samplers")` the plug-ins of a kind, and
`djax list` describes them. Importing this package does not load JAX; using one of its names does.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusion_jax import adapt, sampling, testing
    from diffusion_jax.cli.from_python import load_config, train
    from diffusion_jax.experiment import Experiment, open_run
    from diffusion_jax.model import Model
    from diffusion_jax.registry import available, build, describe
    from diffusion_jax.sampling.gammas import gammas
    from diffusion_jax.sampling.loop import integrate
    from diffusion_jax.sampling.sigmas import integrate_sigmas
    from diffusion_jax.types import Pred, alpha, sigma

__version__ = "0.1.0"
__all__ = [
    "Experiment", "Model", "Pred", "adapt", "alpha", "available", "build", "describe", "gammas",
    "integrate", "integrate_sigmas", "load_config", "open_run", "sampling", "sigma", "testing",
    "train",
]  # fmt: skip

_FROM = {
    "Experiment": "experiment",
    "Model": "model",
    "Pred": "types",
    "alpha": "types",
    "available": "registry",
    "build": "registry",
    "describe": "registry",
    "gammas": "sampling.gammas",
    "integrate": "sampling.loop",
    "integrate_sigmas": "sampling.sigmas",
    "load_config": "cli.from_python",
    "open_run": "experiment",
    "sigma": "types",
    "train": "cli.from_python",
}

_MODULES = ("adapt", "sampling", "testing")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_FROM[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*(n for n in globals() if n.startswith("__")), *__all__})
