"""Parameterisations: convert a network's output to a `Pred`, the only form used downstream.

`"v"` is `v = alpha eps - sigma x` (Salimans & Ho 2022): `x = alpha z - sigma v`,
`eps = sigma z + alpha v`. `"eps"`, `"v"` and `"x"` give the same bound; they differ in training.

`"velocity"` is that of rectified flow, `eps - x`: its path `(1 - t) x + t eps` is
`z / (alpha + sigma)` at `gamma = 2 log(t / (1 - t))`. `"edm"` is EDM's raw output F, with
`x = c_skip z / alpha + c_out F`, and its network sees `z` scaled to unit variance. The scaling does
not suit the periods of Fourier features of the input, and F needs no `z` added to it: use
`fourier=False`, and `skip=False` for networks that have this argument.

`"levels"` is for discrete data: the network gives the logits of every value's levels, Bayes' rule
turns them into the posterior given the value's own noisy `z`, and `x` is its mean:

    p(k | z) = softmax_k(logits_k - (z - alpha level_k)^2 / (2 sigma^2)),
    x = sum_k p(k | z) level_k.

The information in a value's own `z` is thus exact from the first step on, and the network only
learns the information in the other values; at low noise there is almost nothing left to learn.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from diffusion_jax.errors import ConfigError
from diffusion_jax.types import Array, Pred, alpha, expand, sigma

_EDM_DATA = 0.5  # standard deviation of images in [-1, 1] (Karras et al. 2022, table 1)


def _from_eps(out: Array, z: Array, a: Array, s: Array, centres: Array | None) -> Pred:
    return Pred(x=(z - s * out) / a, eps=out)


def _from_v(out: Array, z: Array, a: Array, s: Array, centres: Array | None) -> Pred:
    return Pred(x=a * z - s * out, eps=s * z + a * out)


def _from_x(out: Array, z: Array, a: Array, s: Array, centres: Array | None) -> Pred:
    return Pred(x=out, eps=(z - a * out) / s)


def _from_velocity(out: Array, z: Array, a: Array, s: Array, centres: Array | None) -> Pred:
    return Pred(x=(z - s * out) / (a + s), eps=(z + a * out) / (a + s))


def _edm_norm(a: Array, s: Array) -> Array:
    return jnp.sqrt(jnp.square(s) + jnp.square(_EDM_DATA * a))


def _from_edm(out: Array, z: Array, a: Array, s: Array, centres: Array | None) -> Pred:
    n, d = _edm_norm(a, s), _EDM_DATA
    x = a * d**2 * z / n**2 + s * d * out / n
    return Pred(x=x, eps=s * z / n**2 - a * d * out / n)


def _to_edm(pred: Pred, a: Array, s: Array) -> Array:
    return (s * pred.x - a * _EDM_DATA**2 * pred.eps) / (_EDM_DATA * _edm_norm(a, s))


def _from_levels(out: Array, z: Array, a: Array, s: Array, centres: Array | None) -> Pred:
    if centres is None:
        raise ValueError("prediction='levels' needs the levels' centres")
    if centres.ndim == 2:
        return _from_vectors(out, z, a, s, centres)
    logits = out.reshape(*z.shape, len(centres)).astype(z.dtype)
    likelihood = -0.5 * jnp.square((z[..., None] - a[..., None] * centres) / s[..., None])
    x = jnp.sum(jax.nn.softmax(logits + likelihood) * centres, axis=-1)
    return Pred(x=x, eps=(z - a * x) / s)


def _from_vectors(out: Array, z: Array, a: Array, s: Array, vectors: Array) -> Pred:
    """Like `_from_levels`, for levels that are vectors `[V, D]` of equal norm: D channels of z."""
    count, dims = vectors.shape
    z_vectors = z.reshape(*z.shape[:-1], -1, dims)
    logits = out.reshape(*z_vectors.shape[:-1], count).astype(z.dtype)
    # |z - alpha e|^2 without the terms that are equal for all e.
    likelihood = (z_vectors @ vectors.T) * (a / jnp.square(s))[..., None]
    x = (jax.nn.softmax(logits + likelihood) @ vectors).reshape(z.shape)
    return Pred(x=x, eps=(z - a * x) / s)


_FROM: dict[str, Callable[[Array, Array, Array, Array, Array | None], Pred]] = {
    "eps": _from_eps,
    "v": _from_v,
    "x": _from_x,
    "velocity": _from_velocity,
    "edm": _from_edm,
    "levels": _from_levels,
}
# Inverses, for the predictions whose output has the shape of z.
_TO: dict[str, Callable[[Pred, Array, Array], Array]] = {
    "eps": lambda pred, a, s: pred.eps,
    "v": lambda pred, a, s: a * pred.eps - s * pred.x,
    "x": lambda pred, a, s: pred.x,
    "velocity": lambda pred, a, s: pred.eps - pred.x,
    "edm": _to_edm,
}
# The network's input, where it is not z itself.
_INPUT: dict[str, Callable[[Array, Array, Array], Array]] = {
    "edm": lambda z, a, s: z / _edm_norm(a, s),
}
PREDICTIONS = tuple(_FROM)


def outputs(prediction: str, levels: int) -> int:
    """Number of network outputs for each value of the data."""
    return 1 if prediction in _TO else levels


def check(prediction: str) -> str:
    """Returns `prediction`; raises ConfigError unless it is one of `PREDICTIONS`."""
    if prediction not in _FROM:
        raise ConfigError(
            f"prediction={prediction!r} is not valid; allowed: {', '.join(PREDICTIONS)}"
        )
    return prediction


def network_input(prediction: str, z: Array, gamma: Array) -> Array:
    """The network's input at `z`: `z` itself, or for `"edm"` `z` scaled to unit variance (c_in)."""
    if prediction not in _INPUT:
        return z
    g = expand(gamma, z)
    return _INPUT[prediction](z, alpha(g), sigma(g))


def to_pred(
    prediction: str, out: Array, z: Array, gamma: Array, centres: Array | None = None
) -> Pred:
    """Turns the network's output at `(z, gamma)` into a `Pred`.

    Args:
        prediction: one of `PREDICTIONS`.
        out: output of the network, shape of `z`; for `"levels"` its last axis is `outputs` times
            as long.
        z: latents, `[B, ...]`.
        gamma: scalar, `[B]`, or broadcastable to `z`.
        centres: the levels in model space, `[V]`, or vectors `[V, D]`; only for `"levels"`.
    """
    g = expand(gamma, z)
    return _FROM[prediction](out, z, alpha(g), sigma(g), centres)


def from_pred(prediction: str, pred: Pred, gamma: Array) -> Array:
    """The inverse of `to_pred`: the network output that gives `pred`; not for `"levels"`."""
    g = expand(gamma, pred.x)
    return _TO[prediction](pred, alpha(g), sigma(g))
