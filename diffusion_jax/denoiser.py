"""Denoisers with state, such as guidance with momentum.

A denoiser is a pure function, so its state is an argument and a result; `sampling.integrate` passes
it from step to step. Called without state, a stateful denoiser behaves as on the first step.
Transform its predictions with `then`, and bind its condition with `with_condition`: both carry the
state along, which a plain `lambda` would drop.

A sampler may pass more keyword arguments than z and gamma: `jump()` passes `to`, the gamma at which
its step ends. Denoisers without such a parameter do not receive it.
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
        init: `z -> state`, called before the first step and after an upward move in gamma.
        step: `(state, z, gamma, ...) -> (Pred, state)`, with the denoiser's further arguments.
    """

    init: Callable[[Array], Any]
    step: Callable[..., tuple[Pred, Any]]

    def __call__(self, z: Array, *rest: Any) -> Pred:
        """The first prediction of a run."""
        return self.step(self.init(z), z, *rest)[0]


def ignore_unknown_kwargs(function: Callable) -> Callable:
    """Wraps a function so that it ignores keyword arguments it does not accept."""
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return function
    names = {p.name for p in parameters}
    return lambda *args, **extra: function(*args, **{k: extra[k] for k in extra.keys() & names})


def as_stateful(denoiser: Callable[..., Pred]) -> StatefulDenoiser:
    """The denoiser itself if it has state, otherwise the denoiser with an empty state."""
    if isinstance(denoiser, StatefulDenoiser):
        return denoiser
    call = ignore_unknown_kwargs(denoiser)
    return StatefulDenoiser(
        lambda z: (), lambda state, *args, **extra: (call(*args, **extra), state)
    )


def then(denoiser: Callable[..., Pred], change: Callable[..., Pred]) -> Callable[..., Pred]:
    """The denoiser followed by `change(pred, z, gamma, ...) -> pred`; state is carried along."""
    if not isinstance(denoiser, StatefulDenoiser):
        call = ignore_unknown_kwargs(denoiser)
        return lambda *args, **extra: change(call(*args, **extra), *args)
    inner_step = ignore_unknown_kwargs(denoiser.step)

    def step(state: Any, *args: Any, **extra: Any) -> tuple[Pred, Any]:
        pred, state = inner_step(state, *args, **extra)
        return change(pred, *args), state

    return StatefulDenoiser(denoiser.init, step)


def with_condition(
    denoiser: Callable[..., Pred], cond: Cond, shape: tuple[int, ...] = ()
) -> Callable[[Array, Array], Pred]:
    """`(z, gamma) -> Pred`: the denoiser with its condition bound; state is carried along.

    Extra keyword arguments from the sampler are broadcast to `[B]` and added to the condition.

    Calling it raises `ConfigError` if the numbers of examples in `z`, the condition and `gamma`
    differ, or if `z` has another number of axes or channels than `shape`, that of one example.
    """

    def checked(extra: dict[str, Array], z: Array, gamma: Array) -> Cond:
        shape_z = jnp.shape(z)
        if shape and (len(shape_z) != 1 + len(shape) or shape_z[-1] != shape[-1]):
            raise ConfigError(
                f"z is {list(shape_z)}, and must be [B, {', '.join(map(str, shape))}]: examples as "
                "this model has them"
            )
        if jnp.shape(gamma)[:1] not in ((), (1,), shape_z[:1]):
            raise ConfigError(
                f"gamma is {list(jnp.shape(gamma))}, and z is {list(shape_z)}: give one number, or "
                "one for each example"
            )
        for name, value in cond.items():
            if jnp.shape(value)[:1] not in ((), jnp.shape(z)[:1]):
                raise ConfigError(
                    f"the condition has {jnp.shape(value)[0]} of {name}, and z is "
                    f"{list(jnp.shape(z))}: give one for each example"
                )
        return {**cond, **{k: jnp.broadcast_to(v, z.shape[:1]) for k, v in extra.items()}}

    if not isinstance(denoiser, StatefulDenoiser):
        return lambda z, gamma, **extra: denoiser(z, gamma, checked(extra, z, gamma))
    return StatefulDenoiser(
        denoiser.init,
        lambda state, z, gamma, **extra: denoiser.step(state, z, gamma, checked(extra, z, gamma)),
    )


class SequentialCalls:
    """A plain `(z, gamma) -> Pred` over a stateful denoiser, for the calls of one solver step.

    `state` is a Python attribute that exists only while a step is traced: it comes from the scan's
    carry and returns to it, so the step stays pure. A call inside a nested loop or branch could not
    return its state; JAX raises an error in that case.
    """

    def __init__(self, denoiser: StatefulDenoiser, state: Any) -> None:
        self._step = ignore_unknown_kwargs(denoiser.step)
        self.state = state

    def __call__(self, z: Array, gamma: Array, **extra: Array) -> Pred:
        """The next prediction."""
        pred, self.state = self._step(self.state, z, gamma, **extra)
        return pred
