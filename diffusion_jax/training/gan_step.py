"""A step of a GAN: one of the discriminator, then one of the generator."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from diffusion_jax import rng
from diffusion_jax.baselines import r3gan
from diffusion_jax.data.augment.base import Augment
from diffusion_jax.training.averages import Average
from diffusion_jax.training.meter import Metrics
from diffusion_jax.training.optimizer import ema_update
from diffusion_jax.training.state import State
from diffusion_jax.types import Array, Params

_LAST = 0.1  # fraction of the penalties' weight that is left at the end of training


@dataclass(frozen=True)
class Recipe:
    """Everything that defines a step besides its data.

    Attributes:
        generator: network that draws images.
        discriminator: network that scores them.
        size: dimension of the noise vector.
        encode: maps grey levels to model space.
        levels: number of grey levels; real images get uniform noise of one level's width, generated
            images none.
        penalty: weight of the gradient penalties; it decreases to a tenth along a cosine.
        optimizer: the optax transformation, for each of the networks.
        augment: data augmentation.
        ema: the averages of the generator, as (name, average) pairs.
        ema_warmup: whether averages warm up.
        steps: number of training steps.
        seed: seed of all noise.
    """

    generator: r3gan.Generator
    discriminator: r3gan.Discriminator
    size: int
    encode: Callable[[Array], Array]
    levels: int
    penalty: float
    optimizer: optax.GradientTransformation
    augment: Augment
    ema: tuple[tuple[str, Average], ...]
    ema_warmup: bool
    steps: int
    seed: int

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics that `update` returns."""
        return ("loss", "generator", "gap", "grad_norm")

    def draw(self, params: Params, keys: Array, label: Array | None) -> Array:
        """Images in model space, from one key per example."""
        z = rng.normal(keys, (len(keys), self.size))
        return self.generator.apply({"params": params}, z, label)

    def score(self, params: Params, label: Array | None) -> Callable[[Array], Array]:
        """A function that scores how real images are, `x -> score`."""
        return lambda x: self.discriminator.apply({"params": params}, x, label)

    def update(
        self, state: State, batch: dict[str, Array], given: Any = ()
    ) -> tuple[State, Metrics]:
        """One step of the discriminator, then one of the generator."""
        root, n = jax.random.key(self.seed), batch["image"].shape[0]

        def keys(name: str) -> Array:
            return rng.per_example(rng.stream(root, name, state.step), n)

        images, _ = self.augment(keys("augment"), batch["image"])
        label = batch["label"] if self.generator.num_classes else None
        x = self.encode(images)
        x += (2.0 * jax.vmap(lambda k: jax.random.uniform(k, x.shape[1:]))(keys("noise")) - 1.0) / (
            self.levels
        )
        done = jnp.minimum(state.step / self.steps, 1.0)
        k = self.penalty * (_LAST + (1.0 - _LAST) * 0.5 * (1.0 + jnp.cos(jnp.pi * done)))
        generator, discriminator = (state.params[p] for p in ("generator", "discriminator"))
        fake = self.draw(generator, keys("fake"), label)

        def d_loss(params: Params) -> tuple[Array, Array]:
            score = self.score(params, label)
            gap = (score(x) - score(fake)).mean()
            return r3gan.discriminator_loss(score, x, fake, k).mean(), gap

        (loss, gap), d_grads = jax.value_and_grad(d_loss, has_aux=True)(discriminator)
        opt = state.opt_state["discriminator"]
        updates, d_opt = self.optimizer.update(d_grads, opt, discriminator)
        discriminator = optax.apply_updates(discriminator, updates)

        def g_loss(params: Params) -> Array:
            drawn = self.draw(params, keys("fake again"), label)
            return r3gan.generator_loss(self.score(discriminator, label), x, drawn).mean()

        generator_loss, g_grads = jax.value_and_grad(g_loss)(generator)
        opt = state.opt_state["generator"]
        updates, g_opt = self.optimizer.update(g_grads, opt, generator)
        generator = optax.apply_updates(generator, updates)
        step = state.step + 1
        ema = {
            name: ema_update(state.ema[name], generator, average, step, self.ema_warmup)
            for name, average in self.ema
        }
        after = state.replace(
            step=step,
            params={"generator": generator, "discriminator": discriminator},
            ema=ema,
            opt_state={"generator": g_opt, "discriminator": d_opt},
        )
        norm = jnp.hypot(optax.tree.norm(d_grads), optax.tree.norm(g_grads))
        return after, {"loss": loss, "generator": generator_loss, "gap": gap, "grad_norm": norm}
