"""The plain squared error of eps (Ho et al. 2020): `1 / gamma'(t)`, even in the schedule's time."""

from dataclasses import dataclass

from diffusion_jax.types import Array


@dataclass(frozen=True)
class Eps:
    """`1 / gamma'(t)`; it depends on the schedule, and on its shape."""

    monotone: bool = False
    of_gamma: bool = False

    def __call__(self, gamma: Array, slope: Array) -> Array:
        """The weight at `gamma`."""
        return 1.0 / slope


def make() -> Eps:
    """Half the squared error of eps, even in the schedule's time."""
    return Eps()
