"""The contract of a method of distillation: where a student is asked, and where it must land.

A student of N steps is a denoiser whose DDIM steps over N + 1 fixed gammas go where its teacher's
probability-flow ODE goes. With `z_s` at the less noisy end s of a step that starts at gamma,

    z_s = alpha_s x + sigma_s (z - alpha x) / sigma,

so that the prediction which lands at a given `z_s` is

    x = (z_s - (sigma_s / sigma) z) / (alpha_s (1 - e^((s - gamma) / 2))).

Methods differ only in who says what `z_s` is: the teacher in small steps, the student of the round
before, the teacher followed by the student itself, or the student alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri

from diffusion_jax.types import Array, Pred, alpha, expand, sigma


class Lesson(NamedTuple):
    """Steps that a student is to make, one for each example.

    Attributes:
        z: latents at `gamma`, `[B, ...]`.
        gamma: where the step starts, `[B]`.
        end: where it ends, `[B]`; below `gamma`, but for methods that also learn the way back.
        z_end: the latents it must reach there.
    """

    z: Array
    gamma: Array
    end: Array
    z_end: Array


@dataclass(frozen=True)
class LessonInputs:
    """What a method has to make a lesson of, at one training step.

    Attributes:
        edges: the plan of `method.finest` steps, `[finest + 1]`, noise first.
        u: uniform in [0, 1), stratified over the batch, `[B]`.
        v: uniform in [0, 1), `[B]`.
        progress: the share of the training that is done, a scalar.
        round: which of the method's rounds this is, from 0: a whole number, which `progress` times
            the rounds may miss.
        noisy: gamma `[B]` to data with the noise of this step.
        teach: `(z, gammas [M + 1, B]) -> latents [M + 1, B, ...]`, along the teacher's ODE.
        jump: `(z, gamma, end) -> z_end`: a step of the student itself; it has no gradient.
        before: likewise, of the student as it was when this round began.
        student: `(z, gamma) -> Pred`, what the student says, computed in float32. It has
            derivatives in z and gamma, and no gradient.
        teacher: likewise, what the teacher says, guidance included.
    """

    edges: Array
    u: Array
    v: Array
    progress: Array
    round: Array
    noisy: Callable[[Array], Array]
    teach: Callable[[Array, Array], Array]
    jump: Callable[[Array, Array, Array], Array]
    before: Callable[[Array, Array, Array], Array]
    student: Callable[[Array, Array], Pred]
    teacher: Callable[[Array, Array], Pred]


@runtime_checkable
class Method(Protocol):
    """A way to distil.

    One whose students lead to the end of the plan from wherever they are asked, as consistency
    models do, also has `to_end`, true: they take any number of steps, by `renoise()`. One that not
    every student can learn from has `check(model, guided)`, which raises `ConfigError`; `guided`
    says whether a guidance is to be built in.

    Attributes:
        steps: of the student.
        finest: steps of the plan that lessons are made of, a multiple of `steps`.
        rounds: in each the optimiser and the averages begin anew, at the weights so far.
        timed: whether lessons depend on the progress of training.
        cond_scalars: what the student is told beside gamma: `"to"`, where its step ends. It then
            takes any number of steps, by `jump()`. Without, and without `to_end`, only those of its
            plan.
    """

    @property
    def steps(self) -> int: ...  # noqa: D102

    @property
    def finest(self) -> int: ...  # noqa: D102

    @property
    def rounds(self) -> int: ...  # noqa: D102

    @property
    def timed(self) -> bool: ...  # noqa: D102

    @property
    def cond_scalars(self) -> tuple[str, ...]: ...  # noqa: D102

    def lesson(self, inputs: LessonInputs) -> Lesson:
        """What the student is to learn in this step."""
        ...


def land(pred: Pred, end: Array) -> Array:
    """Where a DDIM step to `end` goes that starts with this prediction."""
    g = expand(end, pred.x)
    return alpha(g) * pred.x + sigma(g) * pred.eps


def aim(lesson: Lesson) -> Array:
    """The prediction of the data whose DDIM step lands where the lesson says."""
    z, end, gamma = lesson.z, expand(lesson.end, lesson.z), expand(lesson.gamma, lesson.z)
    moved = lesson.z_end - sigma(end) / sigma(gamma) * z
    return moved / (-alpha(end) * jnp.expm1(0.5 * (end - gamma)))


def between(start: Array, end: Array, pieces: int) -> Array:
    """`pieces` equal parts of each `[start, end]`: `[pieces + 1, B]`, exact at both ends."""
    share = jnp.arange(pieces + 1, dtype=start.dtype)[:, None] / pieces
    inside = start + share * (end - start)
    return inside.at[-1].set(end)


_MARGIN = 0.01  # of the plan: a step must have a length


def log_normal(u: Array, edges: Array, mean: float, std: float) -> Array:
    """Gammas `[B]` of a log-normal sigma / alpha within a plan, from uniform numbers `[B]`."""
    low, high = edges[-1] + _MARGIN * (edges[0] - edges[-1]), edges[0]
    below = ndtr((0.5 * jnp.stack([low, high]) - mean) / std)
    drawn = 2.0 * (mean + std * ndtri(below[0] + u * (below[1] - below[0])))
    return jnp.clip(drawn, low, high)
