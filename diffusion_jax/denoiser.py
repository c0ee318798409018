"""Denoisers with state, such as guidance with momentum.

A denoiser is a pure function, so its state goes in and comes out; `sampling.integrate` passes it
from step to step. Called without state, a stateful denoiser behaves as on the first step. Transform
its predictions with `then`, and bind its condition with `with_condition`: both carry the state
along, which a plain `lambda` would drop.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diffusion_jax.types import Array, Cond, Pred


@dataclass(frozen=True)
class StatefulDenoiser:
    """A denoiser with state. Called like a plain one, it starts from its initial state.

    Attributes:
        init: `z -> state`, before the first call and after an upward move in gamma.
        step: `(state, z, gamma, ...) -> (Pred, state)`; further arguments as the denoiser takes.
    """

    init: Callable[[Array], Any]
    step: Callable[..., tuple[Pred, Any]]

    def __call__(self, z: Array, *rest: Any) -> Pred:
        """The first prediction of a run."""
        return self.step(self.init(z), z, *rest)[0]


def as_stateful(denoiser: Callable[..., Pred]) -> StatefulDenoiser:
    """The denoiser itself if it has state, else the same with an empty state."""
    if isinstance(denoiser, StatefulDenoiser):
        return denoiser
    return StatefulDenoiser(lambda z: (), lambda state, *args: (denoiser(*args), state))


def then(denoiser: Callable[..., Pred], change: Callable[..., Pred]) -> Callable[..., Pred]:
    """The denoiser followed by `change(pred, z, gamma, ...) -> pred`; state is carried along."""
    if not isinstance(denoiser, StatefulDenoiser):
        return lambda *args: change(denoiser(*args), *args)

    def step(state: Any, *args: Any) -> tuple[Pred, Any]:
        pred, state = denoiser.step(state, *args)
        return change(pred, *args), state

    return StatefulDenoiser(denoiser.init, step)


def with_condition(denoiser: Callable[..., Pred], cond: Cond) -> Callable[[Array, Array], Pred]:
    """`(z, gamma) -> Pred`: the denoiser with its condition bound; state is carried along."""
    if not isinstance(denoiser, StatefulDenoiser):
        return lambda z, gamma: denoiser(z, gamma, cond)
    return StatefulDenoiser(denoiser.init, lambda state, *args: denoiser.step(state, *args, cond))


class SequentialCalls:
    """A plain `(z, gamma) -> Pred` over a stateful denoiser, for the calls of one solver step.

    `state` is a Python attribute that lives while a step is traced: it comes from the scan's carry
    and returns to it, so the step stays pure. A call inside a nested loop or branch could not
    return its state; JAX raises an error there.
    """

    def __init__(self, denoiser: StatefulDenoiser, state: Any) -> None:
        self._denoiser = denoiser
        self.state = state

    def __call__(self, z: Array, gamma: Array) -> Pred:
        """The next prediction."""
        pred, self.state = self._denoiser.step(self.state, z, gamma)
        return pred
