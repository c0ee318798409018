"""One training step of a scorer: a network of noisy images that guidance will follow."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from diffusion_jax import rng
from diffusion_jax.networks.guides.base import Scorer
from diffusion_jax.training.meter import Metrics
from diffusion_jax.training.optimizer import advance
from diffusion_jax.training.state import State
from diffusion_jax.types import Array, diffuse


@dataclass(frozen=True)
class ScorerRecipe:
    """Everything that defines a step besides its data; a `task.Task`.

    Attributes:
        scorer: what is trained.
        encode: images to model space (the decoder's).
        gamma_min: least noise it sees.
        gamma_max: most noise it sees; gamma is uniform between, stratified over the batch.
        optimizer: the optax transformation.
        ema: decays of the weight averages, as (name, decay) pairs.
        ema_warmup: whether averages warm up.
        seed: seed of all noise.
        unit: of the loss.
    """

    scorer: Scorer
    encode: Callable[[Array], Array]
    gamma_min: float
    gamma_max: float
    optimizer: optax.GradientTransformation
    ema: tuple[tuple[str, float], ...]
    ema_warmup: bool
    seed: int
    unit: str = "nats"

    @property
    def metrics(self) -> tuple[str, ...]:
        """What `update` reports."""
        return ("loss", *self.scorer.metrics, "grad_norm")

    def gamma(self, t: Array) -> Array:
        """The gamma of times in [0, 1]."""
        return self.gamma_min + (self.gamma_max - self.gamma_min) * t

    def update(self, state: State, batch: dict[str, Array]) -> tuple[State, Metrics]:
        """One step on one global batch `{"image", "label"}`."""
        x = self.encode(batch["image"])
        root = jax.random.key(self.seed)
        noise = rng.draw_noise(rng.stream(root, "noise", state.step), x, dropout=True)
        gamma = self.gamma(noise.t)
        z = diffuse(x, gamma, noise.eps)

        def loss(params: dict) -> tuple[Array, Metrics]:
            each = self.scorer.loss(params, z, gamma, batch["label"], noise.dropout)
            means = jax.tree.map(jnp.mean, each)
            return means["loss"], means

        grads, metrics = jax.grad(loss, has_aux=True)(state.params)
        after = advance(state, grads, self.optimizer, self.ema, self.ema_warmup)
        return after, metrics | {"grad_norm": optax.tree.norm(grads)}
