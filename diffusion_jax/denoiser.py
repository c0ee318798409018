"""Denoisers with state, such as guidance with momentum.

A denoiser is a pure function, so its state goes in and comes out; `sampling.integrate` passes it
from step to step. Called without state, a stateful denoiser behaves as on the first step. Transform
its predictions with `then`, and bind its condition with `with_condition`: both carry the state
along, which a plain `lambda` would drop.

A sampler may tell a denoiser more than z and gamma: `jump()` says `to`, where its step ends. Only
denoisers with such a parameter hear it.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from diffusion_jax.errors import ConfigError
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


def hearing(function: Callable) -> Callable:
    """The function, which may be told by keyword what it has no parameter for."""
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return function
    known = {p.name for p in parameters}
    return lambda *args, **told: function(*args, **{k: told[k] for k in told.keys() & known})


def as_stateful(denoiser: Callable[..., Pred]) -> StatefulDenoiser:
    """The denoiser itself if it has state, else the same with an empty state."""
    if isinstance(denoiser, StatefulDenoiser):
        return denoiser
    heard = hearing(denoiser)
    return StatefulDenoiser(
        lambda z: (), lambda state, *args, **told: (heard(*args, **told), state)
    )


def then(denoiser: Callable[..., Pred], change: Callable[..., Pred]) -> Callable[..., Pred]:
    """The denoiser followed by `change(pred, z, gamma, ...) -> pred`; state is carried along."""
    if not isinstance(denoiser, StatefulDenoiser):
        heard = hearing(denoiser)
        return lambda *args, **told: change(heard(*args, **told), *args)
    heard_step = hearing(denoiser.step)

    def step(state: Any, *args: Any, **told: Any) -> tuple[Pred, Any]:
        pred, state = heard_step(state, *args, **told)
        return change(pred, *args), state

    return StatefulDenoiser(denoiser.init, step)


def with_condition(
    denoiser: Callable[..., Pred], cond: Cond, shape: tuple[int, ...] = ()
) -> Callable[[Array, Array], Pred]:
    """`(z, gamma) -> Pred`: the denoiser with its condition bound; state is carried along.

    What a sampler tells it besides becomes part of the condition, `[B]`.

    Calling it raises `ConfigError` for other numbers of examples in `z` than in the condition or in
    `gamma`, and for another number of axes or channels in `z` than in `shape`, one example's.
    """

    def all_of(told: dict[str, Array], z: Array, gamma: Array) -> Cond:
        found = jnp.shape(z)
        if shape and (len(found) != 1 + len(shape) or found[-1] != shape[-1]):
            raise ConfigError(
                f"z is {list(found)}, and must be [B, {', '.join(map(str, shape))}]: examples as "
                "this model has them"
            )
        if jnp.shape(gamma)[:1] not in ((), (1,), found[:1]):
            raise ConfigError(
                f"gamma is {list(jnp.shape(gamma))}, and z is {list(found)}: give one number, or "
                "one for each example"
            )
        for name, value in cond.items():
            if jnp.shape(value)[:1] not in ((), jnp.shape(z)[:1]):
                raise ConfigError(
                    f"the condition has {jnp.shape(value)[0]} of {name}, and z is "
                    f"{list(jnp.shape(z))}: give one for each example"
                )
        return {**cond, **{k: jnp.broadcast_to(v, z.shape[:1]) for k, v in told.items()}}

    if not isinstance(denoiser, StatefulDenoiser):
        return lambda z, gamma, **told: denoiser(z, gamma, all_of(told, z, gamma))
    return StatefulDenoiser(
        denoiser.init,
        lambda state, z, gamma, **told: denoiser.step(state, z, gamma, all_of(told, z, gamma)),
    )


class SequentialCalls:
    """A plain `(z, gamma) -> Pred` over a stateful denoiser, for the calls of one solver step.

    `state` is a Python attribute that lives while a step is traced: it comes from the scan's carry
    and returns to it, so the step stays pure. A call inside a nested loop or branch could not
    return its state; JAX raises an error there.
    """

    def __init__(self, denoiser: StatefulDenoiser, state: Any) -> None:
        self._step = hearing(denoiser.step)
        self.state = state

    def __call__(self, z: Array, gamma: Array, **told: Array) -> Pred:
        """The next prediction."""
        pred, self.state = self._step(self.state, z, gamma, **told)
        return pred
