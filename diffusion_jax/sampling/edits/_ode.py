"""Shared by edits that start from an image's latent under the probability-flow ODE."""

import jax.numpy as jnp
import numpy as np

from diffusion_jax.denoiser import with_condition
from diffusion_jax.errors import ConfigError
from diffusion_jax.model import Model, need_likelihood
from diffusion_jax.sampling.edits.base import Brush, need_stateless
from diffusion_jax.sampling.encoder_corrections import for_sampler
from diffusion_jax.sampling.inversion import invert
from diffusion_jax.sampling.method import Method
from diffusion_jax.sampling.samplers.base import Sampler
from diffusion_jax.types import Array, Cond, alpha


def check(name: str, model: Model, method: Method) -> None:
    """Raises ConfigError for added noise, stateful guidance, and students.

    Correctors and upward moves add noise. The predictions of a student say where its own steps
    lead; those of a flow map are the slope of the ODE.
    """
    if "to" not in model.cond_scalars:
        need_likelihood(model, f"{name}()")
    need_stateless(name, method)
    if method.correct is not None:
        raise ConfigError(f"{name}: a corrector draws noise; use corrector='none()'")
    if np.any(np.diff(method.gammas) > 0.0):
        raise ConfigError(f"{name}: a plan that goes up draws noise; use plan='once()'")


def latent(brush: Brush, x: Array, cond: Cond, solver: Sampler) -> Array:
    """The latents of images `x` `[R, ...]` at the start of the plan, under the brush's guidance."""
    model, gammas = brush.model, brush.method.gammas[::-1]
    c = model.traits.mean_coefficient
    guided = brush.guidance()(model.denoiser(brush.params), brush.context)
    denoise = for_sampler(with_condition(guided, cond), c, solver)
    low = jnp.asarray(gammas[0], x.dtype)
    return invert(denoise, solver, gammas, alpha(low) * brush.encoded(x, low, cond))
