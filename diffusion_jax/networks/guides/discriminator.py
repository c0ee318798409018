"""Data or sample? `log D - log(1 - D)` of noisy images (Kim et al. 2023, "Discriminator guidance").

Trained on equal parts of data and of a model's samples, both with noise added. The optimal
discriminator's logit is `log p_data(z) - log p_model(z)` at every gamma. For a conditional model it
receives the class, and the ratio is that of the conditional distributions.
"""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.allowed import Count, Counts, Finite, Rate, Whole
from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.guides.base import Head, apply, log_sigmoid_loss, start, tower
from diffusion_jax.types import Array, Cond, Params


@dataclass(frozen=True)
class Discriminator:
    """A discriminator; labels are `class` for data and `class + classes` for samples.

    Attributes:
        network: network with the logit as output.
        classes: number of classes of the data; 1 for unlabelled data.
        metrics: names of the metrics besides the loss.
    """

    network: Head
    classes: int
    metrics: tuple[str, ...] = ("accuracy",)

    def init(self, key: Array, shape: tuple[int, ...]) -> Params:
        """Initial weights."""
        return start(self.network, key, shape)

    def logit(
        self, params: Params, z: Array, gamma: Array, cond: Cond, keys: Array | None = None
    ) -> Array:
        """`log D - log(1 - D)`, `[B]`."""
        cond = {"label": cond["label"]} if self.classes > 1 and "label" in cond else {}
        return apply(self.network, params, z, gamma, cond, keys)[0][:, 0]

    def loss(
        self, params: Params, z: Array, gamma: Array, annotations: Cond, keys: Array | None
    ) -> dict[str, Array]:
        """Logistic loss in nats, and whether the answer is correct."""
        label = annotations["label"]
        real = label < self.classes
        logit = self.logit(params, z, gamma, {"label": label % self.classes}, keys)
        right = (logit > 0.0) == real
        return {"loss": log_sigmoid_loss(logit, real), "accuracy": right.astype(logit.dtype)}

    def log_prob(self, params: Params, z: Array, gamma: Array, cond: Cond) -> Array:
        """The logit: the log-ratio of the densities of data and model.

        A network trained with classes returns 0 for the null class, and without a class.
        """
        logit = self.logit(params, z, gamma, cond)
        if self.classes == 1:
            return logit
        if "label" not in cond:
            return jnp.zeros_like(logit)
        return jnp.where(cond["label"] < self.classes, logit, 0.0)


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
) -> Discriminator:
    """A noise-conditional discriminator.

    Args:
        width: channels at full resolution.
        mults: channel multiplier of each resolution.
        blocks: residual blocks per resolution.
        dropout: rate in the blocks.
        num_classes: twice the number of classes of the data; 2 (data and samples) without classes.
        gamma_min: gamma at which the time embedding is 0.
        gamma_max: gamma at which it is 1.
        dtype: `"float32"` or `"bfloat16"` arithmetic.
        groups: largest number of groups in the norm before the mean over positions; see `Tower`.

    Returns:
        The guide.

    Raises:
        ConfigError: there are no samples to compare with the data.
    """
    if num_classes < 2 or num_classes % 2:
        raise ConfigError("discriminator: set `against` to a run whose samples it should recognise")
    classes = num_classes // 2
    labels = classes if classes > 1 else 0
    body = tower(width, mults, blocks, dropout, labels, gamma_min, gamma_max, dtype, groups=groups)
    return Discriminator(Head(body, 1), classes)
