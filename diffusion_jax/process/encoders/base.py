"""The contract of an encoder.

With an encoder the forward process is `z_t = alpha_t x_t + sigma_t eps`, `x_t = encode(x, gamma_t)`
(Nielsen et al. 2024, "DiffEnc"). It is used in training and evaluation; sampling never calls it.
"""

from typing import Protocol, runtime_checkable

from diffusion_jax.types import Array, Cond, Params


@runtime_checkable
class Encoder(Protocol):
    """A time-dependent transformation of the data, `x_t = x + shift`.

    Attributes:
        mean_coefficient: `c` in the generative model's mean, which is VDM's mean plus
            `c alpha_s (gamma_t - gamma_s) sigma_t^2 x_hat`; 0 for VDM, 1 for DiffEnc.

    An encoder whose `x_t` does not depend on gamma declares `time_dependent = False`.
    """

    @property
    def mean_coefficient(self) -> float: ...  # noqa: D102

    def init(self, key: Array, shape: tuple[int, ...]) -> Params:
        """Initial parameters for examples of this shape; an empty dict if there are none."""
        ...

    def shift(
        self, params: Params, x: Array, gamma: Array, cond: Cond, keys: Array | None
    ) -> Array:
        """`x_gamma - x`, shape of `x`; accurate also at small gamma, where the two nearly agree."""
        ...

    def __call__(
        self, params: Params, x: Array, gamma: Array, cond: Cond, keys: Array | None
    ) -> tuple[Array, Array]:
        """`(x_gamma, d x_gamma / d gamma)` of data `x` `[B, ...]` at `gamma` (scalar or `[B]`)."""
        ...
