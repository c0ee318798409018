"""Multistep consistency distillation (Heek et al. 2024): `bootstrap(steps=4)`.

The target is one step of the teacher, followed by the student's own jump to the end of the segment.
With `steps=1` the student is a consistency model.
"""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.allowed import Count
from diffusion_jax.errors import ConfigError
from diffusion_jax.training.distillation.base import Lesson, LessonInputs


@dataclass(frozen=True)
class Bootstrap:
    """Each segment is divided into a growing number of teacher steps; a lesson takes one."""

    steps: int
    first: int
    last: int
    rounds: int = 1
    timed: bool = True
    cond_scalars: tuple[str, ...] = ()

    @property
    def finest(self) -> int:
        """As many as the student's steps."""
        return self.steps

    def lesson(self, inputs: LessonInputs) -> Lesson:
        """From a point in a segment to its end; the first step is the teacher's."""
        place = inputs.u * self.steps
        k = jnp.floor(place).astype(jnp.int32)
        start, end = inputs.edges[k], inputs.edges[k + 1]
        pieces = jnp.round(self.first * (self.last / self.first) ** inputs.progress)
        done = jnp.minimum(jnp.floor((place - k) * pieces), pieces - 1)
        gamma = start + done / pieces * (end - start)
        middle = jnp.where(done == pieces - 1, end, start + (done + 1) / pieces * (end - start))
        z = inputs.noisy(gamma)
        nearer = inputs.teach(z, jnp.stack([gamma, middle]))[-1]
        return Lesson(z, gamma, end, inputs.jump(nearer, middle, end))


def make(steps: Count = 4, first: Count = 8, last: Count = 64) -> Bootstrap:
    """Multistep consistency distillation.

    Args:
        steps: number of steps of the student.
        first: teacher steps per student step at the beginning of training.
        last: teacher steps per student step at the end; the number grows geometrically.

    Raises:
        ConfigError: `last` is less than `first`.
    """
    if last < first:
        raise ConfigError(f"bootstrap: last={last} must be at least first={first}")
    return Bootstrap(steps, first, last)
