"""A flow map of any two noise levels (Shortcut models, Frans et al. 2024): `flow_map()`.

The student is told where its step ends. Short steps are the teacher's. A long one is two of its
own, each half as long (`rule="progressive"`), or one of its own and a last short one of the
teacher's (`"lagrangian"`: the end moves as the teacher says; Boffi et al. 2024, in finite steps).
One student then takes 1, 2, 4 or any number of steps.
"""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.allowed import Count, Share
from diffusion_jax.errors import ConfigError
from diffusion_jax.training.distillation.base import Lesson, LessonInputs
from diffusion_jax.types import expand


@dataclass(frozen=True)
class FlowMap:
    """Steps of every length, from the shortest up to the whole way in one."""

    steps: int
    finest: int
    taught: float
    both: bool
    rule: str
    rounds: int = 1
    timed: bool = False
    cond_scalars: tuple[str, ...] = ("to",)

    def lesson(self, inputs: LessonInputs) -> Lesson:
        """A short step by the teacher or a long one by the student itself."""
        short = inputs.v < self.taught
        # Uniform in [0, 1) on either side.
        w = jnp.where(short, inputs.v / self.taught, (inputs.v - self.taught) / (1.0 - self.taught))
        back = jnp.zeros_like(short)
        if self.both:  # a bit of `v`: all `u` of a batch may have the same
            back, w = w < 0.5, (2.0 * w) % 1.0
        octaves = jnp.log2(self.finest)
        # Beyond the longest by half an octave, so that the whole way is often asked for.
        length = jnp.where(short, w, jnp.minimum(1.0 + (octaves - 0.5) * w, octaves))
        share = 2.0 ** (length - octaves)
        first = inputs.u * (1.0 - share)
        nodes = jnp.linspace(0.0, 1.0, self.finest + 1)
        start, middle, end = (
            jnp.interp(first + part * share, nodes, inputs.edges) for part in (0.0, 0.5, 1.0)
        )
        noisy = inputs.noisy(start)
        if self.rule == "lagrangian":
            last, between = (
                jnp.interp(first + share - part / self.finest, nodes, inputs.edges)
                for part in (1.0, 0.5)
            )
            begun = jnp.where(expand(short, noisy), noisy, inputs.jump(noisy, start, last))
            gammas = jnp.where(
                short, jnp.stack([start, middle, end]), jnp.stack([last, between, end])
            )
            return Lesson(noisy, start, end, inputs.teach(begun, gammas)[-1])
        path = inputs.teach(noisy, jnp.stack([start, middle, end]))
        a, b = jnp.where(back, end, start), jnp.where(back, start, end)
        z = inputs.noisy(a)
        own = inputs.jump(inputs.jump(z, a, middle), middle, b)
        here, there = (
            jnp.where(expand(back, z), p, q) for p, q in ((path[-1], path[0]), (path[0], path[-1]))
        )
        by_teacher = expand(short, z)
        return Lesson(jnp.where(by_teacher, here, z), a, b, jnp.where(by_teacher, there, own))


def make(
    steps: Count = 4,
    finest: Count = 64,
    taught: Share = 0.5,
    both: bool = False,
    rule: str = "progressive",
) -> FlowMap:
    """One student for any number of steps.

    Args:
        steps: that it samples with unless another number is asked for.
        finest: shortest steps in the whole way: a power of two, and a multiple of `steps`.
        taught: share of the lessons that are short steps, by the teacher.
        both: also learn the way from data to noise, which a density needs.
        rule: of long steps, `"progressive"` or `"lagrangian"`.

    Raises:
        ConfigError: `finest` is not a power of two of 4 or more, or `steps` does not divide it;
            nothing or everything is taught; the rule does not exist, or has no way back.
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
        raise ConfigError(f"flow_map: rule={rule!r}: allowed are progressive, lagrangian")
    if both and rule == "lagrangian":
        raise ConfigError(
            "flow_map: the teacher's steps lead from noise to data, so that both=True needs "
            "rule='progressive'"
        )
    return FlowMap(steps, finest, float(taught), both, rule)
