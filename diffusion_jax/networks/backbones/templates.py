"""A mixture of templates, each at every shift of a torus: it starts from training examples.

The network is the exact denoiser of a simple model: an example is one of `count` templates, shifted
by any number of pixels around the torus, with independent values. Every template and shift is
scored by its correlation with z at z's noise level, and one softmax over *all* of them gives their
weights: the decision is global, which layers of local filters learn slowly. The denoiser of a
finite training set has this form, with its images as templates; so have modern Hopfield networks
(Ramsauer et al. 2021) and attention to stored patterns.

It suits data that are shifted copies of few patterns, such as `toys`. On other data it remembers
examples and does not generalise beyond their shifts.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffusion_jax.allowed import Count, Embedding, Finite, Levels, Whole
from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.layers.embed import Conditioning, image_inputs
from diffusion_jax.networks.layers.patches import need_images
from diffusion_jax.types import Array, Cond, Params, alpha, expand, sigma

_SCALE = 10.0  # logits per unit of a parameter, because Adam's steps are small
_CERTAIN = 1.0  # of a level that an example has, in these units
_EXACT = -0.7  # the variance of a template that is an example: exp(-7)
_FLOOR = 1e-6  # of probabilities; transforms in float32 are not more exact


def correlations(images: Array, templates: Array) -> Array:
    """Inner products of images with templates at every shift on the torus.

    Args:
        images: `[B,H,W,C]`.
        templates: `[K,H,W,C]`.

    Returns:
        `[B,K,H,W]`; entry `(i, j)` belongs to the template that is shifted by `(i, j)`.
    """
    size = images.shape[1:3]
    waves = jnp.fft.rfft2(images, axes=(1, 2)), jnp.fft.rfft2(templates, axes=(1, 2)).conj()
    return jnp.fft.irfft2(jnp.einsum("bhwc,khwc->bkhw", *waves), size)


def placed(weights: Array, templates: Array) -> Array:
    """The weighted sum of all templates at all shifts: the transpose of `correlations`.

    Args:
        weights: `[B,K,H,W]`.
        templates: `[K,H,W,C]`.

    Returns:
        `[B,H,W,C]`.
    """
    waves = jnp.fft.rfft2(weights), jnp.fft.rfft2(templates, axes=(1, 2))
    return jnp.fft.irfft2(jnp.einsum("bkhw,khwc->bhwc", *waves), weights.shape[2:], axes=(1, 2))


class Templates(nn.Module):
    """See the module docstring; `make` documents the settings."""

    count: int
    embed: int
    channels: int
    levels: int
    num_classes: int
    augment: int
    low: int
    gamma_min: float
    gamma_max: float

    @property
    def examples(self) -> int:
        """Number of training examples that it starts from; see `base`."""
        return self.count

    def from_examples(self, x: Array, cond: Cond) -> Params:
        """The parameters with examples `x` `[count,H,W,C]` as templates; see `base`."""
        both = image_inputs(x, cond, self.levels, False, self.low)
        level = jnp.round(((both + 1.0) * self.levels - 1.0) / 2.0).astype(jnp.int32)
        certain = {"templates": _CERTAIN * jax.nn.one_hot(level, self.levels)}
        exact = jnp.full((), _EXACT)
        return certain | {"variance": exact} | ({"low_variance": exact} if self.low else {})

    @nn.compact
    def __call__(self, z: Array, gamma: Array, cond: Cond, keys: Array | None = None) -> Array:
        """Logits of the levels at latents `z` `[B,H,W,C]`, `gamma` `[B]`: `[B,H,W,C levels]`."""
        need_images("templates", z.shape)
        shape = z.shape[1:]
        if self.channels != shape[-1] * self.levels:
            raise ConfigError(
                "templates gives the probability of each value's levels and nothing else: set "
                "prediction='levels'"
            )
        inputs = image_inputs(z, cond, self.levels, False, self.low)
        near, zeros = nn.initializers.normal(0.2 / _SCALE), nn.initializers.zeros
        table = self.param("templates", near, (self.count, *inputs.shape[1:], self.levels))
        probs = jax.nn.softmax(_SCALE * table)
        centres = (2.0 * jnp.arange(self.levels) + 1.0) / self.levels - 1.0
        means, seen = jnp.split(probs @ centres, [shape[-1]], axis=-1)
        probs = probs[..., : shape[-1], :]
        scores = self._scores("variance", z, gamma, means)
        if self.low:
            noise = cond.get("low_gamma", jnp.full(gamma.shape, self.gamma_min, gamma.dtype))
            scores += self._scores("low_variance", inputs[..., shape[-1] :], noise, seen)
        c = Conditioning(
            self.embed, self.num_classes, self.augment, False, self.gamma_min, self.gamma_max,
            None, self.low > 0, name="cond",
        )(gamma, cond)  # fmt: skip
        shares = _SCALE * self.param("shares", zeros, (self.count,))
        scores += (shares + nn.Dense(self.count, kernel_init=zeros, name="out")(c))[..., None, None]
        posterior = jax.nn.softmax(scores.reshape(len(z), -1)).reshape(scores.shape)
        likely = probs[..., 1:].reshape(*means.shape[:-1], -1)  # the first level has the rest
        sums = placed(posterior, jnp.concatenate([jnp.square(means), likely], axis=-1))
        squares, likely = jnp.split(sums, [shape[-1]], axis=-1)
        likely = likely.reshape(*z.shape, -1)
        mixed = jnp.concatenate([1.0 - likely.sum(-1, keepdims=True), likely], axis=-1)
        mixed = jnp.clip(mixed, _FLOOR, 1.0)
        between = squares - jnp.square(mixed @ centres)
        return self._without_own(mixed, between, z, gamma, centres).astype(z.dtype)

    def _scores(self, name: str, z: Array, gamma: Array, means: Array) -> Array:
        """Log N(z / alpha; mean, noise + a learned variance) for all templates and shifts."""
        own = jnp.exp(_SCALE * self.param(name, nn.initializers.zeros, ()))
        a, s = alpha(expand(gamma, z)), sigma(expand(gamma, z))
        norms = 0.5 * jnp.sum(jnp.square(means), axis=(1, 2, 3))[:, None, None]
        return (correlations(z / a, means) - norms) / (jnp.square(s / a) + own)

    def _without_own(
        self, mixed: Array, between: Array, z: Array, gamma: Array, centres: Array
    ) -> Array:
        """Logits to which Bayes' rule can add the evidence of a value's own z.

        The scores have used it where templates differ; where only a template's own probabilities
        are open it is new. The share of the variance that lies `between` templates is removed:
        exact where either is all.
        """
        total = mixed @ jnp.square(centres) - jnp.square(mixed @ centres)
        share = jnp.clip(between / jnp.maximum(total, _FLOOR), 0.0, 1.0)
        a, s = alpha(expand(gamma, z)), sigma(expand(gamma, z))
        own = 0.5 * jnp.square((z[..., None] - a[..., None] * centres) / s[..., None])
        logits = jnp.log(mixed) + share[..., None] * own
        return logits.reshape(*z.shape[:-1], -1)


def make(
    count: Count = 512,
    embed: Embedding = 8,
    channels: Count = 3,
    levels: Levels = 256,
    num_classes: Whole = 0,
    augment: Whole = 0,
    low: Whole = 0,
    gamma_min: Finite = -13.3,
    gamma_max: Finite = 5.0,
) -> Templates:
    """Templates at every shift of a torus; for videos use `stacked_frames(of=templates())`.

    Needs `prediction='levels'`, and data with few levels: its size grows with their number.

    Args:
        count: number of templates; several times the number of patterns in the data, because they
            start from examples drawn at random.
        embed: size of the time embedding, on which the templates' shares depend.
        channels: outputs per pixel, the channels times the levels.
        levels: number of grey levels of the data.
        num_classes: number of classes to condition on; 0 for none.
        augment: length of the augmentation vector; 0 for none.
        low: channels of the smaller image it is conditioned on; 0 for none.
        gamma_min: gamma at which the time embedding is 0.
        gamma_max: gamma at which it is 1.
    """
    return Templates(
        count, embed, channels, levels, num_classes, augment, low, gamma_min, gamma_max
    )
