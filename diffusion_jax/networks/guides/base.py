"""The contract of a guide: a trained `log_prob(z, gamma, cond)` for guidance to increase.

It is trained on `z = alpha x + sigma eps` at every gamma, because guidance uses it at every gamma.
"""

from typing import Any, Protocol, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffusion_jax.networks.layers.blocks import compute_dtype
from diffusion_jax.networks.layers.tower import Tower
from diffusion_jax.types import Array, Cond, Params


@runtime_checkable
class Guide(Protocol):
    """A trainable function of noisy images."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that `loss` reports besides the loss itself."""
        ...

    def init(self, key: Array, shape: tuple[int, ...]) -> Params:
        """Initial weights, `{"network": ...}`, for images of `shape`."""
        ...

    def loss(
        self, params: Params, z: Array, gamma: Array, annotations: Cond, keys: Array | None
    ) -> dict[str, Array]:
        """`"loss"` in nats and every metric, each `[B]`.

        Args:
            params: the weights.
            z: noisy images.
            gamma: their noise levels, `[B]`.
            annotations: `"label"` `[B]` of the images and, if a text encoder reads captions, the
                output of `data.captions.conditions`.
            keys: dropout keys, `[B]`, or None.
        """
        ...

    def log_prob(self, params: Params, z: Array, gamma: Array, cond: Cond) -> Array:
        """The function whose gradient in z is added to a score, `[B]`, nats."""
        ...


class Head(nn.Module):
    """A tower and a linear layer that is zero at initialisation.

    Attributes:
        tower: the tower.
        size: number of outputs.
    """

    tower: Tower
    size: int

    @nn.compact
    def __call__(
        self, z: Array, gamma: Array, cond: Cond, keys: Array | None = None
    ) -> tuple[Array, Array]:
        """`(outputs [B, size], features [B, F])`."""
        features = self.tower(z, gamma, cond, keys)
        zeros = nn.initializers.zeros
        return nn.Dense(self.size, kernel_init=zeros, name="head")(features), features


def tower(
    width: int,
    mults: tuple[int, ...],
    blocks: int,
    dropout: float,
    num_classes: int,
    gamma_min: float,
    gamma_max: float,
    dtype: str,
    places: int = 1,
    groups: int = 8,
) -> Tower:
    """A tower from plug-in arguments; see `Tower`."""
    return Tower(
        width, tuple(mults), blocks, dropout, num_classes, gamma_min, gamma_max,
        compute_dtype(dtype), places, groups, name="tower",
    )  # fmt: skip


def start(network: nn.Module, key: Array, shape: tuple[int, ...]) -> Params:
    """Initial weights of a network that takes `(z, gamma, cond)`."""
    return {"network": network.init(key, jnp.zeros((2, *shape)), jnp.zeros(2), {})["params"]}


def apply(
    network: nn.Module, params: Params, z: Array, gamma: Array, cond: Cond, keys: Any = None
) -> Any:
    """The network's output for gamma scalar, `[B]`, or per pixel (of which it gets the mean)."""
    return network.apply({"params": params["network"]}, z, each(gamma, z), cond, keys)


def each(gamma: Array, z: Array) -> Array:
    """Gamma as `[B]`, for images `z`, from a scalar, `[B]`, or one per pixel (their mean)."""
    gamma = jnp.asarray(gamma)
    if gamma.ndim > 1:
        gamma = gamma.mean(axis=tuple(range(1, gamma.ndim)))
    return jnp.broadcast_to(gamma, z.shape[:1])


def unit(v: Array) -> Array:
    """Rows of length one."""
    return v / jnp.sqrt(jnp.square(v).sum(-1, keepdims=True) + 1e-12)


def log_sigmoid_loss(logits: Array, truth: Array) -> Array:
    """`-log p(truth)` of independent yes-or-no questions, nats, shape of `logits`."""
    return -jnp.where(truth, jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits))
