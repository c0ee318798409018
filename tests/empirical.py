"""The perfect denoiser of a finite set of images: a model that has learned them by heart."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax import registry
from diffusion_jax.model import Model
from diffusion_jax.process.parameterization import from_pred
from diffusion_jax.types import Pred, alpha, expand, sigma


@dataclass(frozen=True)
class EmpiricalNetwork:
    """Predicts E[x | z] where x is one of its weights `atoms` `[N, H, W, C]`, equally likely."""

    def init(self, key, z, gamma, cond):
        return {"params": {}}

    def apply(self, variables, z, gamma, cond, keys=None):
        atoms, g = variables["params"]["atoms"], expand(gamma, z)
        a, s = alpha(g), sigma(g)
        apart = z[:, None] - jnp.expand_dims(a, 1) * atoms
        square = jnp.square(apart).sum(range(2, z.ndim + 1))
        weights = jax.nn.softmax(-square / (2 * s.reshape(-1, 1) ** 2))
        x = jnp.einsum("bn,n...->b...", weights, atoms)
        return from_pred("eps", Pred(x, (z - a * x) / s), gamma)


def model(levels, gamma_min=-9.0, gamma_max=5.0):
    decoder = registry.build("decoders", "categorical()", levels=levels)
    schedule = f"linear(gamma_min={gamma_min}, gamma_max={gamma_max})"
    return Model(EmpiricalNetwork(), registry.build("schedules", schedule), decoder, "eps")


def weights(images, levels, count=0):
    """Those of a model that knows `images`, integers; repeated in turn up to a `count`."""
    images = np.asarray(images)
    decoder = registry.build("decoders", "categorical()", levels=levels)
    known = images[np.arange(count or len(images)) % len(images)]
    return {"network": {"atoms": decoder.encode(jnp.asarray(known))}, "schedule": {}}
