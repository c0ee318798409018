"""Values that XLA:CPU computes once.

XLA:CPU duplicates cheap ops into every consumer. A residual stream is one long sum, so deeper
blocks recompute more. It does not duplicate ops it considers expensive, such as division.
(`lax.optimization_barrier` does not help: it is removed before fusion.)
"""

from jax import lax

from diffusion_jax.types import Array


def computed_once(x: Array) -> Array:
    """`x`, kept in memory on CPU together with its gradient; nothing on other platforms.

    Values are unchanged to the last bit, except that infinities become NaN.
    """

    def divided(x: Array) -> Array:
        return x / (1.0 + 0.0 * lax.stop_gradient(x))

    return lax.platform_dependent(x, cpu=divided, default=lambda x: x)
