"""Guidance over a mixture whose every part is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from closed_form import MIXTURE

from diffusion_jax import registry
from diffusion_jax.sampling.guidance.base import Context
from diffusion_jax.types import alpha, sigma

SHIFTED = dataclasses.replace(MIXTURE, var=0.3)  # a worse model of the same data


def held(kind, checkpoint):
    """What the checkpoint "DIR" holds: the exact functions of the mixture."""
    assert checkpoint == "DIR"
    return SHIFTED.conditional if kind == "denoiser" else MIXTURE.log_prob


CONTEXT = Context(MIXTURE.null, SHIFTED.conditional, MIXTURE.log_prob, held)


def guide(spec, context=CONTEXT, denoiser=MIXTURE.conditional):
    return registry.build("guidance", spec)(denoiser, context)


def batch(seed=0):
    z = 1.5 * jax.random.normal(jax.random.key(seed), (3, 2))
    return z, {"label": jnp.array([0, 2, 1])}


def same(a, b, tol=1e-9):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tol, atol=tol), a, b)


def consistent(pred, z, gamma):
    same(alpha(gamma) * pred.x + sigma(gamma) * pred.eps, z)
