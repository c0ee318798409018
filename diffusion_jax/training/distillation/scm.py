"""Continuous-time consistency distillation (sCM, Lu & Song 2025): `scm()`.

A consistency model leads from every point of the teacher's ODE to its end e. With
`theta = arctan(sigma / alpha)`, `D = theta - theta_e` and the student's v,
`F = alpha eps - sigma x`, that end is `cos D z - sin D F`. It is the same all along the ODE if

    g = -alpha cos D (F - v) - (sin D / sigma) (alpha sigma z + 2 dF/dgamma) = 0,

with the teacher's v and the derivative of F along the ODE, a JVP of the student in the direction
`(alpha sigma v / 2, 1)` of z and gamma. No factor diverges at either end, because
`sin D / sigma = alpha_e (1 - exp((e - gamma) / 2))`. At e = -inf, where sCM ends, the factors are
alpha^2 and 1. The target for F is `F + g / (rms(g) + 0.1)`. The second term of g is warmed up:
without it the method is regression on v.

The derivative is computed with the student's network in float32, whatever precision it trains in.
Fourier features of z are not supported: their slopes are hundreds of times that of z, and are noise
at most gammas. The embedding of gamma also varies fast, and the network's response need not be
smooth at that scale. With `span` the derivative is averaged over an interval of gamma, by a
difference between two points of the ODE instead of the JVP; its error is of second order in `span`.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_jax.allowed import Count, Finite, NotNegative, Positive, Share
from diffusion_jax.process.parameterization import from_pred
from diffusion_jax.training.distillation.base import Lesson, LessonInputs, land, log_normal
from diffusion_jax.traits import HasTraits, require
from diffusion_jax.types import Array, alpha, expand, sigma

_LEAST = 0.1  # added to the norm of a tangent, so that small ones stay small


@dataclass(frozen=True)
class SCM:
    """Each target moves the student along its tangent."""

    steps: int
    warm: float
    mean: float
    std: float
    span: float = 0.0
    rounds: int = 1
    timed: bool = True
    cond_scalars: tuple[str, ...] = ()
    to_end: bool = True

    @property
    def finest(self) -> int:
        """As many as the student's steps."""
        return self.steps

    def check(self, model: HasTraits, guided: bool) -> None:
        """Raises `ConfigError` for networks with Fourier features, whose derivative is noise."""
        require(
            model, "scm()", "train a teacher with fourier=False, or use ect() or segments()",
            fourier=False,
        )  # fmt: skip

    def lesson(self, inputs: LessonInputs) -> Lesson:
        """From any gamma to the end; the target is closer to the ODE's than the student's own."""
        last = inputs.edges[-1]
        gamma = log_normal(inputs.u, inputs.edges, self.mean, self.std)
        z = inputs.noisy(gamma)
        g, end = expand(gamma, z), jnp.broadcast_to(last, gamma.shape)
        a, s, a_end, s_end = alpha(g), sigma(g), alpha(last), sigma(last)
        cos, sin = a * a_end + s * s_end, -s * a_end * jnp.expm1(0.5 * (last - g))

        def student(z: Array, gamma: Array) -> Array:
            return from_pred("v", inputs.student(z, gamma), gamma)

        taught = inputs.teacher(z, gamma)
        v = from_pred("v", taught, gamma)
        if self.span:
            high = jnp.minimum(gamma + 0.5 * self.span, inputs.edges[0])
            low = jnp.maximum(gamma - 0.5 * self.span, last)
            f, rise = student(z, gamma), student(land(taught, high), high)
            slope = (rise - student(land(taught, low), low)) / expand(high - low, z)
        else:
            f, slope = jax.jvp(student, (z, gamma), (0.5 * a * s * v, jnp.ones_like(gamma)))
        warmup = jnp.minimum(1.0, inputs.progress / self.warm) if self.warm else 1.0
        tangent = -a * cos * (f - v) - warmup * (sin / s) * (a * s * z + 2.0 * slope)
        size = jnp.sqrt(jnp.mean(jnp.square(tangent), axis=range(1, z.ndim), keepdims=True))
        return Lesson(z, gamma, end, cos * z - sin * (f + tangent / (size + _LEAST)))


def make(
    steps: Count = 1,
    warm: Share = 0.5,
    mean: Finite = -1.1,
    std: Positive = 2.0,
    span: NotNegative = 0.0,
) -> SCM:
    """A consistency model from the derivative along its teacher's ODE.

    Args:
        steps: default number of sampling steps.
        warm: fraction of the training over which the derivative's weight rises to 1.
        mean: mean of log(sigma / alpha) where lessons start.
        std: standard deviation of log(sigma / alpha); the distribution is truncated to the plan.
        span: interval of gamma for a finite difference; 0 for a JVP.
    """
    return SCM(steps, float(warm), float(mean), float(std), float(span))
