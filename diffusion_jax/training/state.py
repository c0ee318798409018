"""The training state: everything that passes from one step to the next, all in a checkpoint."""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from diffusion_jax.errors import ConfigError
from diffusion_jax.runtime.sharding import put
from diffusion_jax.training import averages
from diffusion_jax.training.averages import Average
from diffusion_jax.types import Array, Params


@flax.struct.dataclass
class State:
    """Training state.

    Attributes:
        step: updates made so far, int32 scalar.
        params: the weights.
        ema: averaged weights, keyed by the average's name (`"0.9999"`, `"power(0.1)"`).
        opt_state: optimiser state.
        proposal: state of the proposal of training times, or a student's weights at the beginning
            of its round (`before`); empty for most runs.
    """

    step: Array
    params: Params
    ema: dict[str, Params]
    opt_state: optax.OptState
    proposal: Params = flax.struct.field(default_factory=dict)


def ema_key(average: Average) -> str:
    """The name of an average in the state, for example `"0.9999"`."""
    return averages.key(average)


def path_of(keys: tuple) -> str:
    """The name of a leaf with these keys: `network/conv/kernel`."""
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def with_arrays(state: State, found: Mapping[str, np.ndarray]) -> State:
    """The state with these arrays, by path, in its weights and in all of its averages."""

    def replaced(keys: tuple, old: jax.Array) -> jax.Array:
        array = found.get(path_of(keys))
        return old if array is None else put(array.astype(old.dtype), old.sharding)

    def among(tree: Params) -> Params:
        return jax.tree_util.tree_map_with_path(replaced, tree)

    averages = {k: among(a) for k, a in state.ema.items()}
    return state.replace(params=among(state.params), ema=averages)


@jax.jit
def _finite(arrays: list[Array]) -> Array:
    return jnp.array([jnp.isfinite(a).all() for a in arrays]).all()


def finite(tree: Any) -> bool:
    """Whether all floating-point numbers of a tree are finite."""
    arrays = [a for a in jax.tree.leaves(tree) if jnp.issubdtype(a.dtype, jnp.inexact)]
    return not arrays or bool(jax.device_get(_finite(arrays)))


def check_decays(decays: tuple) -> None:
    """Raises `ConfigError` unless all averages are valid and there is at least one."""
    try:
        fit = [averages.key(d) if isinstance(d, str) else 0.0 <= d < 1.0 for d in decays]
    except ConfigError as e:
        raise ConfigError(f"ema={decays}: {e}") from e
    if not decays or not all(fit):
        raise ConfigError(f"ema={decays}: give one or more decays in [0, 1), for example 0.9999,")


def init(
    params: Params,
    optimizer: optax.GradientTransformation,
    decays: tuple,
    proposal: Params | None = None,
    frozen: tuple[str, ...] = (),
) -> State:
    """The state before the first step; every average starts at the initial weights.

    The groups of weights in `frozen` have no optimiser state.
    """
    check_decays(decays)
    return State(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema={ema_key(d): jax.tree.map(jnp.copy, params) for d in decays},
        opt_state=optimizer.init(
            {k: v for k, v in params.items() if k not in frozen} if frozen else params
        ),
        proposal=proposal or {},
    )
