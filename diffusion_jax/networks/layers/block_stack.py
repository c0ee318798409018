"""A stack of identical blocks: unrolled or scanned, with or without rematerialisation.

The parameters are one array per layer, with a leading axis of blocks. Therefore checkpoints do not
depend on how the stack is run, a scan copies nothing, and everything that loops over weights
(optimiser, averages, the check for NaN) handles a few large arrays.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffusion_jax.errors import SpecError
from diffusion_jax.networks.layers.blocks import fold_keys
from diffusion_jax.networks.layers.fusion_barrier import computed_once
from diffusion_jax.types import Array, Params

_FEW = 4  # up to this many blocks, compiling each is cheaper than copying their weights


def decide(name: str, value: bool | str, automatic: bool) -> bool:
    """Resolves a setting that may be `"auto"`.

    Args:
        name: names of the network and the setting, for the message.
        value: the user's value.
        automatic: the value of `"auto"`.

    Raises:
        SpecError: `value` is not True, False or `"auto"`.
    """
    if value not in (True, False, "auto"):
        raise SpecError(f"{name}={value!r}; allowed: True, False, 'auto'")
    return automatic if value == "auto" else bool(value)


def block_params(owner: nn.Module, name: str, block: nn.Module, n: int, *inputs: Any) -> Params:
    """Parameters of `n` detached modules like `block`, stacked; `owner` holds them as `name`."""
    if not owner.is_initializing():  # `param` would trace every init again to compare shapes
        return owner.get_variable("params", name)
    keys = [owner.make_rng("params") for _ in range(n - 1)]

    def init(key: Array) -> Params:
        return jax.vmap(lambda k: block.init(k, *inputs)["params"])(jnp.stack([*keys, key]))

    return owner.param(name, init)


def params_of(owner: nn.Module, name: str, block: nn.Module, *inputs: Array) -> Params:
    """Parameters of one detached module; `owner` holds them as `name`."""
    if not owner.is_initializing():
        return owner.get_variable("params", name)
    return owner.param(name, lambda key: block.init(key, *inputs)["params"])


def unstacked(params: Params) -> list[Params]:
    """The parameters of each block; their gradients are collected by a single concatenation."""
    leaves, tree = jax.tree.flatten(params)
    # Split rather than index: the gradient of an index is a full array of zeros per block.
    parts = [jax.lax.split(a, (1,) * len(a)) for a in leaves]
    return [tree.unflatten(part[0] for part in block) for block in zip(*parts, strict=True)]


def run(
    block: Callable[[Params, Array, Array | None], Array],
    params: Params,
    h: Array,
    keys: Array | None = None,
    skips: Array | Sequence[Array] | None = None,
    scan: bool = False,
    remat: bool = False,
) -> tuple[Array, Array | list[Array]]:
    """Runs `h -> block(params[i], h, keys_i)` for every i, in order.

    Args:
        block: `(params, h, keys) -> h`, applies one block.
        params: parameters of the blocks, each array with a leading axis of blocks.
        h: input activations.
        keys: dropout keys `[B]`, or None.
        skips: per block, activations concatenated to its input (channels last), or None.
        scan: one `lax.scan` instead of an unrolled loop.
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
    if scan:
        n = len(jax.tree.leaves(params)[0])
        skips = jnp.stack(skips) if isinstance(skips, list) else skips
        return jax.lax.scan(body, h, (params, jnp.arange(n), skips))
    body = jax.jit(body, inline=True)  # traced once, not once per block
    outputs, blocks = [], unstacked(params)
    if len(blocks) > _FEW:
        # Otherwise each block reads its weights at other offsets and is compiled separately.
        blocks = computed_once(blocks)
    for i, p in enumerate(blocks):
        h, _ = body(h, (p, i, None if skips is None else skips[i]))
        outputs.append(h)
    return h, outputs
