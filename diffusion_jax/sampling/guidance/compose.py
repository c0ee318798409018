"""Composes several texts or classes, with positive or negative weights (Liu et al. 2022).

`pred = null + base (conditional - null) + sum_i w_i (part_i - null)`, in one batched call. This is
the score of `p_0 (p_c / p_0)^base prod_i (p_i / p_0)^w_i` if all noised components have the same
spread; otherwise the product of the noised densities is not the noised product, and a corrector,
`langevin()`, moves samples towards it (Du et al. 2023). With negative weights the product may not
be normalisable: Gaussians of variance v need `(1 - base - sum w_i) / v_0 + base / v_c +
sum w_i / v_i > 0`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.allowed import Finite
from diffusion_jax.errors import ConfigError
from diffusion_jax.sampling.guidance.base import Context, contrast_many, need_null, with_text
from diffusion_jax.types import Array, Cond, Denoiser, Pred


@dataclass(frozen=True)
class Compose:
    """Guidance by several conditions, each with a weight."""

    parts: tuple[tuple[str | int, float], ...]
    base: float

    def check(self, context: Context) -> None:
        """Needs a null condition, and parts that the model can be conditioned on."""
        null = need_null("compose", context)
        for part, _ in self.parts:
            self._condition(context, part)
            if isinstance(part, int):
                classes = int(null({"label": jnp.zeros(1, jnp.int32)})["label"][0])
                if not 0 <= part < classes:
                    raise ConfigError(f"compose: there is no class {part}; there are {classes}")

    def _condition(self, context: Context, part: str | int) -> Callable[[Cond], Cond]:
        """A function that replaces a sample's condition by `part`."""
        if isinstance(part, str):
            return with_text(f"compose(parts=(({part!r}, ...),))", context, part)

        return lambda cond: {**cond, "label": jnp.full_like(cond["label"], part)}

    def __call__(self, denoiser: Denoiser, context: Context) -> Denoiser:
        """The guided denoiser."""
        null = need_null("compose", context)
        conditions = [null, *(self._condition(context, part) for part, _ in self.parts)]
        weights = [1.0 - self.base - sum(w for _, w in self.parts), *(w for _, w in self.parts)]
        if self.base:
            conditions.append(lambda cond: cond)
            weights.append(self.base)

        def guided(z: Array, gamma: Array, cond: Cond) -> Pred:
            preds = contrast_many(denoiser, [c(cond) for c in conditions], z, gamma)
            return jax.tree.map(
                lambda *a: sum(w * v for w, v in zip(weights, a, strict=True)), *preds
            )

        return guided


def make(parts: tuple, base: Finite = 1.0) -> Compose:
    """Several texts or classes at once.

    Args:
        parts: pairs of a text (or the number of a class) and its weight, which may be negative:
            `(("a red three", 1.0), ("a digit, top left", 1.0), ("a blue digit", -0.5))`.
        base: the weight of the sample's own condition; 0 for the parts alone.

    Raises:
        ConfigError: `parts` are not such pairs.
    """
    pairs = [p for p in parts if isinstance(p, tuple | list) and len(p) == 2]
    good = pairs and len(pairs) == len(parts) and all(
        isinstance(part, str | int) and isinstance(w, int | float) and np.isfinite(w)
        for part, w in pairs
    )  # fmt: skip
    if not good:
        raise ConfigError(
            f"compose: parts={parts!r} must be pairs of a text, or a class, and its weight: "
            "(('a red three', 1.0), ('a blue digit', -0.5))"
        )
    return Compose(tuple((part, float(w)) for part, w in pairs), float(base))
