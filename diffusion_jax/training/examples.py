"""Networks that start from training examples; see `networks.backbones.base`."""

import jax
import numpy as np

from diffusion_jax.data.base import Split
from diffusion_jax.errors import ConfigError
from diffusion_jax.model import Model
from diffusion_jax.training.state import State, path_of, with_arrays
from diffusion_jax.types import Array


def check(model: Model, train: Split) -> None:
    """Raises ConfigError if the network asks for more examples than there are."""
    count = _wanted(model)
    if count > len(train):
        raise ConfigError(
            f"the network starts from {count} training examples, but {train.name} has "
            f"{len(train)}: lower its count"
        )


def started(model: Model, state: State, train: Split, key: Array) -> State:
    """The state with a network, and averages of it, made from random training examples.

    The state is returned unchanged if training has begun or the network does not ask for examples.
    """
    count = _wanted(model)
    if not count or int(jax.device_get(state.step)):
        return state
    order = np.asarray(jax.random.permutation(key, len(train)))
    rows = jax.device_put(train.take(order[:count]))
    x, cond = model.examples(rows)
    network = model.network.from_examples(x, cond)
    leaves = jax.tree_util.tree_leaves_with_path({"network": network})
    return with_arrays(state, {path_of(keys): np.asarray(a) for keys, a in leaves})


def _wanted(model: Model) -> int:
    return int(getattr(model.network, "examples", 0))
