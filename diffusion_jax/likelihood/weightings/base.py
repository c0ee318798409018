"""The contract of a weighting.

A weighting is `(gamma, slope) -> w >= 0`, elementwise; `slope` is the schedule's `gamma'(t)`. The
loss is `1/2 E_t [gamma'(t) w |eps - eps_hat|^2]`, so that `w = 1` is the bound, and each of the
usual losses is some `w` (Kingma & Gao 2023, "Understanding diffusion objectives as the ELBO").

* `monotone`: w never falls as gamma grows. The loss is then a mean of bounds on the likelihood of
  data with added noise; otherwise it is not a bound.
* `of_gamma`: w does not use `slope`, so that the loss does not depend on the schedule's shape.
"""

from typing import Protocol, runtime_checkable

from diffusion_jax.types import Array


@runtime_checkable
class Weighting(Protocol):
    """A weight per unit of gamma."""

    @property
    def monotone(self) -> bool:
        """Whether the weight never falls as gamma grows."""
        ...

    @property
    def of_gamma(self) -> bool:
        """Whether the weight is a function of gamma alone."""
        ...

    def __call__(self, gamma: Array, slope: Array) -> Array:
        """The weight, shape of `gamma`."""
        ...
