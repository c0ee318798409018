"""Averages of the weights (EMA): exponential ones by their decay, others by a power function.

`optimizer.advance` moves them with every step, and `state.py` holds them.

An average `power(s)` after t steps weighs step i in proportion to `i^g`: it forgets in proportion
to the length of the run, and its spread in time is s t (Karras et al. 2024, "Analyzing and
improving the training dynamics of diffusion models", section 3). From several of them, kept at
several steps, the average of any other length follows afterwards, by least squares: `posthoc`.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError, SpecError
from diffusion_jax.types import Array

Average = float | str  # 0.9999, or "power(0.1)"
_LONGEST = 0.28  # of power(s): at 0.2887 all steps weigh the same


def _number(text: str, name: str, example: str) -> float:
    """The one number of `name(number)`."""
    spec = registry.parse(text)
    values = (*spec.args, *spec.kwargs.values())
    if spec.name != name or len(values) != 1 or not isinstance(values[0], int | float):
        raise ConfigError(f"{text!r} is no average: write a decay below 1, or {example}")
    if not 0.0 < values[0] <= _LONGEST:
        raise ConfigError(f"{text}: the length must be above 0 and at most {_LONGEST}")
    return float(values[0])


def key(average: Average) -> str:
    """The name of an average in the state, for example `"0.9999"` or `"power(0.1)"`.

    Raises:
        ConfigError: it is no average.
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
    """The g with which `i^g` has a spread of `length` times the number of steps."""
    squared = length**-2
    return float(np.roots([1, 7, 16 - squared, 12 - squared]).real.max())


def share(average: Average, step: Array, warmup: bool) -> Array | float:
    """What an update takes of the new weights; it keeps the rest of itself.

    Args:
        average: one of `config.ema`.
        step: number of updates made so far, at least 1.
        warmup: exponential ones keep at most `(1 + step) / (10 + step)`, which soon forgets the
            initial weights. Power functions begin with the first step in any case.
    """
    if isinstance(average, str):
        g = exponent(_number(average, "power", "power(0.1)"))
        return -jnp.expm1((g + 1.0) * jnp.log1p(-1.0 / step))  # exact however long the run is
    return 1.0 - (jnp.minimum(average, (1.0 + step) / (10.0 + step)) if warmup else average)


def inner(steps: Any, exponents: Any, others: Any, other_exponents: Any) -> np.ndarray:
    """Inner products of averages as functions of the step: `[n, m]` of n and m of them."""
    a, b = np.asarray(steps, float)[:, None], np.asarray(others, float)[None]
    g, h = np.asarray(exponents, float)[:, None], np.asarray(other_exponents, float)[None]
    first = np.where(a < b, h, -g)
    return (g + 1) * (h + 1) * (a / b) ** first / ((g + h + 1) * np.maximum(a, b))


def posthoc(kept: Sequence[tuple[int, float]], step: int, wanted: float) -> np.ndarray:
    """Coefficients with which kept averages make up another.

    Args:
        kept: `(step, s)` of each average there is.
        step: at the end of the average wanted.
        wanted: its s.

    Returns:
        One coefficient for each average kept; their sum is about 1.
    """
    steps, exponents = [t for t, _ in kept], [exponent(s) for _, s in kept]
    products = inner(steps, exponents, steps, exponents)
    target = inner(steps, exponents, [step], [exponent(wanted)])[:, 0]
    return np.linalg.lstsq(products, target, rcond=1e-12)[0]


def wanted(name: str) -> float | None:
    """The s of `"posthoc(s)"`; None for other names.

    Raises:
        ConfigError: it has no such length.
    """
    return _number(name, "posthoc", "posthoc(0.1)") if name.startswith("posthoc") else None
