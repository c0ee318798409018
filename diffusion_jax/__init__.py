"""Likelihood-based diffusion with guidance, in JAX.

Sample from any denoiser, yours included; `gamma` is -log SNR everywhere:

    import diffusion_jax as dj

    def denoise(z, gamma):           # [B, ...], scalar -> what the data and the noise are
        ...
        return dj.Pred(x=x, eps=eps)

    sampler = dj.build("samplers", "dpmpp_2m()")
    x = dj.integrate(denoise, sampler, gammas, z, key)

Use a run, here of `djax train --config=digits --workdir=runs/digits`:

    run = dj.open_run("runs/digits")
    images = run.sample(num=10, guidance="cfg(w=3.0)")    # uint8 [10, 8, 8, 1]
    print(run.bits_per_dim("test"))                       # value +- standard error
    data = run.compress(images)                           # bytes; run.decompress(data) gives back

`dj.available("samplers")` names what can be built, and `--mode=list` says what each is. Importing
this package loads nothing: JAX comes with the first name that is used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusion_jax import adapt
    from diffusion_jax.experiment import Experiment, open_run
    from diffusion_jax.model import Model
    from diffusion_jax.registry import available, build
    from diffusion_jax.sampling.loop import integrate
    from diffusion_jax.types import Pred, alpha, sigma

__version__ = "0.1.0"
__all__ = [
    "Experiment", "Model", "Pred", "adapt", "alpha", "available", "build", "integrate", "open_run",
    "sigma",
]  # fmt: skip

_FROM = {
    "Experiment": "experiment",
    "Model": "model",
    "Pred": "types",
    "alpha": "types",
    "available": "registry",
    "build": "registry",
    "integrate": "sampling.loop",
    "open_run": "experiment",
    "sigma": "types",
}

_MODULES = ("adapt",)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_FROM[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*(n for n in globals() if n.startswith("__")), *__all__})
