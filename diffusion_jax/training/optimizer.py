"""Builds optax optimisers from spec strings, with learning-rate warm-up, decay and clipping."""

import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from diffusion_jax import argument_types, registry
from diffusion_jax.allowed import Count, NotNegative, Rate
from diffusion_jax.errors import ConfigError, SpecError, foreign, short
from diffusion_jax.training import averages
from diffusion_jax.training.averages import Average
from diffusion_jax.training.matrix_optimizers import OURS
from diffusion_jax.training.state import State
from diffusion_jax.types import Params


def _cooldown(lr: float, steps: int, fraction: float = 0.2) -> optax.Schedule:
    """Constant, then linear to 0 over the last `fraction` of the steps."""
    if not 0.0 < fraction <= 1.0:
        raise ConfigError(f"lr_decay: cooldown({fraction}) must be above 0 and at most 1")
    last = max(round(fraction * steps), 1)
    parts = [optax.constant_schedule(lr), optax.linear_schedule(lr, 0.0, last)]
    return optax.join_schedules(parts, [steps - last])


_DECAYS: dict[str, Callable[..., optax.Schedule]] = {
    "constant": lambda lr, steps: optax.constant_schedule(lr),
    "cosine": lambda lr, steps: optax.cosine_decay_schedule(lr, steps, alpha=0.01),
    "linear": lambda lr, steps: optax.linear_schedule(lr, 0.0, steps),
    "cooldown": _cooldown,
}


def learning_rate(lr: float, warmup: int, decay: str, steps: int) -> optax.Schedule:
    """Linear warm-up from 0 over `warmup` steps, then `decay` until `steps`.

    Args:
        lr: the peak.
        warmup: steps of warm-up.
        decay: `"constant"`, `"cosine"` (to 1% of the peak), `"linear"` (to 0), or
            `"cooldown(0.2)"`: constant, then linear to 0 over that fraction of the steps.
        steps: length of the run.

    Returns:
        The optax schedule.

    Raises:
        ConfigError: unknown decay.
    """
    parsed = registry.parse(decay)
    if parsed.name not in _DECAYS:
        raise ConfigError(f"lr_decay={decay!r}: allowed: {', '.join(_DECAYS)}")
    try:
        main = _DECAYS[parsed.name](lr, max(steps - warmup, 1), *parsed.args, **parsed.kwargs)
    except TypeError as e:
        raise SpecError(f"lr_decay={decay!r}: only cooldown takes a number, a fraction") from e
    if not warmup:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, lr, warmup), main], [warmup])


def same_rates(a: ConfigDict, b: ConfigDict, steps: int) -> bool:
    """Whether two configurations train their first `steps` steps at the same learning rates."""
    each = [learning_rate(c.lr, c.warmup, c.lr_decay, c.steps) for c in (a, b)]
    count = np.arange(steps)
    first, second = (np.broadcast_to(rate(count), count.shape) for rate in each)
    return np.array_equal(first, second)


def _matrices(params: Params) -> Params:
    """Weight decay for the kernels of networks only: not biases, norm scales, or the schedule."""

    def decays(path: tuple, p: jax.Array) -> bool:
        # By name too, because the biases of a stack of blocks are matrices.
        return path[0].key != "schedule" and path[-1].key not in ("bias", "scale") and p.ndim > 1

    return jax.tree_util.tree_map_with_path(decays, params)


def _all_but_bias(params: Params) -> Params:
    """Weight decay for every leaf not called bias, as in the published VDM and DiffEnc code.

    An autoencoder's `shift` and `scale` are measured, not trained, and do not decay.
    """

    def decays(path: tuple, _: jax.Array) -> bool:
        exempt = ("bias", "shift", "scale") if path[0].key == "autoencoder" else ("bias",)
        return path[-1].key not in exempt

    return jax.tree_util.tree_map_with_path(decays, params)


_MASKS = {"kernels": _matrices, "all_but_bias": _all_but_bias}

# Allowed values of optax's arguments, which optax itself does not check; a name means the same in
# all of its optimisers.
_NUMBERS = {
    **dict.fromkeys(("b1", "b2", "b3", "beta", "momentum", "decay"), Rate | None),
    **dict.fromkeys(("eps", "eps_root", "weight_decay"), NotNegative | None),
    **dict.fromkeys(("ns_steps", "every", "largest"), Count),
}


def make(
    spec: str,
    lr: optax.Schedule,
    clip: float = 0.0,
    decay_mask: str = "kernels",
    rates: dict[str, float] | None = None,
) -> optax.GradientTransformation:
    """Builds an optimiser.

    Args:
        spec: an optax optimiser and its settings, for example `"adamw(b2=0.99)"` or
            `"contrib.prodigy()"`; or `"muon()"` or `"soap()"` (`matrix_optimizers`).
        lr: the learning-rate schedule.
        clip: largest global gradient norm; 0 for no clipping.
        decay_mask: which parameters decay, for optimisers that take a mask: `"kernels"` or
            `"all_but_bias"`.
        rates: learning-rate multipliers for groups of weights, by name; 1 for the others.

    Returns:
        The optax transformation.

    Raises:
        SpecError: optax has no such optimiser, or it does not take these settings.
        ConfigError: unknown `decay_mask`, or a step of the optimiser fails.
    """
    if decay_mask not in _MASKS:
        raise ConfigError(f"decay_mask={decay_mask!r}: allowed: {', '.join(_MASKS)}")
    parsed = registry.parse(spec)
    module, _, name = parsed.name.rpartition(".")
    if module not in ("", "contrib"):
        raise SpecError(f"optimizer {parsed.name!r}: write name(...) or contrib.name(...)")
    factory = getattr(optax.contrib if module else optax, name, None)
    factory = OURS.get(parsed.name, factory)
    if not inspect.isfunction(factory):
        raise SpecError(
            f"optax has no optimizer {parsed.name!r}; try adamw, lion, muon, soap, sgd, ..."
        )
    taken = inspect.signature(factory).parameters
    _check_numbers(parsed)
    defaults = {"learning_rate": lr, "mask": _MASKS[decay_mask]}
    defaults = {k: v for k, v in defaults.items() if k in taken}
    try:
        optimizer = factory(*parsed.args, **{**defaults, **parsed.kwargs})
    except TypeError as e:
        raise SpecError(f"optimizer {spec!r}: {e}; it takes {', '.join(taken)}") from e
    except ValueError as e:
        raise SpecError(f"optimizer {spec!r} is not valid: {short(e)}") from e
    with foreign(f"optimizer {spec!r} cannot make a step"):
        _try(optimizer)
    for group, rate in (rates or {}).items():
        if rate != 1.0:
            optimizer = optax.chain(optimizer, _scaled(group, rate))
    return optax.chain(optax.clip_by_global_norm(clip), optimizer) if clip > 0.0 else optimizer


def _check_numbers(spec: registry.Spec) -> None:
    if "learning_rate" in spec.kwargs:
        raise SpecError(f"optimizer {spec.name!r}: the learning rate is --config.lr")
    for name, value in spec.kwargs.items():
        allowed = _NUMBERS.get(name)
        if allowed and not argument_types.fits(value, allowed):
            raise SpecError(
                f"optimizer {spec.name!r}: {name}={value} must be {argument_types.words(allowed)}"
            )


def _try(optimizer: optax.GradientTransformation) -> None:
    """Traces a step on two arrays."""
    params = {"network": {"dense": {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}}}
    jax.eval_shape(lambda p: optimizer.update(p, optimizer.init(p), p), params)


def _scaled(group: str, rate: float) -> optax.GradientTransformation:
    """Multiplies the updates of one group of weights by `rate`."""

    def update(updates: Params, state: optax.OptState, params: Params | None = None) -> tuple:
        scaled = jax.tree.map(lambda u: rate * u, updates.get(group, {}))
        return {**updates, **({group: scaled} if group in updates else {})}, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def ema_update(
    ema: Params, params: Params, average: Average, step: jax.Array, warmup: bool
) -> Params:
    """One step of a moving average of the weights.

    Args:
        ema: the average so far.
        params: weights after `step` updates.
        average: a decay, or `"power(s)"`; see `averages`.
        step: number of updates since the average began, at least 1.
        warmup: see `averages.share`.

    Returns:
        The new average.
    """
    share = averages.share(average, step, warmup)
    if not isinstance(average, str):
        return optax.incremental_update(params, ema, share)
    # Late in a run `share` can be as small as the rounding error of `1 - share`.
    return jax.tree.map(lambda p, e: jnp.where(share == 1.0, p, e + share * (p - e)), params, ema)


def advance(
    state: State,
    grads: Params,
    optimizer: optax.GradientTransformation,
    ema: tuple[tuple[str, Average], ...],
    warmup: bool,
    begun: jax.Array | int = 0,
) -> State:
    """The state after one update of weights, averages and optimiser.

    Args:
        state: the state before.
        grads: the gradient.
        ema: the averages, as (name, average) pairs.
        warmup: whether averages warm up.
        begun: the step at which averages began.

    Returns:
        The state after; the proposal's state is unchanged, and so are groups of weights that have
        no gradient.
    """

    def trained(tree: Params) -> Params:
        return {k: tree[k] for k in grads}

    updates, opt_state = optimizer.update(grads, state.opt_state, trained(state.params))
    params = optax.apply_updates(trained(state.params), updates)
    step = state.step + 1
    at = step - begun
    moved = {
        k: {**state.ema[k], **ema_update(trained(state.ema[k]), params, average, at, warmup)}
        for k, average in ema
    }
    params = {**state.params, **params}
    return state.replace(step=step, params=params, ema=moved, opt_state=opt_state)
