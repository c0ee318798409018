"""Easy consistency tuning (ECT, Geng et al. 2025): `ect()`.

A consistency model trained on pairs of noise levels: from the noisier level the student must reach
the point that it reaches itself from the other level, for the same image and noise. The pairs move
closer together in stages: with `rho = sigma / alpha`, the lower level of stage k = 0, 1, ... is

    max(rho (1 - q^-k (1 + 8 sigmoid(-rho))), rho at the end of the plan).

At the first stage that is the end of the plan, and a lesson is plain denoising: training starts
where the teacher's ended. Only the teacher's weights are used, not its predictions, so guidance
cannot be built in. Only the loss is differentiated, so any network can be used.

An exact student is not quite a fixed point, because its own prediction varies over the images that
a latent may come from. For Gaussian data it falls short of the flow by the factor
`(alpha alpha_r c + sigma sigma_r) / (S S_r)` from r to gamma, `S^2 = alpha^2 c + sigma^2`: an error
of second order in the distance of the pair.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_jax.allowed import Count, Finite, Positive
from diffusion_jax.errors import ConfigError
from diffusion_jax.training.distillation.base import Lesson, LessonInputs, log_normal
from diffusion_jax.traits import HasTraits
from diffusion_jax.types import expand

_WIDER = 8.0  # the factor of the sigmoid: pairs are wider where noise is low


@dataclass(frozen=True)
class ECT:
    """Pairs of noise levels that move closer together."""

    steps: int
    stages: int
    q: float
    mean: float
    std: float
    rounds: int = 1
    timed: bool = True
    cond_scalars: tuple[str, ...] = ()
    to_end: bool = True

    @property
    def finest(self) -> int:
        """As many as the student's steps."""
        return self.steps

    def check(self, model: HasTraits, guided: bool) -> None:
        """Raises `ConfigError` for guidance, which the student could not learn."""
        if guided:
            raise ConfigError(
                "ect() learns from images and never calls its teacher, so guidance cannot be "
                "built in: leave guidance and weight out, or use scm() or segments()"
            )

    def lesson(self, inputs: LessonInputs) -> Lesson:
        """From the noisier level of a pair to the point that the student reaches from the other."""
        gamma = log_normal(inputs.u, inputs.edges, self.mean, self.std)
        end = jnp.broadcast_to(inputs.edges[-1], gamma.shape)
        stage = jnp.floor(inputs.progress * self.stages)
        apart = self.q**-stage * (1.0 + _WIDER * jax.nn.sigmoid(-jnp.exp(0.5 * gamma)))
        nearer = jnp.maximum(gamma + 2.0 * jnp.log1p(-jnp.minimum(apart, 1.0)), end)
        z, other = inputs.noisy(gamma), inputs.noisy(nearer)
        there = jnp.where(expand(nearer > end, z), inputs.jump(other, nearer, end), other)
        return Lesson(z, gamma, end, there)


def make(
    steps: Count = 1,
    stages: Count = 8,
    q: Positive = 2.0,
    mean: Finite = -1.1,
    std: Positive = 2.0,
) -> ECT:
    """A consistency model from pairs of noise levels that move closer together.

    Args:
        steps: default number of sampling steps.
        stages: number of stages of equal length; the first is plain denoising.
        q: factor by which the distance of a pair shrinks from each stage to the next.
        mean: mean of log(sigma / alpha) at the noisier level of a pair.
        std: standard deviation of log(sigma / alpha); the distribution is truncated to the plan.

    Raises:
        ConfigError: `q` is not above 1.
    """
    if q <= 1.0:
        raise ConfigError(f"ect: q={q:g} must be above 1, such as 2: it shrinks the pairs")
    return ECT(steps, stages, float(q), float(mean), float(std))
