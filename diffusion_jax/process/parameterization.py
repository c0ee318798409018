"""What a network predicts, turned into a `Pred`; everything downstream sees only `Pred`.

With `v = alpha eps - sigma x` (Salimans & Ho 2022): `x = alpha z - sigma v`,
`eps = sigma z + alpha v`. All three give the same bound; they differ in how they train.
"""

from collections.abc import Callable

from diffusion_jax.errors import ConfigError
from diffusion_jax.types import Array, Pred, alpha, expand, sigma


def _from_eps(out: Array, z: Array, a: Array, s: Array) -> Pred:
    return Pred(x=(z - s * out) / a, eps=out)


def _from_v(out: Array, z: Array, a: Array, s: Array) -> Pred:
    return Pred(x=a * z - s * out, eps=s * z + a * out)


def _from_x(out: Array, z: Array, a: Array, s: Array) -> Pred:
    return Pred(x=out, eps=(z - a * out) / s)


_FROM: dict[str, Callable[[Array, Array, Array, Array], Pred]] = {
    "eps": _from_eps,
    "v": _from_v,
    "x": _from_x,
}
_TO: dict[str, Callable[[Pred, Array, Array], Array]] = {
    "eps": lambda pred, a, s: pred.eps,
    "v": lambda pred, a, s: a * pred.eps - s * pred.x,
    "x": lambda pred, a, s: pred.x,
}
PREDICTIONS = tuple(_FROM)


def check(prediction: str) -> str:
    """Returns `prediction`; raises ConfigError unless it is one of `PREDICTIONS`."""
    if prediction not in _FROM:
        raise ConfigError(f"prediction={prediction!r}: allowed are {', '.join(PREDICTIONS)}")
    return prediction


def to_pred(prediction: str, out: Array, z: Array, gamma: Array) -> Pred:
    """Turns the network output `out` (shape of `z`) at `(z, gamma)` into a `Pred`."""
    g = expand(gamma, z)
    return _FROM[prediction](out, z, alpha(g), sigma(g))


def from_pred(prediction: str, pred: Pred, gamma: Array) -> Array:
    """The network output that `to_pred` would turn into `pred`: its inverse."""
    g = expand(gamma, pred.x)
    return _TO[prediction](pred, alpha(g), sigma(g))
