"""Easy consistency tuning (ECT, Geng et al. 2025): `ect()`.

A consistency model from pairs of noise levels: the student at the noisier one must land where it
lands itself from the other, of the same image with the same noise. The pairs draw together in
stages: with `rho = sigma / alpha`, the nearer level of stage k = 0, 1, ... is

    max(rho (1 - q^-k (1 + 8 sigmoid(-rho))), rho at the end of the plan).

At the first stage that is the end of the plan, and a lesson is plain denoising: training begins
where its teacher's ended. Only the teacher's weights are needed and nothing that it predicts, so
that there is no guidance to be built in. Nothing is differentiated but the loss, and any network
will do.

A student that is exact is not quite a fixed point: its own prediction varies over the images that a
latent may come from. For Gaussian data it falls short of the flow by the factor
`(alpha alpha_r c + sigma sigma_r) / (S S_r)` from r to gamma, `S^2 = alpha^2 c + sigma^2`: a second
order in the distance of the pair.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_jax.allowed import Count, Finite, Positive
from diffusion_jax.errors import ConfigError
from diffusion_jax.training.distillation.base import Lesson, LessonInputs, log_normal
from diffusion_jax.traits import HasTraits
from diffusion_jax.types import expand

_WIDER = 8.0  # how much wider pairs are where noise is low


@dataclass(frozen=True)
class ECT:
    """Pairs that draw together."""

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
        """Only the student's own steps."""
        return self.steps

    def check(self, model: HasTraits, guided: bool) -> None:
        """Refuses (`ConfigError`) guidance, of which it would learn nothing."""
        if guided:
            raise ConfigError(
                "ect() learns from images and never asks its teacher, so that no guidance can be "
                "built in: leave guidance and weight out, or use scm() or segments()"
            )

    def lesson(self, inputs: LessonInputs) -> Lesson:
        """From the noisier of a pair to where the student lands from the other."""
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
    """A consistency model from pairs of noise levels that draw together.

    Args:
        steps: that it samples with unless another number is asked for.
        stages: of equal length; the first is plain denoising.
        q: how many times closer the pairs of a stage are than those of the one before.
        mean: of the logarithm of sigma / alpha at the noisier of a pair.
        std: likewise, its deviation; pairs keep within the plan.

    Raises:
        ConfigError: the pairs would not draw together.
    """
    if q <= 1.0:
        raise ConfigError(f"ect: q={q:g} must be above 1, such as 2: pairs draw together by it")
    return ECT(steps, stages, float(q), float(mean), float(std))
