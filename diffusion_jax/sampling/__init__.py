"""Sampling: samplers, grids, guidance, edits, and the loop that runs them.

`integrate`, `path` and `integrate_sigmas` are exported from here and imported on first use.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusion_jax.sampling.loop import integrate, path
    from diffusion_jax.sampling.sigmas import integrate_sigmas

__all__ = ["integrate", "integrate_sigmas", "path"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from diffusion_jax.sampling import loop, sigmas

    return getattr(sigmas if name == "integrate_sigmas" else loop, name)
