"""VDM's monotone network for gamma(t), with end points that are exact by construction.

The published network (Kingma et al. 2021, appendix H) is a positive-weight map
`g(t) = l1(t) + l3(sigmoid-like(l2(t)))`; its public implementation never normalises it, so the
end points drift. Here only the *shape* comes from the network; the ends are their own parameters.
The slope is bounded below, so that a saturated network gives a straight line, never a flat one.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_jax.allowed import Count, Finite
from diffusion_jax.process.schedules.base import check_ends, pinned
from diffusion_jax.types import Array, Params

_SLOWEST = 1e-3  # least slope of the straight part, as a share of the total rise of the bends


@dataclass(frozen=True)
class LearnedMLP:
    """Learned end points and a learned monotone shape between them."""

    features: int
    gamma_min: float
    gamma_max: float
    train_ends: bool = True

    def init(self, key: Array) -> Params:
        """`{"ends": {b, w}, "shape": {...}}`; starts close to linear.

        Each unit bends the curve around a random time, over a twentieth of [0, 1]. Units of the
        published standard-normal initialisation are as wide as [0, 1] and learn far more slowly.
        """
        k_scale, k_centre, k_out = jax.random.split(key, 3)
        shape = (self.features,)
        scale = 20.0 * jnp.exp(0.3 * jax.random.normal(k_scale, shape))
        centre = jax.random.uniform(k_centre, shape)
        return {
            "ends": {
                "b": jnp.asarray(self.gamma_min, jnp.float32),
                "w": jnp.asarray(self.gamma_max - self.gamma_min, jnp.float32),
            },
            "shape": {
                "slope": jnp.ones((), jnp.float32),
                "scale": scale,
                "shift": -scale * (2.0 * centre - 1.0),
                "out": 0.01 * jax.random.normal(k_out, shape),
            },
        }

    def gamma(self, params: Params, t: Array) -> Array:
        """`gamma` at times `t`."""
        p = params["shape"]
        # Every weight that multiplies t enters through |.|: the curve can only increase.
        scale, first = jnp.abs(p["scale"]), 0.5 * (p["shift"] - jnp.abs(p["scale"]))

        def bend(u: Array) -> Array:
            # tanh(first + scale u) - tanh(first), without cancellation where both are near 1.
            step = scale * u[..., None]
            product = jnp.tanh(first) * jnp.tanh(first + step)
            return (jnp.tanh(step) * (1.0 - product)) @ jnp.abs(p["out"])

        least = jnp.maximum(_SLOWEST * bend(jnp.ones(())), 1e-6)
        slope = jnp.maximum(jnp.abs(p["slope"]), least)

        def curve(u: Array) -> Array:
            return slope * u + bend(u)

        ends = params["ends"]
        if not self.train_ends:
            ends = jax.lax.stop_gradient(ends)
        return pinned(curve, jnp.asarray(t), ends["b"], ends["b"] + jnp.abs(ends["w"]))


def make(
    features: Count = 1024,
    train_ends: bool = True,
    gamma_min: Finite = -13.3,
    gamma_max: Finite = 5.0,
) -> LearnedMLP:
    """A monotone network, initialised close to a straight line.

    Args:
        features: number of hidden units.
        train_ends: learn the ends as well as the shape between them.
        gamma_min: initial gamma at t = 0.
        gamma_max: initial gamma at t = 1.
    """
    check_ends(gamma_min, gamma_max)
    return LearnedMLP(features, gamma_min, gamma_max, train_ends)
