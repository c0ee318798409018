"""The contract of guidance: `(denoiser, context) -> denoiser`, so methods compose by nesting.

Weights follow one convention: 0 is unconditional, 1 is conditional, above 1 extrapolates.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from diffusion_jax.denoiser import after
from diffusion_jax.errors import ConfigError
from diffusion_jax.types import Array, Cond, Denoiser, Pred, alpha, expand, sigma


@dataclass(frozen=True)
class Context:
    """What a guidance method may use beside the denoiser.

    Attributes:
        null: turns a condition into the null condition; None for an unconditional model.
        other: a second denoiser (for example a weaker checkpoint), or None.
        log_prob: `log_prob(z, gamma, cond) -> [B]`, differentiable in z, or None.
        open: `open(kind, checkpoint)` gives what a trained checkpoint holds: a denoiser for kind
            `"denoiser"`, else the `log_prob` of a scorer of that kind; None where there is no way
            to read checkpoints.
    """

    null: Callable[[Cond], Cond] | None = None
    other: Denoiser | None = None
    log_prob: Callable[[Array, Array, Cond], Array] | None = None
    open: Callable[[str, str], Callable] | None = None


@runtime_checkable
class Guidance(Protocol):
    """Turns a denoiser into a guided one."""

    def __call__(self, denoiser: Denoiser, context: Context) -> Denoiser:
        """The guided denoiser."""


def need_null(name: str, context: Context) -> None:
    """Refuses to contrast a condition with nothing.

    Args:
        name: the guidance that asks.
        context: what it was given.

    Raises:
        ConfigError: the model is unconditional.
    """
    if context.null is None:
        raise ConfigError(
            f"{name}: this model is unconditional, so there is nothing to guide towards; train "
            "with class_dropout > 0 on labelled data, or use guidance='none()'"
        )


def need_open(name: str, context: Context, checkpoint: str) -> Callable:
    """What a checkpoint named in a guidance's arguments holds.

    Args:
        name: the kind of thing the guidance asks for.
        context: what it was given.
        checkpoint: a work directory or checkpoint folder.

    Returns:
        The function of that kind; see `Context.open`.

    Raises:
        ConfigError: nothing here can read checkpoints.
    """
    if context.open is None:
        raise ConfigError(f"{name}: checkpoint={checkpoint!r} cannot be opened here")
    return context.open(name, checkpoint)


def _interleave(a: Array, b: Array) -> Array:
    """`[a0, b0, a1, b1, ...]`: a pair stays on one device when the batch is sharded."""
    return jnp.stack([a, b], axis=1).reshape(2 * a.shape[0], *a.shape[1:])


def contrast(
    denoiser: Denoiser, context: Context, z: Array, gamma: Array, cond: Cond
) -> tuple[Pred, Pred]:
    """The conditional and the unconditional prediction, from one call of twice the batch.

    Args:
        context: with `null`.
        z: latent `[B, ...]`.
        gamma: scalar, or leading axis `[B]`.

    Returns:
        `(conditional, unconditional)`.
    """
    gamma = jnp.asarray(gamma)
    both = jax.tree.map(_interleave, cond, context.null(cond))
    g = jnp.repeat(gamma, 2, axis=0) if gamma.ndim else gamma
    pred = denoiser(jnp.repeat(z, 2, axis=0), g, both)
    halves = [p.reshape(z.shape[0], 2, *z.shape[1:]) for p in pred]
    return Pred(*(p[:, 0] for p in halves)), Pred(*(p[:, 1] for p in halves))


def over_pixels(reduce: Callable, a: Array, **options: float) -> Array:
    """`reduce` over all axes but the first, shaped to broadcast against `a`."""
    return reduce(a.reshape(a.shape[0], -1), axis=1, **options).reshape(-1, *[1] * (a.ndim - 1))


def norm(a: Array) -> Array:
    """Norm per example, shaped to broadcast; its gradient at 0 is 0, not NaN."""
    squared = over_pixels(jnp.sum, jnp.square(a))
    return jnp.where(squared > 0.0, jnp.sqrt(jnp.where(squared > 0.0, squared, 1.0)), 0.0)


def with_x(pred: Pred, x: Array, gamma: Array) -> Pred:
    """The prediction moved to another `x`, with the noise that belongs to it.

    `eps - (alpha / sigma)(x_new - x)`: equal to `(z - alpha x_new) / sigma`, and exactly `eps`
    where nothing was moved.

    Args:
        pred: the prediction.
        x: the new `x`.
        gamma: scalar or `[B]`.

    Returns:
        The new prediction.
    """
    return Pred(x, pred.eps - jnp.exp(-0.5 * expand(gamma, x)) * (x - pred.x))


def follow(denoiser: Denoiser, log_prob: Callable, scale: float) -> Denoiser:
    """The denoiser with `scale grad_z log_prob(z, gamma, cond)` added to its score.

    Args:
        log_prob: `(z, gamma, cond) -> [B]`, nats, examples apart.
        scale: the weight.

    Returns:
        The guided denoiser.
    """

    def moved(pred: Pred, z: Array, gamma: Array, cond: Cond) -> Pred:
        # Examples do not see one another, so the gradient of the sum is each one's own.
        extra = jax.grad(lambda z: log_prob(z, gamma, cond).sum())(z)
        return with_score(pred, scale * extra, gamma)

    return after(denoiser, moved)


def with_score(pred: Pred, extra: Array, gamma: Array) -> Pred:
    """The prediction after `extra` is added to the score: `eps -= sigma G`, `x += sigma^2/alpha G`.

    Args:
        pred: the prediction.
        extra: `G`, shape of z.
        gamma: scalar or `[B]`.

    Returns:
        The new prediction (Song et al. 2021, section 5; Dhariwal & Nichol 2021, equation 14).
    """
    g = expand(gamma, extra)
    s = sigma(g)
    return Pred(pred.x + s**2 / alpha(g) * extra, pred.eps - s * extra)
