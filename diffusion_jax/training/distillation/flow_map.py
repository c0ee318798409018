"""A flow map between any two noise levels (Shortcut models, Frans et al. 2024): `flow_map()`.

The student is conditioned on the end of its step. It learns short steps from the teacher. The
target of a long step is two of its own steps, each half as long (`rule="progressive"`), or one of
its own followed by a short one of the teacher (`"lagrangian"`: the end point moves along the
teacher's ODE; Boffi et al. 2024, in finite steps). One student then takes any number of steps.
"""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.allowed import Count, Share
from diffusion_jax.errors import ConfigError
from diffusion_jax.training.distillation.base import Lesson, LessonInputs
from diffusion_jax.types import expand


@dataclass(frozen=True)
class FlowMap:
    """Steps of every length, from the shortest to the whole plan in one step."""

    steps: int
    finest: int
    taught: float
    both: bool
    rule: str
    rounds: int = 1
    timed: bool = False
    cond_scalars: tuple[str, ...] = ("to",)

    def lesson(self, inputs: LessonInputs) -> Lesson:
        """A short step by the teacher, or a long one by the student itself.

        Each lesson goes from `start` by way of `middle` to `end`, or the other way (`back`).
        """
        short = inputs.v < self.taught
        # Rescaled to be uniform in [0, 1) in either case.
        w = jnp.where(short, inputs.v / self.taught, (inputs.v - self.taught) / (1.0 - self.taught))
        back = jnp.zeros_like(short)
        if self.both:  # use one bit of `v`; `u` is stratified, so its leading bit may be constant
            back, w = w < 0.5, (2.0 * w) % 1.0
        octaves = jnp.log2(self.finest)
        # Half an octave beyond the longest, so that the whole plan in one step is drawn often.
        length = jnp.where(short, w, jnp.minimum(1.0 + (octaves - 0.5) * w, octaves))
        share = 2.0 ** (length - octaves)
        first = inputs.u * (1.0 - share)
        nodes = jnp.linspace(0.0, 1.0, self.finest + 1)
        start, middle, end = (
            jnp.interp(first + part * share, nodes, inputs.edges) for part in (0.0, 0.5, 1.0)
        )
        noisy = inputs.noisy(start)
        if self.rule == "lagrangian":
            last, last_middle = (
                jnp.interp(first + share - part / self.finest, nodes, inputs.edges)
                for part in (1.0, 0.5)
            )
            from_here = jnp.where(expand(short, noisy), noisy, inputs.jump(noisy, start, last))
            gammas = jnp.where(
                short, jnp.stack([start, middle, end]), jnp.stack([last, last_middle, end])
            )
            return Lesson(noisy, start, end, inputs.teach(from_here, gammas)[-1])
        path = inputs.teach(noisy, jnp.stack([start, middle, end]))
        a, b = jnp.where(back, end, start), jnp.where(back, start, end)
        z = inputs.noisy(a)
        by_student = inputs.jump(inputs.jump(z, a, middle), middle, b)
        here = jnp.where(expand(back, z), path[-1], path[0])
        there = jnp.where(expand(back, z), path[0], path[-1])
        taught = expand(short, z)
        return Lesson(jnp.where(taught, here, z), a, b, jnp.where(taught, there, by_student))


def make(
    steps: Count = 4,
    finest: Count = 64,
    taught: Share = 0.5,
    both: bool = False,
    rule: str = "progressive",
) -> FlowMap:
    """One student for any number of steps.

    Args:
        steps: default number of sampling steps.
        finest: number of shortest steps in the whole plan, a power of two and multiple of `steps`.
        taught: fraction of lessons that are short steps of the teacher.
        both: also learn the direction from data to noise, which is needed for densities.
        rule: how targets of long steps are made, `"progressive"` or `"lagrangian"`.

    Raises:
        ConfigError: `finest` is not a power of two of at least 4, or not a multiple of `steps`;
            `taught` is 0 or 1; the rule is unknown, or does not support `both`.
    """
    if finest < 4 or finest & (finest - 1) or finest % steps:
        raise ConfigError(
            f"flow_map: finest={finest} must be a power of two, at least 4, that steps={steps} "
            "divides, such as 64"
        )
    if not 0.0 < taught < 1.0:
        raise ConfigError(
            f"flow_map: taught={taught}: both the teacher's steps and the student's own are "
            "needed: use 0.5"
        )
    if rule not in ("progressive", "lagrangian"):
        raise ConfigError(f"flow_map: rule={rule!r}: allowed: progressive, lagrangian")
    if both and rule == "lagrangian":
        raise ConfigError(
            "flow_map: the teacher's steps lead from noise to data, so both=True needs "
            "rule='progressive'"
        )
    return FlowMap(steps, finest, float(taught), both, rule)
