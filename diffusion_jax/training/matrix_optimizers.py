"""Optimisers for matrices, `muon(...)` and `soap(...)`, also for convolutions and stacked blocks.

A kernel `[..., in, out]` is a matrix whose rows are all axes but the last: `[KH KW C, D]` for a
convolution. In a stack of equal blocks, whose kernels have one more axis, each block has its own
matrix. Biases, norms, embeddings, the first and the last layer, and the schedule use AdamW.

The first and last layers are recognised by their names in a module that contains blocks, at any
depth. Blocks may have layers with these names too, but contain only layers.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from diffusion_jax.types import Array, Params

# Names of the layers at a network's input or output.
_ENDS = ("conv_in", "conv_out", "in", "out", "filter_in", "filter_out", "mean", "log_std", "head",
         "image_out")  # fmt: skip
_ERRORS = 100  # multiples of the relative rounding error below which a direction has no gradient
Mask = Callable[[Params], Params]


def _modules(node: Any) -> list[Mapping]:
    """The submodules of a module."""
    return [m for m in node.values() if isinstance(m, Mapping)]


def _has_layers(node: Mapping) -> bool:
    return any("kernel" in m for m in _modules(node))


def _has_blocks(node: Mapping) -> bool:
    return any("kernel" not in m and (_has_layers(m) or _has_blocks(m)) for m in _modules(node))


def _first_or_last(params: Params, keys: list[str]) -> bool:
    """Whether the kernel at `keys` belongs to the first or last layer of a network."""
    above, name = keys[:-2], keys[-2:-1]
    if not name or name[0] not in _ENDS:
        return False
    holder: Any = params
    for key in above:
        holder = holder[key] if isinstance(holder, Mapping) else {}
    depth = 0 if _has_layers(params) else 1  # the tree is a network, or groups of networks
    return len(above) == depth or _has_blocks(holder)


def is_matrix(params: Params, path: tuple, p: Array) -> bool:
    """Whether the parameter at `path` is a kernel inside a network."""
    keys = [str(getattr(k, "key", k)) for k in path]
    inside = keys[0] != "schedule" and keys[-1] == "kernel" and p.ndim > 1
    return inside and not _first_or_last(params, keys)


def labels(params: Params) -> Params:
    """`"matrix"` for parameters that the matrix rule updates, `"rest"` for those of AdamW."""
    return jax.tree_util.tree_map_with_path(
        lambda path, p: "matrix" if is_matrix(params, path, p) else "rest", params
    )


def stacked(p: Array) -> bool:
    """Whether a kernel is stacked; `[in, out]` and `[KH, KW, in, out]`, of even rank, are not."""
    return p.ndim % 2 == 1


def _dimensions(params: Params) -> Params:
    def one(path: tuple, p: Array) -> contrib.MuonDimensionNumbers | None:
        if not is_matrix(params, path, p):
            return None
        return contrib.MuonDimensionNumbers(tuple(range(stacked(p), p.ndim - 1)), p.ndim - 1)

    return jax.tree_util.tree_map_with_path(one, params)


def muon(
    learning_rate: optax.Schedule,
    beta: float = 0.95,
    weight_decay: float = 0.0,
    b1: float = 0.9,
    b2: float = 0.99,
    ns_steps: int = 5,
    mask: Mask | None = None,
) -> optax.GradientTransformation:
    """Muon (Jordan et al. 2024): orthogonalised momentum, as implemented in optax.

    Updates are scaled to the size of AdamW's (Liu et al. 2025), so that AdamW's learning rates can
    be used.

    Args:
        beta: decay of the momentum.
        weight_decay: weight decay of the matrices.
        b1: AdamW's `b1`, for the other parameters.
        b2: AdamW's `b2`, for the other parameters.
        ns_steps: number of Newton-Schulz iterations.
        mask: selects the matrices that decay; other parameters never do.
    """
    return contrib.muon(
        learning_rate, beta=beta, ns_steps=ns_steps, weight_decay=weight_decay,
        weight_decay_mask=mask, adam_b1=b1, adam_b2=b2,
        muon_weight_dimension_numbers=_dimensions, consistent_rms=0.2,
    )  # fmt: skip


class _Side(NamedTuple):
    """The average outer product of a matrix's rows or columns, and its eigenvectors."""

    outer: Array
    basis: Array


class SoapState(NamedTuple):
    """State of `scale_by_soap`; trees like the parameters."""

    count: Array
    mean: Params
    square: Params
    sides: Any


def _as_matrix(p: Array) -> Array:
    n = p.shape[0] if stacked(p) else 1
    return p.reshape(n, -1, p.shape[-1])


def _sides(p: Array, largest: int) -> tuple[_Side | None, _Side | None]:
    n, *sizes = _as_matrix(p).shape

    def side(size: int) -> _Side | None:
        if size > largest:
            return None
        eye = jnp.broadcast_to(jnp.eye(size, dtype=p.dtype), (n, size, size))
        return _Side(jnp.zeros((n, size, size), p.dtype), eye)

    return side(sizes[0]), side(sizes[1])


def _turn(g: Array, sides: tuple[_Side | None, _Side | None], back: bool = False) -> Array:
    """Transforms `[n, rows, columns]` to the eigenbases of its sides, or back."""
    rows, columns = sides
    if rows is not None:
        g = jnp.einsum("nij,njk->nik" if back else "nji,njk->nik", rows.basis, g)
    if columns is not None:
        g = jnp.einsum("nij,nkj->nik" if back else "nij,njk->nik", g, columns.basis)
    return g


def scale_by_soap(
    b1: float = 0.95, b2: float = 0.95, every: int = 10, largest: int = 2048, eps: float = 1e-8
) -> optax.GradientTransformation:
    """SOAP (Vyas et al. 2024): Adam in the eigenbasis of Shampoo's preconditioner.

    Args:
        b1: decay of the gradients' mean.
        b2: decay of their squares' mean, and of the outer products.
        every: steps between updates of the eigenvectors.
        largest: sides longer than this are not transformed.
        eps: added to the root of the squares.
    """

    def init(params: Params) -> SoapState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        squares = jax.tree.map(lambda p: jnp.zeros_like(_as_matrix(p)), params)
        sides = jax.tree.map(lambda p: _sides(p, largest), params)
        return SoapState(jnp.zeros((), jnp.int32), zeros, squares, sides)

    def one(g: Array, m: Array, v: Array, sides: Any, count: Array) -> tuple:
        matrix = _as_matrix(g)
        outers = ("nik,njk->nij", "nki,nkj->nij")
        products = [jnp.einsum(o, matrix, matrix) for o in outers]
        sides = tuple(
            None if s is None else s._replace(outer=b2 * s.outer + (1 - b2) * p)
            for s, p in zip(sides, products, strict=True)
        )

        def fresh(s: _Side) -> Array:
            return jnp.linalg.eigh(s.outer)[1][..., ::-1]

        def refined(s: _Side) -> Array:
            return jnp.linalg.qr(s.outer @ s.basis)[0]

        def unchanged(s: _Side) -> Array:
            return s.basis

        which = jnp.where(count == 0, 0, jnp.where(count % every == 0, 1, 2))
        sides = tuple(
            None if s is None
            else s._replace(basis=jax.lax.switch(which, (fresh, refined, unchanged), s))
            for s in sides
        )  # fmt: skip
        # In its own eigenbasis a gradient has zeros, whose rounding noise Adam would amplify to
        # unit size, so the first gradient only initialises the eigenvectors.
        first, n = count == 0, jnp.maximum(count, 1)
        m = jnp.where(first, m, b1 * m + (1 - b1) * g)
        v = jnp.where(first, v, b2 * v + (1 - b2) * jnp.square(_turn(matrix, sides)))
        mean = _turn(_as_matrix(m), sides) / (1 - b1**n)
        root = jnp.sqrt(v / (1 - b2**n))
        # Directions without a gradient, which are most of them while it has low rank, contain only
        # rounding errors, and the ratio of two of those may be anything.
        noise = _ERRORS * jnp.finfo(g.dtype).eps * root.max((1, 2), keepdims=True)
        step = mean / (root + noise + eps)
        return _turn(step, sides, back=True).reshape(g.shape), m, v, sides

    def update(
        grads: Params, state: SoapState, params: Params | None = None
    ) -> tuple[Params, SoapState]:
        leaves, tree = jax.tree.flatten(grads)
        trees = (state.mean, state.square, state.sides)
        results = [
            one(g, m, v, s, state.count)
            for g, m, v, s in zip(leaves, *map(tree.flatten_up_to, trees), strict=True)
        ]
        steps, *rest = (tree.unflatten(part) for part in zip(*results, strict=True))
        return steps, SoapState(state.count + 1, *rest)

    return optax.GradientTransformation(init, update)


def soap(
    learning_rate: optax.Schedule,
    b1: float = 0.95,
    b2: float = 0.95,
    weight_decay: float = 0.0,
    every: int = 10,
    largest: int = 2048,
    mask: Mask | None = None,
) -> optax.GradientTransformation:
    """SOAP for the matrices and AdamW for the rest; for the other arguments see `scale_by_soap`.

    Args:
        weight_decay: weight decay of the parameters in `mask`.
        mask: selects the parameters that decay.
    """
    matrices = optax.chain(
        scale_by_soap(b1, b2, every, largest),
        optax.add_decayed_weights(weight_decay, mask),
        optax.scale_by_learning_rate(learning_rate),
    )
    rest = optax.adamw(learning_rate, b1, b2, weight_decay=weight_decay, mask=mask)
    return optax.partition({"matrix": matrices, "rest": rest}, labels)


OURS: dict[str, Callable[..., optax.GradientTransformation]] = {"muon": muon, "soap": soap}
