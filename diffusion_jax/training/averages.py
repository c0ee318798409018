"""Averages of the weights (EMA): exponential with a decay, or with a power function.

`optimizer.advance` updates them at every step, and `state.py` holds them.

After t steps the average `power(s)` weights step i in proportion to `i^g`, so that its standard
deviation in time is s t, a fixed fraction of the run (Karras et al. 2024, "Analyzing and improving
the training dynamics of diffusion models", section 3). From several such averages, saved at several
steps, `posthoc` reconstructs the average of any other length by least squares.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError, SpecError
from diffusion_jax.types import Array

Average = float | str  # 0.9999, or "power(0.1)"
_LONGEST = 0.28  # largest s of power(s); at 0.2887 all steps have equal weight


def _number(text: str, name: str, example: str) -> float:
    """The one number of `name(number)`."""
    spec = registry.parse(text)
    values = (*spec.args, *spec.kwargs.values())
    if spec.name != name or len(values) != 1 or not isinstance(values[0], int | float):
        raise ConfigError(f"{text!r} is not an average: write a decay below 1, or {example}")
    if not 0.0 < values[0] <= _LONGEST:
        raise ConfigError(f"{text}: the length must be above 0 and at most {_LONGEST}")
    return float(values[0])


def key(average: Average) -> str:
    """The name of an average in the state, for example `"0.9999"` or `"power(0.1)"`.

    Raises:
        ConfigError: it is not a valid average.
    """
    if isinstance(average, str):
        return f"power({_number(average, 'power', 'power(0.1)'):g})"
    return f"{average:g}"


def length(name: str) -> float | None:
    """The s of a name `"power(s)"`; None for other names."""
    try:
        return _number(name, "power", "power(0.1)")
    except (ConfigError, SpecError):
        return None


def exponent(length: float) -> float:
    """The exponent g for which `i^g` has standard deviation `length` times the number of steps."""
    squared = length**-2
    return float(np.roots([1, 7, 16 - squared, 12 - squared]).real.max())


def share(average: Average, step: Array, warmup: bool) -> Array | float:
    """The weight of the new parameters in an update of the average; the old average has the rest.

    Args:
        average: one of `config.ema`.
        step: number of updates made so far, at least 1.
        warmup: limit the decay of exponential averages to `(1 + step) / (10 + step)`, which soon
            forgets the initial weights. Power functions never include the initial weights.
    """
    if isinstance(average, str):
        g = exponent(_number(average, "power", "power(0.1)"))
        return -jnp.expm1((g + 1.0) * jnp.log1p(-1.0 / step))  # accurate for runs of any length
    return 1.0 - (jnp.minimum(average, (1.0 + step) / (10.0 + step)) if warmup else average)


def inner(steps: Any, exponents: Any, others: Any, other_exponents: Any) -> np.ndarray:
    """Inner products `[n, m]` of n power-function averages with m others, as functions of time."""
    a, b = np.asarray(steps, float)[:, None], np.asarray(others, float)[None]
    g, h = np.asarray(exponents, float)[:, None], np.asarray(other_exponents, float)[None]
    first = np.where(a < b, h, -g)
    return (g + 1) * (h + 1) * (a / b) ** first / ((g + h + 1) * np.maximum(a, b))


def posthoc(kept: Sequence[tuple[int, float]], step: int, wanted: float) -> np.ndarray:
    """Coefficients that combine saved averages into another one.

    Args:
        kept: `(step, s)` of each saved average.
        step: the last step of the average to reconstruct.
        wanted: its s.

    Returns:
        One coefficient for each saved average; their sum is about 1.
    """
    steps, exponents = [t for t, _ in kept], [exponent(s) for _, s in kept]
    products = inner(steps, exponents, steps, exponents)
    target = inner(steps, exponents, [step], [exponent(wanted)])[:, 0]
    return np.linalg.lstsq(products, target, rcond=1e-12)[0]


def wanted(name: str) -> float | None:
    """The s of `"posthoc(s)"`; None for other names.

    Raises:
        ConfigError: the length is missing or out of range.
    """
    return _number(name, "posthoc", "posthoc(0.1)") if name.startswith("posthoc") else None
