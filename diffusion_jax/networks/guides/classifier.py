"""A classifier of noisy images: `log p(class | z, gamma)` (Dhariwal & Nichol 2021, section 4.1)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_jax.allowed import Count, Counts, Finite, Rate, Whole
from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.guides.base import Head, apply, start, tower
from diffusion_jax.types import Array, Cond, Params


@dataclass(frozen=True)
class Classifier:
    """A classifier trained by cross-entropy at every gamma.

    Attributes:
        network: network with logits and features as outputs.
        metrics: names of the metrics besides the loss.
    """

    network: Head
    metrics: tuple[str, ...] = ("accuracy",)

    def init(self, key: Array, shape: tuple[int, ...]) -> Params:
        """Initial weights."""
        return start(self.network, key, shape)

    def logits(self, params: Params, z: Array, gamma: Array, keys: Array | None = None) -> Array:
        """Unnormalised log-probabilities of the classes, `[B, K]`."""
        return apply(self.network, params, z, gamma, {}, keys)[0]

    def features(self, params: Params, z: Array, gamma: Array) -> Array:
        """The last hidden layer, `[B, F]`."""
        return apply(self.network, params, z, gamma, {})[1]

    def loss(
        self, params: Params, z: Array, gamma: Array, annotations: Cond, keys: Array | None
    ) -> dict[str, Array]:
        """Cross-entropy in nats, and whether the most probable class is correct."""
        label = annotations["label"]
        logits = self.logits(params, z, gamma, keys)
        log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), label[:, None], axis=1)[:, 0]
        return {"loss": -log_p, "accuracy": (logits.argmax(1) == label).astype(log_p.dtype)}

    def log_prob(self, params: Params, z: Array, gamma: Array, cond: Cond) -> Array:
        """`log p(cond["label"] | z, gamma)`; 0 for the null class."""
        log_p = jax.nn.log_softmax(self.logits(params, z, gamma))
        log_p = jnp.pad(log_p, ((0, 0), (0, 1)))
        return jnp.take_along_axis(log_p, cond["label"][:, None], axis=1)[:, 0]


def make(
    width: Count = 64,
    mults: Counts = (1, 2),
    blocks: Count = 2,
    dropout: Rate = 0.1,
    num_classes: Whole = 0,
    gamma_min: Finite = -13.3,
    gamma_max: Finite = 5.0,
    dtype: str = "float32",
    groups: Count = 8,
) -> Classifier:
    """A noise-conditional classifier.

    Args:
        width: channels at full resolution.
        mults: channel multiplier of each resolution.
        blocks: residual blocks per resolution.
        dropout: rate in the blocks.
        num_classes: number of classes of the data.
        gamma_min: gamma at which the time embedding is 0.
        gamma_max: gamma at which it is 1.
        dtype: `"float32"` or `"bfloat16"` arithmetic.
        groups: largest number of groups in the norm before the mean over positions; see `Tower`.

    Returns:
        The guide.

    Raises:
        ConfigError: the data have no classes.
    """
    if not num_classes:
        raise ConfigError("classifier: the data have no classes; choose labelled data")
    body = tower(width, mults, blocks, dropout, 0, gamma_min, gamma_max, dtype, groups=groups)
    return Classifier(Head(body, num_classes))
