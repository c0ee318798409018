"""The contract of guidance: `(denoiser, context) -> denoiser`, so methods compose by nesting.

Weights follow one convention: 0 is unconditional, 1 is conditional, above 1 extrapolates.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.denoiser import then
from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.text_encoders.base import TextEncoder
from diffusion_jax.types import Array, Cond, Denoiser, Pred, alpha, expand, sigma


@dataclass(frozen=True)
class Context:
    """What a guidance method may use besides the denoiser.

    Attributes:
        null: turns a condition into the null condition; None for a model without one.
        other: a second denoiser (for example a weaker checkpoint), or None.
        log_prob: `log_prob(z, gamma, cond) -> [B]`, differentiable in z, or None.
        open: `open(kind, checkpoint)` returns the function that a trained checkpoint holds: a
            denoiser for kind `"denoiser"`, else the `log_prob` of a guide of that kind (for a CLIP
            with the methods of the one that `networks.guides.clip` opens); None where checkpoints
            cannot be read.
        cond_scalars: names of further scalar conditions that the network receives.
        encode: `encode(text)` returns the network's condition for a text, arrays with a leading
            axis 1; None for a model without text.
        reader: the model's text encoder, or None.
        unconditional: if `null` is None, whether that is because the model has no condition at all;
            otherwise because training never dropped it.
        classes: number of classes that the model can be conditioned on, if known.
    """

    null: Callable[[Cond], Cond] | None = None
    other: Denoiser | None = None
    log_prob: Callable[[Array, Array, Cond], Array] | None = None
    open: Callable[[str, str], Callable] | None = None
    cond_scalars: tuple[str, ...] = ()
    encode: Callable[[str], Mapping[str, np.ndarray]] | None = None
    reader: TextEncoder | None = None
    unconditional: bool = True
    classes: int | None = None


class Guidance(Protocol):
    """Turns a denoiser into a guided one.

    Any function `(denoiser, context) -> denoiser` will do. A guidance may declare three things that
    can then be used before anything is compiled:

    * `check(context)` raises `ConfigError` when the context lacks what the method needs;
    * `pixels` is True when the method relies on the range of the data, [-1, 1], which latents lack;
    * `stateful` is True when the guided denoiser is a `StatefulDenoiser`.

    Wrappers query their inner guidance through the functions `check` and `is_stateful` below, which
    supply the defaults (no requirements, no state).
    """

    def __call__(self, denoiser: Denoiser, context: Context) -> Denoiser:
        """The guided denoiser; `denoiser` is not called until the result is."""
        ...


class Wrapper:
    """The declarations of a guidance that wraps another one, `self.inner`, or None."""

    inner: Guidance | None

    @property
    def stateful(self) -> bool:
        """Whether the inner guidance is stateful."""
        return is_stateful(self.inner)

    def check(self, context: Context) -> None:
        """Checks the inner guidance."""
        check(self.inner, context)


def check(guidance: Guidance | None, context: Context) -> None:
    """Raises ConfigError if the context lacks something that the guidance declares it needs."""
    declared = getattr(guidance, "check", None)
    if declared is not None:
        declared(context)


def is_stateful(guidance: Guidance | None) -> bool:
    """Whether the guidance declares that it carries state from one call to the next."""
    return bool(getattr(guidance, "stateful", False))


def of_pixels(guidance: Guidance | None) -> str:
    """The name of the first guidance, inner ones included, that is for pixels only; else empty."""
    while guidance is not None:
        if getattr(guidance, "pixels", False):
            return type(guidance).__name__.lower()
        guidance = getattr(guidance, "inner", None)
    return ""


def apply(guidance: Guidance | None, denoiser: Denoiser, context: Context) -> Denoiser:
    """The denoiser with an optional guidance applied."""
    return denoiser if guidance is None else guidance(denoiser, context)


def need_null(name: str, context: Context) -> Callable[[Cond], Cond]:
    """`context.null`; raises ConfigError, on behalf of guidance `name`, if there is none."""
    if context.null is None:
        if context.unconditional:
            raise ConfigError(
                f"{name}: this model is unconditional (conditional=False and no text), so there is "
                "no null class to contrast a class with; use guidance='none()', or train with "
                "--config.conditional=True on data with classes"
            )
        raise ConfigError(
            f"{name}: this model was trained with class_dropout=0 (texts: text_dropout=0, CLIP "
            "vectors: embedding_dropout=0), so there is no null class to contrast a class with; "
            "train with a value above 0, or use guidance='none()'"
        )
    return context.null


def with_text(who: str, context: Context, text: str) -> Callable[[Cond], Cond]:
    """A function that replaces the text of a condition by `text`.

    Args:
        who: the guidance as the user writes it, for error messages.
        context: context of the guidance.
        text: the new text.

    Raises:
        ConfigError: the model takes no text; or, when the result is called, the images have none.
    """
    if context.encode is None:
        raise ConfigError(f"{who}: this model was trained without text")
    encoded = context.encode(text)

    def other(cond: Cond) -> Cond:
        n = need_text(who, cond).shape[0]
        new = {k: jnp.broadcast_to(jnp.asarray(a), (n, *a.shape[1:])) for k, a in encoded.items()}
        return {**{k: a for k, a in cond.items() if k != "text_weight"}, **new}

    return other


def need_text(who: str, cond: Cond) -> Array:
    """The text of each image; `who` needs it.

    Raises:
        ConfigError: there is none, not even the null text.
    """
    if "text" not in cond:
        raise ConfigError(
            f"{who}: the images have no text: set captions by sample.captions or "
            "denoiser(captions=...)"
        )
    return cond["text"]


def need_open(kind: str, context: Context, checkpoint: str) -> Callable:
    """The function that a checkpoint holds, see `Context.open`.

    Raises:
        ConfigError: the context cannot open checkpoints.
    """
    if context.open is None:
        raise ConfigError(f"{kind}: checkpoint={checkpoint!r} cannot be opened here")
    return context.open(kind, checkpoint)


def _interleave(*arrays: Array) -> Array:
    """`[a0, b0, a1, b1, ...]`, so that each pair stays on one device when the batch is sharded."""
    first = arrays[0]
    return jnp.stack(arrays, axis=1).reshape(len(arrays) * first.shape[0], *first.shape[1:])


def contrast(
    denoiser: Denoiser, null: Callable[[Cond], Cond], z: Array, gamma: Array, cond: Cond
) -> tuple[Pred, Pred]:
    """`(conditional, unconditional)` predictions, from one call of twice the batch.

    `gamma` is a scalar, or has the leading axis `[B]`.
    """
    strong, weak = contrast_many(denoiser, [cond, null(cond)], z, gamma)
    return strong, weak


def contrast_many(denoiser: Denoiser, conds: Sequence[Cond], z: Array, gamma: Array) -> list[Pred]:
    """The predictions under each of n conditions, from one call with n times the batch.

    `gamma` is a scalar, or has the leading axis `[B]`.
    """
    n, gamma = len(conds), jnp.asarray(gamma)
    if any("text_weight" in cond for cond in conds):  # a text without brackets has weight 1
        default = [{"text_weight": jnp.ones(cond["text"].shape[:2])} for cond in conds]
        conds = [{**ones, **cond} for ones, cond in zip(default, conds, strict=True)]
    g = jnp.repeat(gamma, n, axis=0) if gamma.ndim else gamma
    pred = denoiser(jnp.repeat(z, n, axis=0), g, jax.tree.map(_interleave, *conds))
    parts = [p.reshape(z.shape[0], n, *z.shape[1:]) for p in pred]
    return [Pred(*(p[:, i] for p in parts)) for i in range(n)]


def over_pixels(reduce: Callable, a: Array, **options: float) -> Array:
    """`reduce` over all axes but the first, shaped to broadcast against `a`."""
    return reduce(a.reshape(a.shape[0], -1), axis=1, **options).reshape(-1, *[1] * (a.ndim - 1))


def norm(a: Array) -> Array:
    """Norm per example, shaped to broadcast; its gradient at 0 is 0, not NaN."""
    squared = over_pixels(jnp.sum, jnp.square(a))
    return jnp.where(squared > 0.0, jnp.sqrt(jnp.where(squared > 0.0, squared, 1.0)), 0.0)


def with_x(pred: Pred, x: Array, gamma: Array) -> Pred:
    """The prediction moved to another `x`, with the noise recomputed to match.

    `eps - (alpha / sigma)(x_new - x)`: equal to `(z - alpha x_new) / sigma`, and exactly `eps`
    where x is unchanged. `gamma` is a scalar or `[B]`.
    """
    return Pred(x, pred.eps - jnp.exp(-0.5 * expand(gamma, x)) * (x - pred.x))


def follow(denoiser: Denoiser, log_prob: Callable, scale: float) -> Denoiser:
    """The denoiser with `scale grad_z log_prob(z, gamma, cond)` added to its score.

    `log_prob` returns `[B]`, in nats; each value depends on its own example alone.
    """

    def moved(pred: Pred, z: Array, gamma: Array, cond: Cond) -> Pred:
        # Examples are independent, so the gradient of the sum contains each example's gradient.
        extra = jax.grad(lambda z: log_prob(z, gamma, cond).sum())(z)
        return with_score(pred, scale * extra, gamma)

    return then(denoiser, moved)


def with_score(pred: Pred, extra: Array, gamma: Array) -> Pred:
    """The prediction after `extra` is added to the score: `eps -= sigma G`, `x += sigma^2/alpha G`.

    `extra` is G, with the shape of z; `gamma` is a scalar or `[B]` (Song et al. 2021, section 5;
    Dhariwal & Nichol 2021, equation 14).
    """
    g = expand(gamma, extra)
    s = sigma(g)
    return Pred(pred.x + s**2 / alpha(g) * extra, pred.eps - s * extra)
