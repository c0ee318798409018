"""One training step of a student: a lesson made by its method, and regression on its target."""

from dataclasses import dataclass, replace
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from diffusion_jax import rng
from diffusion_jax.data.augment.base import Augment
from diffusion_jax.model import Model
from diffusion_jax.networks.layers.full_precision import in_float32
from diffusion_jax.training.averages import Average
from diffusion_jax.training.distillation.base import LessonInputs, Method, aim, land
from diffusion_jax.training.meter import Metrics
from diffusion_jax.training.optimizer import advance
from diffusion_jax.training.state import State
from diffusion_jax.types import Array, Cond, Params, Pred, expand

FROZEN = ("schedule",)  # groups of weights not trained: the plan uses the teacher's schedule


class Teacher(Protocol):
    """An opened teacher; `Handed.teacher` opens one.

    Attributes:
        params: its weights, and those of its guidance.
        path: its work directory.
        edges: the plan for lessons, `[finest + 1]`, noise first.
    """

    params: Any
    path: str
    edges: np.ndarray

    def walk(self, params: Any, z: Array, gammas: Array, cond: Cond) -> Array:
        """Latents at all `gammas` `[M + 1, B]` along its ODE from `z`, with guidance."""
        ...

    def predict(self, params: Any, z: Array, gamma: Array, cond: Cond) -> Pred:
        """Its prediction for `z` at `gamma` `[B]`, with guidance."""
        ...

    def noisy(self, params: Any, x: Array, gamma: Array, eps: Array, cond: Cond) -> Array:
        """Data at `gamma` `[B]`, noised as in the teacher's training."""
        ...


@dataclass(frozen=True)
class Recipe:
    """Everything that defines a step besides its data.

    Attributes:
        model: the student.
        teacher: the teacher.
        method: the distillation method.
        optimizer: the optax transformation.
        augment: data augmentation, the same as the teacher's.
        ema: the weight averages, as (name, average) pairs.
        ema_warmup: whether averages warm up.
        steps: number of training steps.
        weight: largest guidance weight that the student receives as an input; 0 for no such input.
        seed: seed of all noise.
    """

    model: Model
    teacher: Teacher
    method: Method
    optimizer: optax.GradientTransformation
    augment: Augment
    ema: tuple[tuple[str, Average], ...]
    ema_warmup: bool
    steps: int
    weight: float
    seed: int

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics that `update` returns."""
        return ("loss", "grad_norm")

    def jump(self, params: Params, z: Array, gamma: Array, end: Array, cond: Cond) -> Array:
        """The student's step from `gamma` to `end`, each `[B]`."""
        return land(self.model.denoiser(params)(z, gamma, self.seen(cond, end)), end)

    def precisely(self, params: Params, z: Array, gamma: Array, cond: Cond) -> Pred:
        """The student's prediction, in float32 throughout, for derivatives."""
        model = replace(self.model, network=in_float32(self.model.network))
        with jax.default_matmul_precision("float32"):
            return model.denoiser(params)(z, gamma, cond)

    def seen(self, cond: Cond, end: Array) -> Cond:
        """The condition, with the end of the step if the student receives it."""
        return {**cond, "to": end} if "to" in self.method.cond_scalars else cond

    @property
    def per_round(self) -> int:
        """Number of steps in a round."""
        return self.steps // self.method.rounds

    def round(self, step: Array) -> Array:
        """Index of the round that contains step `step`."""
        return step // self.per_round

    def begun(self, state: State) -> State:
        """The state, with optimiser and averages restarted if this is the first step of a round."""
        if self.method.rounds == 1:
            return state
        trained = {k: p for k, p in state.params.items() if k not in FROZEN}
        fresh = state.replace(
            opt_state=self.optimizer.init(trained),
            ema=dict.fromkeys(state.ema, state.params),
            proposal={"before": state.params},
        )
        first = state.step % self.per_round == 0
        return jax.tree.map(lambda a, b: jnp.where(first, a, b), fresh, state)

    def update(self, state: State, batch: dict[str, Array], given: Any) -> tuple[State, Metrics]:
        """One step on one global batch `{"image", "label"}`."""
        state, root = self.begun(state), jax.random.key(self.seed)
        n = batch["image"].shape[0]
        images, augmented = self.augment(
            rng.per_example(rng.stream(root, "augment", state.step), n), batch["image"]
        )
        x, cond = self.model.examples({**batch, "image": images})
        if self.augment.size:
            cond["augment"] = augmented
        if self.weight:
            w = jax.random.uniform(rng.stream(root, "weight", state.step), (n,))
            cond["w"] = self.weight * w
        noise = rng.draw_noise(rng.stream(root, "noise", state.step), x)
        before = state.proposal.get("before", state.params)
        inputs = LessonInputs(
            edges=jnp.asarray(self.teacher.edges, x.dtype),
            u=noise.t,
            v=jax.random.uniform(rng.stream(root, "place", state.step), (n,)),
            progress=(state.step / self.steps).astype(x.dtype),
            round=self.round(state.step),
            noisy=lambda gamma: self.teacher.noisy(given, x, gamma, noise.eps, cond),
            teach=lambda z, gammas: self.teacher.walk(given, z, gammas, cond),
            jump=lambda z, gamma, end: self.jump(state.params, z, gamma, end, cond),
            before=lambda z, gamma, end: self.jump(before, z, gamma, end, cond),
            student=lambda z, gamma: self.precisely(state.params, z, gamma, cond),
            teacher=lambda z, gamma: self.teacher.predict(given, z, gamma, cond),
        )
        lesson = jax.lax.stop_gradient(self.method.lesson(inputs))
        target = aim(lesson)
        # The larger of the errors in x and in eps ("truncated SNR", Salimans & Ho 2022).
        weight = jnp.maximum(1.0, jnp.exp(-expand(lesson.gamma, x)))
        fixed = {k: state.params[k] for k in FROZEN}

        def loss(trained: Params) -> Array:
            # Without dropout (Salimans & Ho 2022), even if the teacher was trained with it.
            denoise = self.model.denoiser({**trained, **fixed})
            pred = denoise(lesson.z, lesson.gamma, self.seen(cond, lesson.end))
            return jnp.mean(weight * jnp.square(pred.x - target))

        trained = {k: p for k, p in state.params.items() if k not in FROZEN}
        value, grads = jax.value_and_grad(loss)(trained)
        first = self.round(state.step) * self.per_round
        after = advance(state, grads, self.optimizer, self.ema, self.ema_warmup, first)
        return after, {"loss": value, "grad_norm": optax.tree.norm(grads)}
