"""Denoisers that carry something from call to call, such as guidance with momentum.

A denoiser is a pure function, so what it remembers goes in and comes out; `sampling.integrate`
hands it from step to step. Whoever calls such a denoiser like any other gets what a run would begin
with; whoever changes its predictions does so by `after`, or its memory is lost.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diffusion_jax.types import Array, Cond, Pred


@dataclass(frozen=True)
class Remembering:
    """A denoiser with a memory. Called as one without, it has just begun.

    Attributes:
        init: `z -> memory` before the first call, and after a move up in gamma.
        step: `(memory, z, gamma, ...) -> (Pred, memory)`, with whatever the denoiser takes.
    """

    init: Callable[[Array], Any]
    step: Callable[..., tuple[Pred, Any]]

    def __call__(self, z: Array, *rest: Any) -> Pred:
        """The first prediction of a run."""
        return self.step(self.init(z), z, *rest)[0]


def lifted(denoiser: Callable[..., Pred]) -> Remembering:
    """Any denoiser as one with a memory, which is empty if it has none."""
    if isinstance(denoiser, Remembering):
        return denoiser
    return Remembering(lambda z: (), lambda memory, *args: (denoiser(*args), memory))


def after(denoiser: Callable[..., Pred], change: Callable[..., Pred]) -> Callable[..., Pred]:
    """The denoiser with its prediction changed, and with the memory it has.

    Args:
        denoiser: the denoiser, called with `(z, gamma, ...)`.
        change: `(pred, z, gamma, ...) -> pred`.

    Returns:
        The changed denoiser.
    """
    if not isinstance(denoiser, Remembering):
        return lambda *args: change(denoiser(*args), *args)

    def step(memory: Any, *args: Any) -> tuple[Pred, Any]:
        pred, memory = denoiser.step(memory, *args)
        return change(pred, *args), memory

    return Remembering(denoiser.init, step)


def given(denoiser: Callable[..., Pred], cond: Cond) -> Callable[[Array, Array], Pred]:
    """`(z, gamma) -> Pred`: a denoiser with its condition inside, and with the memory it has."""
    if not isinstance(denoiser, Remembering):
        return lambda z, gamma: denoiser(z, gamma, cond)
    return Remembering(denoiser.init, lambda memory, *args: denoiser.step(memory, *args, cond))


class Calls:
    """A denoiser for the calls of one step, made one after another: the memory passes through.

    The state is Python's, within one tracing of a step: it goes in with the scan's carry and comes
    out with it, so the step stays pure. A call inside of a nested loop or branch would not hand its
    memory back; JAX raises there.
    """

    def __init__(self, denoiser: Remembering, memory: Any) -> None:
        self._denoiser = denoiser
        self.memory = memory

    def __call__(self, z: Array, gamma: Array) -> Pred:
        """The next prediction."""
        pred, self.memory = self._denoiser.step(self.memory, z, gamma)
        return pred
