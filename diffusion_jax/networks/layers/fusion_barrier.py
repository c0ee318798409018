"""Values that XLA:CPU computes once.

XLA:CPU duplicates cheap ops into every consumer. A residual stream is one long sum, so deeper
blocks recompute ever more of it. Ops that XLA considers expensive, such as division, are not
duplicated. (`lax.optimization_barrier` does not help: it is removed before fusion.)
"""

from typing import TypeVar

import jax
from jax import lax

T = TypeVar("T")


def computed_once(tree: T) -> T:
    """`tree`; on CPU, it and its gradient are computed once and kept in memory.

    Values are unchanged to the last bit, except that infinities become NaN.
    """

    def divided(tree: T) -> T:
        return jax.tree.map(lambda x: x / (1.0 + 0.0 * lax.stop_gradient(x)), tree)

    return lax.platform_dependent(tree, cpu=divided, default=lambda tree: tree)
