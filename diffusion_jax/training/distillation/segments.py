"""Regression on the teacher's own path: `segments(steps=4, inner=6)`, the default."""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.allowed import Count, Share
from diffusion_jax.training.distillation.base import Lesson, LessonInputs, between


@dataclass(frozen=True)
class Segments:
    """The target of each student step is `inner` teacher steps, starting from noisy data.

    This is plain regression: targets depend on neither the student nor the progress of training.
    """

    steps: int
    inner: int
    interior: float
    rounds: int = 1
    timed: bool = False
    cond_scalars: tuple[str, ...] = ()

    @property
    def finest(self) -> int:
        """As many as the student's steps."""
        return self.steps

    def lesson(self, inputs: LessonInputs) -> Lesson:
        """One whole step, or the rest of one from a point on the teacher's path."""
        k = jnp.floor(inputs.u * self.steps).astype(jnp.int32)
        gammas = between(inputs.edges[k], inputs.edges[k + 1], self.inner)
        path = inputs.teach(inputs.noisy(gammas[0]), gammas)
        z, gamma = path[0], gammas[0]
        if self.interior and self.inner > 1:
            inside = jnp.floor(inputs.v / self.interior * (self.inner - 1)).astype(jnp.int32)
            at = jnp.where(inputs.v < self.interior, 1 + inside, 0)
            rows = jnp.arange(len(k))
            z, gamma = path[at, rows], gammas[at, rows]
        return Lesson(z, gamma, gammas[-1], path[-1])


def make(steps: Count = 4, inner: Count = 6, interior: Share = 0.0) -> Segments:
    """Regression on the teacher's path within each step of the student.

    Args:
        steps: number of steps of the student.
        inner: teacher steps within one student step, equally spaced in log-SNR.
        interior: fraction of lessons that start inside a step. Sampling evaluates the student only
            at the start of its steps.
    """
    return Segments(steps, inner, float(interior))
