"""Progressive distillation (Salimans & Ho 2022): `halving(steps=4, rounds=3)`."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_jax.allowed import Count
from diffusion_jax.errors import ConfigError
from diffusion_jax.training.distillation.base import Lesson, LessonInputs


@dataclass(frozen=True)
class Halving:
    """In each round the number of steps halves: one step replaces two of the previous round."""

    steps: int
    rounds: int
    timed: bool = True
    cond_scalars: tuple[str, ...] = ()

    @property
    def finest(self) -> int:
        """The number of the teacher's steps in the first round."""
        return self.steps * 2**self.rounds

    def lesson(self, inputs: LessonInputs) -> Lesson:
        """One step of this round, whose target is two of the teacher's or the previous round's."""
        now = inputs.round
        length = 2 ** (now + 1)  # length of a step, in steps of the finest plan
        k = jnp.floor(inputs.u * (self.finest // length)).astype(jnp.int32) * length
        gammas = inputs.edges[jnp.stack([k, k + length // 2, k + length])]
        z = inputs.noisy(gammas[0])

        def two_steps_before() -> jax.Array:
            return inputs.before(inputs.before(z, gammas[0], gammas[1]), gammas[1], gammas[2])

        z_end = jax.lax.cond(now == 0, lambda: inputs.teach(z, gammas)[-1], two_steps_before)
        return Lesson(z, gammas[0], gammas[2], z_end)


def make(steps: Count = 4, rounds: Count = 3) -> Halving:
    """Rounds that each halve the number of steps.

    Args:
        steps: final number of steps of the student, a power of two.
        rounds: number of halvings; the teacher takes `steps * 2**rounds` steps.

    Raises:
        ConfigError: `steps` is not a power of two.
    """
    if steps & (steps - 1):
        near = 2 ** math.floor(math.log2(steps))
        raise ConfigError(
            f"halving: steps={steps} must be a power of two, such as {near} or {2 * near}; "
            "segments() and bootstrap() take any number"
        )
    return Halving(steps, rounds)
