"""The contract of a distillation method: it chooses the student's inputs and their targets.

A student of N steps is a denoiser whose DDIM steps over N + 1 fixed gammas follow its teacher's
probability-flow ODE. With `z_s` at the less noisy end s of a step that starts at gamma,

    z_s = alpha_s x + sigma_s (z - alpha x) / sigma,

so the prediction that leads to a given `z_s` is

    x = (z_s - (sigma_s / sigma) z) / (alpha_s (1 - e^((s - gamma) / 2))).

Methods differ only in where the target `z_s` comes from: small steps of the teacher, the student of
the previous round, the teacher followed by the student itself, or the student alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri

from diffusion_jax.types import Array, Pred, alpha, expand, sigma


class Lesson(NamedTuple):
    """Steps that the student must learn to make, one for each example.

    Attributes:
        z: latents at `gamma`, `[B, ...]`.
        gamma: gamma at the start of the step, `[B]`.
        end: gamma at its end, `[B]`; below `gamma`, except in methods that also learn the reverse
            direction.
        z_end: target latents at `end`, `[B, ...]`.
    """

    z: Array
    gamma: Array
    end: Array
    z_end: Array


@dataclass(frozen=True)
class LessonInputs:
    """Everything a method needs to make a lesson, at one training step.

    Attributes:
        edges: the plan of `method.finest` steps, `[finest + 1]`, noise first.
        u: uniform numbers in [0, 1), stratified over the batch, `[B]`.
        v: uniform numbers in [0, 1), `[B]`.
        progress: fraction of the training that is done, a scalar.
        round: index of the current round, an integer; `progress` times the number of rounds may be
            off by rounding.
        noisy: maps gamma `[B]` to data with the noise of this step.
        teach: `(z, gammas [M + 1, B]) -> latents [M + 1, B, ...]`, along the teacher's ODE.
        jump: `(z, gamma, end) -> z_end`, a step of the student itself, without a gradient.
        before: like `jump`, for the student at the beginning of this round.
        student: `(z, gamma) -> Pred`, the student's prediction, computed in float32. It can be
            differentiated in z and gamma, but not in the weights.
        teacher: `(z, gamma) -> Pred`, the teacher's prediction, including guidance.
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
    """A distillation method.

    A method whose students lead from any point to the end of the plan, as consistency models do,
    also has `to_end = True`; these students take any number of steps with `renoise()`. A method
    that is restricted to certain students has `check(model, guided)`, which raises `ConfigError`;
    `guided` says whether guidance is to be built in.

    Attributes:
        steps: number of steps of the student.
        finest: number of steps of the plan for lessons, a multiple of `steps`.
        rounds: number of rounds; optimiser and averages restart in each, from the current weights.
        timed: whether lessons depend on the progress of training.
        cond_scalars: scalar inputs of the student besides gamma: `"to"`, the gamma at the end of
            its step, allows any number of steps with `jump()`. Without it and without `to_end` a
            student takes only the steps of its plan.
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
        """The lesson of this training step."""
        ...


def land(pred: Pred, end: Array) -> Array:
    """The result of a DDIM step to `end` with this prediction."""
    g = expand(end, pred.x)
    return alpha(g) * pred.x + sigma(g) * pred.eps


def aim(lesson: Lesson) -> Array:
    """The prediction of the data whose DDIM step reaches the lesson's target."""
    z, end, gamma = lesson.z, expand(lesson.end, lesson.z), expand(lesson.gamma, lesson.z)
    moved = lesson.z_end - sigma(end) / sigma(gamma) * z
    return moved / (-alpha(end) * jnp.expm1(0.5 * (end - gamma)))


def between(start: Array, end: Array, pieces: int) -> Array:
    """Divides each `[start, end]` into equal pieces: `[pieces + 1, B]`, exact at both ends."""
    share = jnp.arange(pieces + 1, dtype=start.dtype)[:, None] / pieces
    inside = start + share * (end - start)
    return inside.at[-1].set(end)


_MARGIN = 0.01  # fraction of the plan left out at its end, so that no step has length 0


def log_normal(u: Array, edges: Array, mean: float, std: float) -> Array:
    """Gammas `[B]` for which sigma / alpha is log-normal, truncated to the plan; `u` is uniform."""
    low, high = edges[-1] + _MARGIN * (edges[0] - edges[-1]), edges[0]
    below = ndtr((0.5 * jnp.stack([low, high]) - mean) / std)
    drawn = 2.0 * (mean + std * ndtri(below[0] + u * (below[1] - below[0])))
    return jnp.clip(drawn, low, high)
