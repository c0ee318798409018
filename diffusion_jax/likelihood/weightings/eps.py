"""The plain squared error of eps (Ho et al. 2020), uniform in the schedule's time."""

from dataclasses import dataclass

from diffusion_jax.types import Array


@dataclass(frozen=True)
class Eps:
    """`1 / gamma'(t)`, which depends on the schedule's shape."""

    monotone: bool = False
    of_gamma: bool = False

    def __call__(self, gamma: Array, slope: Array) -> Array:
        """The weight at `gamma`."""
        return 1.0 / slope


def make() -> Eps:
    """Half the squared error of eps, uniform in the schedule's time."""
    return Eps()
