"""Sampling: samplers, grids, guidance, edits, and the loop that runs them.

`integrate` and `path` are here as well; they load with the first use.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusion_jax.sampling.loop import integrate, path

__all__ = ["integrate", "path"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from diffusion_jax.sampling import loop

    return getattr(loop, name)
