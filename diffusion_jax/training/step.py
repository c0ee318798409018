"""One training step, a pure function of the state and the batch; `compile.py` jits and shards it.

The result depends only on the seed, the step and the global batch. Noise, times and dropout masks
are drawn for the global batch, so neither the number of devices nor gradient accumulation changes
them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import optax

from diffusion_jax import rng
from diffusion_jax.data.augment.base import Augment
from diffusion_jax.likelihood.objectives.base import Objective
from diffusion_jax.model import Model
from diffusion_jax.networks.autoencoders.base import is_trained
from diffusion_jax.process.conditioning_augmentation import LowNoise
from diffusion_jax.process.schedules.base import endpoints, gamma_and_slope
from diffusion_jax.training import cond_dropout, frozen_latents, minimize_variance
from diffusion_jax.training.averages import Average
from diffusion_jax.training.meter import Metrics
from diffusion_jax.training.optimizer import advance
from diffusion_jax.training.state import State
from diffusion_jax.training.time_sampling.base import Proposal
from diffusion_jax.training.time_sampling.uniform import Uniform
from diffusion_jax.types import Array, Coded, Cond, Data, Noise, Params, Terms


@dataclass(frozen=True)
class Recipe:
    """Everything that defines a step besides its data.

    Attributes:
        model: the model.
        objective: the bound to minimise.
        optimizer: the optax transformation.
        augment: data augmentation.
        class_dropout: probability of replacing a label by the null class; the class that marks
            unrelated images is never replaced (see `networks.backbones.base`).
        ema: the weight averages, as (name, average) pairs.
        ema_warmup: whether averages warm up.
        accumulate: micro-batches per step.
        seed: seed of all noise.
        unroll: unroll micro-batches instead of scanning them, slightly faster with XLA:CPU.
        proposal: distribution of the training times.
        minimize_variance: train the schedule's shape on the variance of the loss; needs uniform
            times and the continuous-time bound.
        dims: number of dimensions for bits/dim; None for that of `x`.
        low_noise: noise added to the low-resolution images that condition a later stage of a
            cascade.
        text_dropout: probability of training without the text.
        embedding_dropout: probability of training without the image's CLIP embedding.
        beta: `step -> weight` of all terms except the reconstruction; None means 1.
    """

    model: Model
    objective: Objective
    optimizer: optax.GradientTransformation
    augment: Augment
    class_dropout: float
    ema: tuple[tuple[str, Average], ...]
    ema_warmup: bool
    accumulate: int
    seed: int
    unroll: bool
    proposal: Proposal = field(default_factory=Uniform)
    minimize_variance: bool = False
    dims: int | None = None
    low_noise: LowNoise | None = None
    beta: Callable[[Array], Array] | None = None
    text_dropout: float = 0.0
    embedding_dropout: float = 0.0

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics that `update` returns."""
        beta = () if self.beta is None else ("beta",)
        return ("loss", *_parts(self), "grad_norm", "gamma_0", "gamma_1", *beta)

    @property
    def frozen(self) -> tuple[str, ...]:
        """The groups of weights that are not trained."""
        autoencoder = self.model.autoencoder or self.model.space
        return () if is_trained(autoencoder) else ("autoencoder",)

    def update(
        self, state: State, batch: dict[str, Array], given: Any = ()
    ) -> tuple[State, Metrics]:
        """One step; see `update` in this module."""
        return update(self, state, batch)


def prepare(recipe: Recipe, batch: dict[str, Array], step: Array) -> tuple[Array, Cond, Noise]:
    """Makes the data, condition and noise of a step; all of its randomness is here.

    Args:
        batch: the global batch, `{"image", "label"}`, with `"text"` if there are captions.
        step: number of the step, from 0.

    Returns:
        `(x, cond, noise)`; the leading axis is the global batch.
    """
    root = jax.random.key(recipe.seed)
    n = batch["image"].shape[0]
    keys = rng.per_example(rng.stream(root, "augment", step), n)
    images, augmented = recipe.augment(keys, batch["image"])
    x, cond = recipe.model.examples({**batch, "image": images})
    if recipe.augment.size:
        cond["augment"] = augmented
    if recipe.model.num_classes:
        drop = jax.random.bernoulli(
            rng.stream(root, "class_dropout", step), recipe.class_dropout, (n,)
        )
        stills = getattr(recipe.model.network, "stills", None)
        if stills is not None:  # without this label the network would treat images as a video
            drop &= cond["label"] != stills
        cond["label"] = jnp.where(drop, recipe.model.num_classes, cond["label"])
    if "text" in cond:
        cond["text"] = cond_dropout.one_wording(root, step, batch["text"], recipe.text_dropout)
    if "embedding" in cond:
        cond["embedding"] = cond_dropout.zeroed(
            root, step, "embedding_dropout", cond["embedding"], recipe.embedding_dropout
        )
    if recipe.low_noise:
        cond = recipe.low_noise(rng.stream(root, "low", step), cond)
    shape = recipe.model.latent_shape(x.shape[1:])
    return x, cond, rng.draw_noise(rng.stream(root, "noise", step), x, dropout=True, shape=shape)


def _parts(recipe: Recipe) -> tuple[str, ...]:
    """The names of the model's terms of the bound."""
    traits = recipe.model.traits
    auxiliary = ("auxiliary",) if traits.latent or traits.latent_noise else ()
    return ("prior", "diffusion", "reconstruction", *auxiliary)


def measures(
    recipe: Recipe,
    params: Params,
    terms: Terms,
    noise: Noise,
    weight: Array,
    dims: int,
    beta: Array | None = None,
) -> tuple[Array, Metrics]:
    """The mean bound in bits/dim, its terms, and the statistics that the proposal learns from.

    Args:
        terms: terms of the bound at `noise.t`.
        weight: importance weight of each example's time, `[B]`.
        dims: number of dimensions of an example.
        beta: weight of all terms except the reconstruction; None means 1.

    Returns:
        The loss, and statistics to average over micro-batches: scalars by name, and `proposal`.
    """
    gamma, slope = gamma_and_slope(recipe.model.schedule, params["schedule"], noise.t)
    gamma_0, gamma_1 = endpoints(recipe.model.schedule, params["schedule"])
    fraction = (gamma - gamma_0) / (gamma_1 - gamma_0)
    seen = recipe.proposal.observe(fraction, terms.diffusion / slope)
    terms = terms._replace(diffusion=terms.diffusion * weight)
    to_bits = 1.0 / (dims * math.log(2.0))
    parts = {k: jnp.mean(v) * to_bits for k, v in terms._asdict().items() if k in _parts(recipe)}
    total = terms.total
    if beta is not None:
        total = beta * (total - terms.reconstruction) + terms.reconstruction
    total = total.mean() * to_bits
    return total, {"loss": total, **parts, "proposal": jax.lax.stop_gradient(seen)}


def loss(
    recipe: Recipe,
    params: Params,
    x: Data,
    cond: Cond,
    noise: Noise,
    weight: Array | None = None,
    beta: Array | None = None,
) -> tuple[Array, Metrics]:
    """The mean bound in bits/dim, and its terms; see `measures`. `weight` is 1 by default."""
    weight = jnp.ones_like(noise.t) if weight is None else weight
    terms = recipe.objective(recipe.model, params, x, cond, noise)
    return measures(recipe, params, terms, noise, weight, _dims(recipe, x), beta)


def _dims(recipe: Recipe, x: Data) -> int:
    """Number of dimensions of one example, for bits/dim."""
    return recipe.dims or math.prod((x.data if isinstance(x, Coded) else x).shape[1:])


def _one_gradient(
    recipe: Recipe,
    params: Params,
    x: Data,
    cond: Cond,
    noise: Noise,
    weight: Array,
    beta: Array | None = None,
) -> tuple[Params, Metrics]:
    """Gradient of the trained weights, and metrics, for one micro-batch."""
    fixed = {k: params[k] for k in recipe.frozen}
    if not recipe.minimize_variance:

        def loss_of_trained(trained: Params) -> tuple[Array, Metrics]:
            return loss(recipe, {**trained, **fixed}, x, cond, noise, weight, beta)

        trained = {k: v for k, v in params.items() if k not in fixed}
        return jax.grad(loss_of_trained, has_aux=True)(trained)
    dims = _dims(recipe, x)
    grads, terms = minimize_variance.gradient(
        recipe.objective, recipe.model, params, x, cond, noise, dims
    )
    grads = {k: g for k, g in grads.items() if k not in fixed}
    return grads, measures(recipe, params, terms, noise, weight, dims)[1]


def gradient(
    recipe: Recipe,
    params: Params,
    x: Data,
    cond: Cond,
    noise: Noise,
    weight: Array | None = None,
    beta: Array | None = None,
) -> tuple[Params, Metrics]:
    """Gradient and metrics of the global batch, over `accumulate` micro-batches.

    Args:
        x: data in model space, `[B, ...]`.
        weight: importance weight of each example's time, `[B]`; None for uniform times.
        beta: weight of all terms except the reconstruction; None means 1.

    Returns:
        The gradient of the mean bound in bits/dim (for the schedule's shape see
        `minimize_variance`), and the metrics.
    """
    n = recipe.accumulate
    weight = jnp.ones_like(noise.t) if weight is None else weight

    def grad(p: Params, *data: Any) -> tuple[Params, Metrics]:
        return _one_gradient(recipe, p, *data, beta=beta)

    if n == 1:
        return grad(params, x, cond, noise, weight)

    def micro(a: Array) -> Array:
        # Strided, so that each micro-batch has rows on every device and times from every stratum.
        return a.reshape(a.shape[0] // n, n, *a.shape[1:]).swapaxes(0, 1)

    parts = jax.tree.map(micro, (x, cond, noise, weight))
    if recipe.unroll:
        total = grad(params, *jax.tree.map(lambda a: a[0], parts))
        for i in range(1, n):
            part = jax.tree.map(lambda a, i=i: a[i], parts)
            total = jax.tree.map(jnp.add, total, grad(params, *part))
    else:
        shapes = jax.eval_shape(grad, params, *jax.tree.map(lambda a: a[0], parts))
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

        def body(total: Any, part: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, grad(params, *part)), None

        total, _ = jax.lax.scan(body, zeros, parts)
    return jax.tree.map(lambda a: a / n, total)


def update(recipe: Recipe, state: State, batch: dict[str, Array]) -> tuple[State, Metrics]:
    """One step on one global batch.

    Args:
        state: the state before.
        batch: `{"image": uint8 [B,H,W,C], "label": int32 [B]}`, with the latents' `"mean"` and
            `"std"` if they have been computed in advance.

    Returns:
        The state after, and scalar metrics: `loss` and its terms in bits/dim, `grad_norm`,
        `gamma_0`, `gamma_1`.
    """
    x, cond, noise = prepare(recipe, batch, state.step)
    t, weight = recipe.proposal.times(
        state.proposal, recipe.model.schedule, state.params["schedule"], noise.t
    )
    noise = noise._replace(t=t)
    if recipe.model.from_latent:
        _, cond, _ = recipe.model.condition(state.params, x, cond, noise.latent)
    if recipe.frozen or "mean" in batch:
        x = frozen_latents.latents(recipe.model, state.params, x, batch)
    beta = None if recipe.beta is None else recipe.beta(state.step)
    grads, metrics = gradient(recipe, state.params, x, cond, noise, weight, beta)
    proposal = recipe.proposal.update(state.proposal, metrics.pop("proposal"))
    after = advance(state, grads, recipe.optimizer, recipe.ema, recipe.ema_warmup)
    gamma_0, gamma_1 = endpoints(recipe.model.schedule, state.params["schedule"])
    metrics |= {
        "grad_norm": optax.tree.norm(grads),
        "gamma_0": gamma_0,
        "gamma_1": gamma_1,
        **({} if beta is None else {"beta": beta}),
    }
    return after.replace(proposal=proposal), metrics
