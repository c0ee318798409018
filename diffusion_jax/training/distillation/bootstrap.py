"""Multistep consistency distillation (Heek et al. 2024): `bootstrap(steps=4)`.

One step of the teacher, then the student's own jump to the end of the segment. With `steps=1` it is
a consistency model.
"""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.allowed import Count
from diffusion_jax.errors import ConfigError
from diffusion_jax.training.distillation.base import Lesson, LessonInputs


@dataclass(frozen=True)
class Bootstrap:
    """Segments of ever more teacher's steps, of which each lesson makes one."""

    steps: int
    first: int
    last: int
    rounds: int = 1
    timed: bool = True
    cond_scalars: tuple[str, ...] = ()

    @property
    def finest(self) -> int:
        """Only the student's own steps."""
        return self.steps

    def lesson(self, inputs: LessonInputs) -> Lesson:
        """From a point of a segment to its end, one step of it by the teacher."""
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
    """The teacher for one small step, the student for the rest of its own.

    Args:
        steps: of the student.
        first: the teacher's steps in one of the student's when training begins.
        last: when it ends; they grow by equal factors.

    Raises:
        ConfigError: there are fewer at the end.
    """
    if last < first:
        raise ConfigError(f"bootstrap: last={last} must be at least first={first}")
    return Bootstrap(steps, first, last)
