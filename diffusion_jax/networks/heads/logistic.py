"""A mixture of discretised logistics (Salimans et al. 2017, "PixelCNN++"), without its clamps.

With a < b the edges of a level's bin in units of the scale, the log of `sigmoid(b) - sigmoid(a)` is

    log P = log sigmoid(b) + log sigmoid(-a) + log(1 - exp(-(b - a))),

one-sided for the first and the last level: all terms are finite, and the levels sum to one.

In colour, all channels of a pixel share the component; its mean is linear in red for green, and in
red and green for blue. Given the channels before it, a channel is still a mixture, whose weights
are the posterior of the component given those channels.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_jax.allowed import Count, Levels, Whole
from diffusion_jax.networks.heads.base import centres
from diffusion_jax.types import Array

_LEAST, _MOST = -7.0, 20.0  # range of the log-scale: a bin is wider than 1e-11 scales


@dataclass(frozen=True)
class Logistic:
    """`mixtures` components per pixel."""

    mixtures: int
    levels: int
    channels: int

    @property
    def sequential(self) -> bool:
        """Whether there is more than one channel."""
        return self.channels > 1

    def outputs(self, channels: int) -> int:
        """Weight, means, scales, and slopes of the means in the channels before."""
        return self.mixtures * (1 + 2 * channels + channels * (channels - 1) // 2)

    def log_prob(self, out: Array, image: Array) -> Array:
        """Log-probability of each value, nats."""
        log_weight, mean, log_scale = self._parts(out, image)
        log_p = self._bins(mean, log_scale, image[..., None])  # [B, H, W, C, K]
        joint = log_weight[..., None, :] + jnp.cumsum(log_p, axis=-2)
        total = jax.nn.logsumexp(joint, axis=-1)
        before = jnp.concatenate([jnp.zeros_like(total[..., :1]), total[..., :-1]], axis=-1)
        return total - before

    def log_probs(self, out: Array, image: Array) -> Array:
        """Log-probabilities of every level, nats, given the channels of `image` before it."""
        log_weight, mean, log_scale = self._parts(out, image)
        of_image = self._bins(mean, log_scale, image[..., None])
        # Sum over the channels before only, bit for bit: a codec does not know the others yet.
        weights = [log_weight]
        for c in range(image.shape[-1] - 1):
            weights.append(weights[-1] + of_image[..., c, :])
        posterior = jax.nn.log_softmax(jnp.stack(weights, axis=-2), axis=-1)
        grid = jnp.arange(self.levels)[:, None]
        of_levels = self._bins(mean[..., None, :], log_scale[..., None, :], grid)
        return jax.nn.logsumexp(posterior[..., None, :] + of_levels, axis=-1)

    def _parts(self, out: Array, image: Array) -> tuple[Array, Array, Array]:
        """Log-weights `[B, H, W, K]`; means and log-scales `[B, H, W, C, K]`."""
        c, k = image.shape[-1], self.mixtures
        out = out.reshape(*out.shape[:-1], k, -1)
        log_weight = jax.nn.log_softmax(out[..., 0], axis=-1)
        mean, raw = out[..., 1 : 1 + c], out[..., 1 + c : 1 + 2 * c]
        log_scale = jnp.minimum(_LEAST + jax.nn.softplus(raw - _LEAST), _MOST)
        x, slopes = centres(image, self.levels, out.dtype), jnp.tanh(out[..., 1 + 2 * c :])
        means, at = [mean[..., 0]], 0
        for i in range(1, c):
            shift = slopes[..., at : at + i] * x[..., None, :i]
            means.append(mean[..., i] + shift.sum(-1))
            at += i
        return log_weight, jnp.stack(means, axis=-2), jnp.moveaxis(log_scale, -1, -2)

    def _bins(self, mean: Array, log_scale: Array, image: Array) -> Array:
        """Log-probability of levels `image` under single components; shapes broadcast."""
        inverse, width = jnp.exp(-log_scale), 2.0 / self.levels
        lower = image.astype(mean.dtype) * width - 1.0
        a, b = (lower - mean) * inverse, (lower + width - mean) * inverse
        below = jnp.where(image == self.levels - 1, 0.0, jax.nn.log_sigmoid(b))
        above = jnp.where(image == 0, 0.0, jax.nn.log_sigmoid(-a))
        inner = (image > 0) & (image < self.levels - 1)
        gap = jnp.log(-jnp.expm1(-width * inverse))
        return below + above + jnp.where(inner, gap, 0.0)


def make(mixtures: Whole = 0, levels: Levels = 256, channels: Count = 3) -> Logistic:
    """A mixture of discretised logistics.

    Args:
        mixtures: number of components; 0 for 3 in grey images and 10 in colour.
        levels: number of grey levels of the data, 2 to 256.
        channels: channels of the images.
    """
    return Logistic(mixtures or (3 if channels == 1 else 10), levels, channels)
