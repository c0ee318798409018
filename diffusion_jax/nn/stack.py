"""A stack of equal blocks: unrolled or scanned, with or without rematerialisation.

Parameters are always stored block by block, so a checkpoint does not know how it was run; the
scan stacks them on the fly, which costs one copy of the weights and saves most of the compile time.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffusion_jax.nn.blocks import fold_keys
from diffusion_jax.types import Array, Params


def block_params(owner: nn.Module, name: str, block: nn.Module, *inputs: Array) -> Params:
    """The parameters of the detached module `block`, held by `owner` under `name`."""
    return owner.param(name, lambda key: block.init(key, *inputs)["params"])


def run(
    block: Callable[[Params, Array, Array | None], Array],
    params: Sequence[Params],
    h: Array,
    keys: Array | None = None,
    skips: Array | Sequence[Array] | None = None,
    scan: bool = False,
    remat: bool = False,
) -> tuple[Array, Array | list[Array]]:
    """Runs `h -> block(params[i], h, keys_i)` for every i, in order.

    Args:
        block: applies one block.
        params: parameters of each block.
        h: input activations.
        keys: dropout keys `[B]`, or None.
        skips: per block, activations concatenated to its input (channels last), or None.
        scan: one `lax.scan` instead of an unrolled loop; not for XLA:CPU training, where gradients
            of convolutions inside a loop are some twenty times slower.
        remat: recompute activations in the backward pass.

    Returns:
        The last output, and the outputs of all blocks: stacked if `scan`, else a list.
    """

    def body(h: Array, xs: tuple) -> tuple[Array, Array]:
        p, i, skip = xs
        h = h if skip is None else jnp.concatenate([h, skip], axis=-1)
        h = block(p, h, fold_keys(keys, i))
        return h, h

    body = jax.checkpoint(body) if remat else body
    n = len(params)
    if scan:
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
        skips = jnp.stack(skips) if isinstance(skips, list) else skips
        return jax.lax.scan(body, h, (stacked, jnp.arange(n), skips))
    outputs = []
    for i, p in enumerate(params):
        h, _ = body(h, (p, i, None if skips is None else skips[i]))
        outputs.append(h)
    return h, outputs
