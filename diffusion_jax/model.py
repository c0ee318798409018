"""A model is a network, a schedule and a decoder; its parameters are one pytree."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_jax import rng
from diffusion_jax.decoders.base import Decoder
from diffusion_jax.models.base import Network
from diffusion_jax.parameterization import to_pred
from diffusion_jax.schedules.base import Schedule
from diffusion_jax.types import Array, Cond, Denoiser, Params, Pred


@dataclass(frozen=True)
class Model:
    """Everything a bound or a sampler needs, without the weights.

    Attributes:
        network: predicts from `(z, gamma, cond)`.
        schedule: gives gamma.
        decoder: maps data to model space and scores them given `z_0`.
        prediction: what the network predicts, `"eps"`, `"v"` or `"x"`.
        num_classes: classes it can be conditioned on; 0 for an unconditional model.
    """

    network: Network
    schedule: Schedule
    decoder: Decoder
    prediction: str
    num_classes: int = 0

    def init(self, key: Array, shape: tuple[int, ...]) -> Params:
        """Initial parameters `{"network", "schedule"}` for data of `shape` (without batch)."""
        z, gamma = jnp.zeros((2, *shape)), jnp.zeros(2)
        return {
            "network": self.network.init(rng.stream(key, "network"), z, gamma, {})["params"],
            "schedule": self.schedule.init(rng.stream(key, "schedule")),
        }

    def denoiser(self, params: Params, dropout: Array | None = None) -> Denoiser:
        """The denoiser with these parameters.

        Args:
            params: as from `init`.
            dropout: one key per example for training, or None.

        Returns:
            `(z, gamma, cond) -> Pred`; `gamma` may be a scalar, `[B]`, or one value per pixel (the
            network then sees the mean of each example).
        """

        def denoise(z: Array, gamma: Array, cond: Cond) -> Pred:
            gamma = jnp.asarray(gamma)
            g = gamma.mean(axis=tuple(range(1, z.ndim))) if gamma.ndim > 1 else gamma
            g = jnp.broadcast_to(g, z.shape[:1])
            out = self.network.apply({"params": params["network"]}, z, g, cond, dropout)
            return to_pred(self.prediction, out, z, gamma)

        return denoise

    def null(self, cond: Cond) -> Cond:
        """The same condition without its label: the learned null class."""
        return {**cond, "label": jnp.full_like(cond["label"], self.num_classes)}


def count(params: Params) -> int:
    """Number of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
