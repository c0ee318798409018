"""The distance between samples of a student and its teacher, from the same noise."""

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.training.student_step import Recipe
from diffusion_jax.types import Array, Cond, Params

_FINE = 64  # the teacher's steps
_SHOWN = 100  # samples


@dataclass(frozen=True)
class Agreement:
    """Rms distance in grey levels; the teacher takes 64 steps, equally spaced in log-SNR.

    A student with `to_end` takes one step, because further steps would draw fresh noise.

    Attributes:
        recipe: recipe of the student, with its teacher.
        shape: shape of an image.
        seed: seed for the noise.
    """

    recipe: Recipe
    shape: tuple[int, ...]
    seed: int

    def __call__(self, params: Params) -> float:
        """The distance for a student with these weights."""
        params = jax.device_get(params)
        drawn = self._decode(params, self._compiled(params, self._noise, self._cond))
        return float(np.sqrt(np.mean(np.square(drawn - self._taught))))

    @functools.cached_property
    def _noise(self) -> Array:
        shape = (_SHOWN, *self.recipe.model.z_shape(self.shape))
        return jax.random.normal(jax.random.key(self.seed), shape)

    @functools.cached_property
    def _cond(self) -> Cond:
        classes, weight = self.recipe.model.num_classes, self.recipe.weight
        cond = {"label": jnp.arange(_SHOWN, dtype=jnp.int32) % classes} if classes else {}
        return {**cond, "w": jnp.linspace(0.0, weight, _SHOWN)} if weight else cond

    @functools.cached_property
    def _taught(self) -> np.ndarray:
        teacher = self.recipe.teacher
        plan = jnp.linspace(teacher.edges[0], teacher.edges[-1], _FINE + 1, dtype=jnp.float32)
        gammas = jnp.broadcast_to(plan[:, None], (_FINE + 1, _SHOWN))
        walk = jax.jit(lambda p, z, cond: teacher.walk(p, z, gammas, cond)[-1])
        return self._decode({}, walk(jax.device_get(teacher.params), self._noise, self._cond))

    @functools.cached_property
    def _compiled(self) -> Callable[[Params, Array, Cond], Array]:
        method, edges = self.recipe.method, self.recipe.teacher.edges
        steps = 1 if getattr(method, "to_end", False) else method.steps
        plan = jnp.asarray(edges[:: method.finest // steps], jnp.float32)

        def run(params: Params, z: Array, cond: Cond) -> Array:
            for start, end in itertools.pairwise(plan):
                rows = [jnp.broadcast_to(g, (_SHOWN,)) for g in (start, end)]
                z = self.recipe.jump(params, z, *rows, cond)
            return z

        return jax.jit(run)

    def _decode(self, params: Params, z: Array) -> np.ndarray:
        gamma = jnp.float32(self.recipe.teacher.edges[-1])
        y = z / jnp.exp(-0.5 * jax.nn.softplus(gamma))
        return np.asarray(self.recipe.model.decode(params, y), np.float64)
