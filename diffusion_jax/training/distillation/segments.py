"""Regression on the teacher's own path: `segments(steps=4, inner=6)`, the default."""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.allowed import Count, Share
from diffusion_jax.training.distillation.base import Lesson, LessonInputs, between


@dataclass(frozen=True)
class Segments:
    """Each step of the student is `inner` steps of the teacher, from noisy data on.

    No rounds, no moving target and nothing of the student in it: plain regression.
    """

    steps: int
    inner: int
    interior: float
    rounds: int = 1
    timed: bool = False
    cond_scalars: tuple[str, ...] = ()

    @property
    def finest(self) -> int:
        """Only the student's own steps."""
        return self.steps

    def lesson(self, inputs: LessonInputs) -> Lesson:
        """One whole step, or its rest from a point of the teacher's path."""
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
    """The teacher's path within each step of the student.

    Args:
        steps: of the student.
        inner: of the teacher within one step of the student, equal in log-SNR.
        interior: share of the lessons that begin within a step, not at its start. Sampling asks
            the student only where its steps start.
    """
    return Segments(steps, inner, float(interior))
