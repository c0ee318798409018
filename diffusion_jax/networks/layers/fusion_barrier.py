"""Values that XLA:CPU computes once.

XLA:CPU duplicates cheap ops into every consumer. A residual stream is one long sum, so deeper
blocks recompute more. It does not duplicate ops it considers expensive, such as division.
(`lax.optimization_barrier` does not help: it is removed before fusion.)
"""

from typing import TypeVar

import jax
from jax import lax

T = TypeVar("T")


def computed_once(tree: T) -> T:
    """`tree`, kept in memory on CPU together with its gradient; nothing on other platforms.

    Values are unchanged to the last bit, except that infinities become NaN.
    """

    def divided(tree: T) -> T:
        return jax.tree.map(lambda x: x / (1.0 + 0.0 * lax.stop_gradient(x)), tree)

    return lax.platform_dependent(tree, cpu=divided, default=lambda tree: tree)
